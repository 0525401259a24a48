//! The kinds of corruption that readers, writers, repair and the inspector report.
//!
//! Calls nothing. Code that finds a corruption names it here, so that programs and tests can tell one
//! from another without comparing texts.

use std::fmt;

macro_rules! corruptions {
    ($($name:ident = $text:literal,)*) => {
        /// A value in a file that this crate never writes, or that contradicts another one.
        ///
        /// In [`ErrorKind::Corrupted`](crate::ErrorKind::Corrupted) and in [`Problem`](crate::Problem).
        /// `Display` writes the phrase of [`as_str`](Self::as_str).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Corruption {
            $(
                #[doc = concat!("The file has ", $text, ".")]
                $name,
            )*
        }

        impl Corruption {
            /// Returns a phrase for it, without the place: "a truncated header".
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

corruptions! {
    // Headers of all files.
    EmptyFile = "an empty file",
    HeaderTruncated = "a truncated header",
    HeaderMagic = "the magic of another kind of file",
    HeaderVersion = "a format version that this crate does not read",
    HeaderChecksum = "a header whose checksum does not match",
    HeaderFlags = "feature flags that this crate does not know",
    HeaderUnusedBytes = "bytes that are not zero where the header has no field",
    HashKind = "an unknown hash kind",
    HashSeed = "an unknown seed of the hash",
    HashCheck = "a check value that the hash function does not return",
    OtherCacheId = "the id of another cache",
    OtherHeapId = "the id of another heap than the index's",
    OtherGeneration = "another generation than the index's",
    UnreadableFile = "a file that cannot be read",
    NotARegularFile = "something other than a regular file",
    // The index's header.
    GenerationNumber = "generation number zero",
    RegionSlots = "an impossible number of slots per region",
    DirectoryBits = "an impossible size of the directory",
    MaxSegmentBytes = "an impossible largest segment",
    RecordVariant = "an unknown layout of records",
    Layout = "sizes that no segment of the heap confirms",
    DirectoryDepth = "a directory deeper than it has room for",
    DirectoryTruncated = "a truncated directory",
    RegionCount = "an impossible number of regions",
    EntryCount = "a wrong number of entries",
    TombstoneCount = "a wrong number of tombstones",
    HighWaterMark = "a highest slot beyond the last one",
    LiveBytes = "a wrong number of live bytes",
    RosterLength = "an impossible length or free list of the roster",
    FreeRegion = "a free region beyond the last one",
    OldestSegment = "an impossible number of the oldest segment",
    SyncErrorMark = "an impossible mark of a failed sync",
    LastVersion = "an impossible last version",
    ReservedIds = "an impossible number of reserved ids",
    RedoRecord = "a redo record that this crate never writes",
    RedoRegion = "a redo record that names a region that is not ready",
    RedoSlot = "a redo record that names a slot of another key",
    RedoHeapRecord = "a redo record whose heap record does not verify",
    ReservedBeforeTail = "a reserved end of the heap before its committed end",
    HeapEndsApart = "a committed end and a reserved end in different segments",
    HeapEnd = "a committed end outside the records of its segment",
    DirtyFromElsewhere = "files that were dirty at another boot, or copied while they were written",
    InconsistentCopy = "copied or restored files that are not consistent",
    // Directory and regions.
    DirectoryEntry = "a directory entry that leads to no region",
    DirectoryMismatch = "a directory entry and a region that disagree",
    RegionBeyondEnd = "a region beyond the file's end",
    RegionState = "an unknown state of a region",
    RegionTag = "a generation tag of a region that was never given",
    RegionPrefix = "a region for hashes that the directory has no place for",
    RegionCounts = "counts of a region that differ from its control bytes",
    RegionOverfull = "more entries than a region has slots",
    ControlByte = "an unknown control byte",
    ControlWithoutEntry = "a full control byte without an entry",
    // Slots.
    EntryWithoutControl = "an entry whose control byte is not full",
    EntryHash = "an entry with the hash of another key",
    EntryInOtherRegion = "an entry in the region of other hashes",
    EntryUnreachable = "an entry that no lookup reaches",
    EntryRepeated = "a key with two entries",
    EntryContradicts = "an entry that contradicts itself",
    EntryRecord = "an entry whose record does not verify",
    EntryVersion = "an id that differs from the record's",
    EntryDeleted = "a link with the mark of a deletion",
    LinkToHeader = "a link into the header of a segment",
    LinkToMissingSegment = "a link to a missing segment",
    LinkBeyondEnd = "a link beyond the end of its segment",
    // Roster.
    RosterMissing = "a missing roster",
    RosterOfOtherGeneration = "a roster of another generation",
    RosterTruncated = "a truncated roster",
    PositionBeyondEnd = "a roster position beyond the roster's end",
    PositionWithoutEntry = "a roster position that leads to no entry",
    PositionOfOtherEntry = "a roster position that leads to an entry with another position",
    PositionMismatch = "a slot and a roster position that disagree",
    EntryUnlisted = "an entry without a roster position",
    IdNotReserved = "an id that was never reserved",
    IdAssignedTwice = "an id that is already assigned",
    IdsInMutableCache = "ids in a cache whose entries may change",
    // Heap.
    SegmentHeader = "a segment whose header does not verify",
    SegmentNumber = "another segment number than the file's name has",
    SegmentVariant = "another layout of records than the index's",
    SegmentTruncated = "a truncated segment",
    SegmentMissing = "a missing segment between the oldest and the last",
    OldestSegmentMissing = "a missing oldest segment",
    LastSegmentMissing = "a missing last segment",
    SegmentBeforeOldest = "a segment before the oldest one",
    HeapUnidentified = "no segment whose header says which heap it belongs to",
    RecordsAfterTail = "valid records after the committed end of the heap",
    BytesAfterTail = "bytes that are not zero after the committed end of the heap",
    Record = "a record that does not verify",
    RecordBytes = "bytes that are no valid record",
    RecordPlace = "a place where no record begins",
    RecordTruncated = "a record that ends after its file",
    RecordKind = "an unknown kind of record",
    RecordWithoutKey = "a record without a key",
    RecordUnusedBytes = "bytes that are not zero where the record has no field",
    RecordChecksum = "a record whose checksum does not match",
    RecordPadding = "bytes that are not zero in the padding after a record",
    IndexMissing = "a file of a cache whose index is missing (repair the cache, or remove its files)",
}
