//! From the id of a label to a handle of its bytes.
//!
//! For the other direction use `labels.get_or_intern(&handle)`: a handle derefs to its bytes.

use crate::error::Result;
use crate::labels::{LabelId, Labels};

use crate::intern::pool::Pool;
use crate::intern::pool::handle::Interned;

impl Pool {
    /// Interns the label of an id and returns its handle; `None` if no label has the id.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use mmapcache::Labels;
    /// use mmapcache::intern::Pool;
    ///
    /// let labels = Labels::open(dir.path().join("labels"))?;
    /// let pool = Pool::new();
    /// let outfits = pool.intern("r/outfits");
    /// let id = labels.get_or_intern(&outfits)?;
    /// assert_eq!(pool.intern_label(&labels, id)?, Some(outfits));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Labels::resolve`], and [`ErrorKind::Pool`](crate::ErrorKind::Pool) with the
    /// error of [`try_intern`](Pool::try_intern).
    pub fn intern_label(&self, labels: &Labels, id: LabelId) -> Result<Option<Interned>> {
        let label = labels.resolve(id)?;
        let handle = label.map(|label| self.try_intern(label));
        Ok(handle.transpose()?)
    }
}
