//! Gives an entry another deadline: in its record, or apart from it.
//!
//! May call its siblings and `engine`.

use crate::engine::Writer;
use crate::engine::handle::Handle;
use crate::engine::write::put::Terms;
use crate::error::Result;
use crate::format::internal::StoredDeadline;
use crate::format::record::Traits;

use crate::cache::deadlines::{are_apart, forget, store};
use crate::cache::found::Found;

/// Gives an entry that was found under the lock another deadline and other traits; its value and version
/// stay. The deadline of a long value is stored apart, with the traits that it has.
pub(super) fn set(
    writer: &mut Writer<'_>,
    handle: &Handle,
    key: &[u8],
    found: Found,
    (deadline, traits): (Option<u64>, Traits),
) -> Result<()> {
    let mut stored = found.value;
    if are_apart(key, stored.len()) && traits == found.traits {
        let apart = StoredDeadline {
            version: found.version,
            deadline,
        };
        return store(writer, handle, key, apart);
    }
    found.extension.append_to(&mut stored);
    let terms = Terms {
        version: Some(found.version),
        deadline,
        traits,
    };
    writer.put_with(key, &stored, terms)?;
    // It has the version that a deadline stored before has, too.
    if are_apart(key, stored.len()) {
        forget(writer, handle, key)?;
    }
    Ok(())
}
