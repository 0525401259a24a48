//! The common part of all static headers: a magic, a version, and a checksum over the whole header.
//!
//! Calls no other module; independent of the fields that follow.

use bytemuck::Pod;

/// The first sixteen bytes of each file, at the same offsets in all of them.
pub(crate) mod at {
    pub(crate) const MAGIC: std::ops::Range<usize> = 0..8;
    pub(crate) const VERSION: std::ops::Range<usize> = 8..12;
    pub(crate) const CRC: std::ops::Range<usize> = 12..16;
}

/// A header that never changes after its file was created.
pub(crate) trait SealedHeader: Pod {
    const MAGIC: [u8; 8];
    /// The version of this kind of file: the one that this crate writes, and the only one that it reads.
    const VERSION: u32;

    /// Returns the feature flags that this crate does not have.
    fn unknown_flags(&self) -> u32 {
        0
    }
}

/// Why bytes are not a header of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Short,
    Magic,
    Version(u32),
    Checksum,
    /// A newer release set these flags, and this crate cannot tell what they change.
    Flags(u32),
}

/// Fills in magic, version and checksum.
pub(crate) fn seal<T: SealedHeader>(header: T) -> Vec<u8> {
    let mut bytes = bytemuck::bytes_of(&header).to_vec();
    bytes[at::MAGIC].copy_from_slice(&T::MAGIC);
    bytes[at::VERSION].copy_from_slice(&T::VERSION.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[at::CRC].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a header, and fails if its checksum does not match.
pub(crate) fn open<T: SealedHeader>(bytes: &[u8]) -> Result<T, HeaderError> {
    open_version(bytes, T::VERSION)
}

/// As [`open`], for a header of another version, whose fields are the same.
pub(crate) fn open_version<T: SealedHeader>(bytes: &[u8], known: u32) -> Result<T, HeaderError> {
    let bytes = bytes.get(..size_of::<T>()).ok_or(HeaderError::Short)?;
    if bytes[at::MAGIC] != T::MAGIC {
        return Err(HeaderError::Magic);
    }
    let version = u32_at(bytes, at::VERSION);
    if version != known {
        // If the header verifies with this crate's version in it, only the version is corrupt.
        let mut ours = bytes.to_vec();
        ours[at::VERSION].copy_from_slice(&known.to_le_bytes());
        // And no release ever wrote a 0 there: a power loss left a part of the header.
        let crc = u32_at(bytes, at::CRC);
        let is_corrupt = crc == checksum(&ours) || version == 0 && crc != checksum(bytes);
        return Err(if is_corrupt {
            HeaderError::Checksum
        } else {
            HeaderError::Version(version)
        });
    }
    if u32_at(bytes, at::CRC) != checksum(bytes) {
        return Err(HeaderError::Checksum);
    }
    let header: T = bytemuck::pod_read_unaligned(bytes);
    match header.unknown_flags() {
        0 => Ok(header),
        flags => Err(HeaderError::Flags(flags)),
    }
}

/// Returns the CRC-32 of the header without the field of the CRC itself.
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
