//! The messages that the server sends by itself, as the connection reads them.
//!
//! The crate `redis` calls [`Pushes::send`] where it reads the socket, before it hands on any reply that
//! came later. It must not block. May call `state`.

use std::sync::{Arc, Weak};

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use crate::state::Shared;

pub(crate) struct Pushes {
    shared: Weak<Shared>,
    link: u64,
    disconnected: Arc<Notify>,
}

impl Pushes {
    pub(crate) fn new(shared: &Arc<Shared>, link: u64, disconnected: Arc<Notify>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            link,
            disconnected,
        }
    }
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        let shared = self.shared.upgrade().ok_or(SendError)?;
        match push.kind {
            PushKind::Invalidate => match keys(push.data) {
                Some(keys) => shared.changed(keys),
                None => shared.everything_changed(),
            },
            PushKind::Disconnection => {
                shared.disconnected(self.link, "the connection was lost");
                self.disconnected.notify_one();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns the keys that an invalidation names; `None` if it means everything, as a null does, and as
/// anything counts that is not a list of keys.
fn keys(data: Vec<Value>) -> Option<Vec<Vec<u8>>> {
    let [Value::Array(keys)] = <[Value; 1]>::try_from(data).ok()? else {
        return None;
    };
    let bytes = |key| match key {
        Value::BulkString(key) => Some(key),
        Value::SimpleString(key) => Some(key.into_bytes()),
        _ => None,
    };
    keys.into_iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_means_everything() {
        assert_eq!(keys(vec![Value::Nil]), None);
        assert_eq!(keys(vec![]), None);
        assert_eq!(keys(vec![Value::Array(vec![Value::Int(1)])]), None);
        let list = Value::Array(vec![Value::BulkString(b"a".to_vec())]);
        assert_eq!(keys(vec![list]), Some(vec![b"a".to_vec()]));
    }
}
