//! From the id of a label, which stays, to a handle, which is fast.
//!
//! The other way there is nothing to do: a handle is bytes, so `labels.get_or_insert(&handle)`
//! gives its id.

use crate::error::{Error, Result};
use crate::labels::{LabelId, Labels};

use crate::intern::pool::Pool;
use crate::intern::pool::handle::Interned;

impl Pool {
    /// The handle of the label that has an id; nothing where nobody has it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache::{Labels, Pool};
    ///
    /// let labels = Labels::open(dir.path().join("labels"))?;
    /// let pool = Pool::new();
    /// let outfits = pool.intern("r/outfits");
    /// let id = labels.get_or_insert(&outfits)?;
    /// assert_eq!(pool.intern_label(&labels, id)?, Some(outfits));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Labels::get_by_id`], and [`Error::Pool`] where it does not fit.
    pub fn intern_label(&self, labels: &Labels, id: LabelId) -> Result<Option<Interned>> {
        let label = labels.get_by_id(id)?;
        let handle = label.map(|label| self.try_intern(label));
        handle.transpose().map_err(Error::Pool)
    }
}
