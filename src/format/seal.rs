//! What all static headers share: a magic, a version, and a checksum over the whole.
//!
//! Does not know which fields follow.

use bytemuck::Pod;

use crate::format::VERSION;

/// The first sixteen bytes of each file, at the same offsets in all of them.
pub(crate) mod at {
    pub(crate) const MAGIC: std::ops::Range<usize> = 0..8;
    pub(crate) const VERSION: std::ops::Range<usize> = 8..12;
    pub(crate) const CRC: std::ops::Range<usize> = 12..16;
}

/// A header that never changes after its file was made.
pub(crate) trait Sealed: Pod {
    const MAGIC: [u8; 8];

    /// The feature flags that this crate does not know.
    fn unknown_flags(&self) -> u32 {
        0
    }
}

/// Why bytes are not a header of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Short,
    Magic,
    Version(u32),
    Checksum,
    /// A newer release gave the file these features: what they change of the rest nobody knows here.
    Flags(u32),
}

/// Fills in magic, version and checksum.
pub(crate) fn seal<T: Sealed>(header: T) -> Vec<u8> {
    let mut bytes = bytemuck::bytes_of(&header).to_vec();
    bytes[at::MAGIC].copy_from_slice(&T::MAGIC);
    bytes[at::VERSION].copy_from_slice(&VERSION.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[at::CRC].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a header and believes nothing that its checksum does not cover.
pub(crate) fn open<T: Sealed>(bytes: &[u8]) -> Result<T, Fault> {
    let bytes = bytes.get(..size_of::<T>()).ok_or(Fault::Short)?;
    if bytes[at::MAGIC] != T::MAGIC {
        return Err(Fault::Magic);
    }
    let version = u32_at(bytes, at::VERSION);
    if version != VERSION {
        // Were all else right with this version's number in its place, the number is what is wrong.
        let mut ours = bytes.to_vec();
        ours[at::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        // And nobody ever wrote a 0 there: a power loss left a part of the header.
        let crc = u32_at(bytes, at::CRC);
        let damaged = crc == checksum(&ours) || version == 0 && crc != checksum(bytes);
        return Err(if damaged {
            Fault::Checksum
        } else {
            Fault::Version(version)
        });
    }
    if u32_at(bytes, at::CRC) != checksum(bytes) {
        return Err(Fault::Checksum);
    }
    let header: T = bytemuck::pod_read_unaligned(bytes);
    match header.unknown_flags() {
        0 => Ok(header),
        flags => Err(Fault::Flags(flags)),
    }
}

/// CRC-32 over the header, its own field left out.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..at::CRC.start]);
    crc.update(&bytes[at::CRC.end..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], range: std::ops::Range<usize>) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[range]);
    u32::from_le_bytes(four)
}
