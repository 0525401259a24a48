//! The listing of labels, in the order of their ids.

use std::sync::Arc;

use mmapcache::iter::LabelIter;
use self_cell::self_cell;

use crate::listing::{Item, Source};

self_cell!(
    struct LabelsOf {
        owner: Arc<mmapcache::Labels>,
        #[not_covariant]
        dependent: LabelIter,
    }
);

struct LabelSource(LabelsOf);

/// Begins a listing.
pub(super) fn list(labels: Arc<mmapcache::Labels>) -> mmapcache::Result<impl Source> {
    LabelsOf::try_new(labels, |labels| labels.iter()).map(LabelSource)
}

impl Source for LabelSource {
    fn next(&mut self) -> Option<mmapcache::Result<Item>> {
        let next = self.0.with_dependent_mut(|_, labels| labels.next());
        next.map(|item| item.map(|(id, label)| Item::Label(id.number(), label)))
    }
}
