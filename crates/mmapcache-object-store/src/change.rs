//! [`Change`]: objects that a request changes, whose facts end when it does.
//!
//! May call `reading`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;

use crate::reading::Reading;

/// Ends the facts about objects when it is dropped: after the request, and also after one that failed or
/// whose caller gave up waiting, for the store may have changed them all the same.
#[derive(Debug)]
pub(crate) struct Change {
    reading: Arc<Reading>,
    /// How often each object is being changed.
    objects: Mutex<BTreeMap<Path, u64>>,
}

impl Change {
    pub(crate) fn new<'p>(
        reading: &Arc<Reading>,
        objects: impl IntoIterator<Item = &'p Path>,
    ) -> Self {
        let change = Self {
            reading: Arc::clone(reading),
            objects: Mutex::default(),
        };
        objects.into_iter().for_each(|object| change.begin(object));
        change
    }

    /// Adds an object whose change begins.
    pub(crate) fn begin(&self, object: &Path) {
        *self.objects().entry(object.clone()).or_default() += 1;
    }

    /// Ends the facts about an object that was changed.
    pub(crate) fn end(&self, object: &Path) {
        let mut objects = self.objects();
        match objects.get_mut(object) {
            Some(changes @ 2..) => *changes -= 1,
            _ => drop(objects.remove(object)),
        }
        drop(objects);
        self.reading.forget(object);
    }

    /// Ends the facts about all objects whose changes have begun and not ended: one of them failed.
    pub(crate) fn forget_all(&self) {
        let objects: Vec<Path> = self.objects().keys().cloned().collect();
        for object in objects {
            self.reading.forget(&object);
        }
    }

    /// A thread that panics with the lock leaves a whole map.
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Path, u64>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.forget_all();
    }
}
