//! Scans a segment with the scanner of the engine, which finds the next record after damage.
//!
//! Only this file of the module maps a file.

use std::sync::Arc;

use crate::error::Result;
use crate::format::record::Variant;
use crate::heap::ScanItem;
use crate::heap::segment::Segment;

use crate::inspect::index_state::HeapAddress;
use crate::inspect::record::Record;

/// Calls `visit` with the records of a segment up to `end` (in units of 8 bytes), until it returns
/// false. Returns whether the scan reached the end.
pub(super) fn run(
    segment: &Segment,
    variant: Variant,
    end: u32,
    mut visit: impl FnMut(Record) -> bool,
) -> Result<bool> {
    let path = Arc::from(segment.file().path());
    let mut scanner = segment.scan(0, end);
    let mut key = Vec::new();
    while let Some(item) = scanner.next_item_reading(0, &mut key)? {
        let record = match item {
            ScanItem::Record(address, header) => Record::scanned(
                &path,
                address.into(),
                variant,
                header,
                std::mem::take(&mut key),
            ),
            ScanItem::Corrupt { from, to } => {
                let address = HeapAddress::new(segment.number(), u64::from(from) * 8);
                Record::damaged(&path, address, variant, u64::from(to) * 8)
            }
        };
        key.clear();
        if !visit(record) {
            return Ok(false);
        }
    }
    Ok(!scanner.gave_up())
}
