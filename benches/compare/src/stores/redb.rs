//! redb: a transaction for each call. In one process they become durable when the store is closed;
//! shared by several writing processes, each transaction is durable, because redb requires that.

use std::path::Path;
use std::sync::Arc;

use redb::{
    Builder, ConcurrencyMode, Database, Durability, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};

use crate::keys::Batch;
use crate::store::{Access, Another, Result, Sharing, Store};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

#[derive(Clone)]
pub(crate) struct Handle<const SHARED: bool>(Arc<Database>);

/// For one process.
pub(crate) type Redb = Handle<false>;
/// For many processes, all of which may write.
pub(crate) type Shared = Handle<true>;

impl<const SHARED: bool> Handle<SHARED> {
    fn write(&self) -> Result<WriteTransaction> {
        let mut txn = self.0.begin_write()?;
        if !SHARED {
            txn.set_durability(Durability::None)?;
        }
        Ok(txn)
    }
}

impl<const SHARED: bool> Store for Handle<SHARED> {
    const SHARING: Sharing = if SHARED {
        Sharing::Beside
    } else {
        Sharing::Alone
    };

    fn open(dir: &Path, access: Access, _entries: u64) -> Result<Self> {
        let mut builder = Builder::new();
        if SHARED {
            builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
        }
        let store = Self(Arc::new(builder.create(dir.join("redb"))?));
        if access == Access::Create {
            let txn = store.write()?;
            txn.open_table(TABLE)?;
            txn.commit()?;
        }
        Ok(store)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let txn = self.write()?;
        txn.open_table(TABLE)?.insert(key, value)?;
        Ok(txn.commit()?)
    }

    fn put_many(&mut self, batch: &Batch) -> Result<()> {
        let txn = self.write()?;
        let mut table = txn.open_table(TABLE)?;
        for (key, value) in batch.items() {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn get(&mut self, key: &[u8], mut see: impl FnMut(&[u8])) -> Result<bool> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let value = table.get(key)?;
        Ok(value.map(|value| see(value.value())).is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        self.get(key, |_| {})
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let txn = self.write()?;
        txn.open_table(TABLE)?.remove(key)?;
        Ok(txn.commit()?)
    }

    fn list(&mut self, mut see: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut count = 0;
        for item in table.iter()? {
            let (key, value) = item?;
            see(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }

    fn another(&mut self) -> Result<Another<Self>> {
        let other = self.clone();
        Ok(Box::new(|| Ok(other)))
    }

    fn sync(&mut self) -> Result<()> {
        // Makes the transactions before it durable, too.
        let mut txn = self.0.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        Ok(txn.commit()?)
    }

    fn close(mut self) -> Result<()> {
        // Transactions without a later durable one would be lost.
        self.sync()
    }
}
