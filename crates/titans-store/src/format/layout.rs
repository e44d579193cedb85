//! Sizes, magic numbers and codes of format version 1: the only executable copy.
//!
//! `docs/titanmem-format.md` says the same in prose. All integers are little-endian.

/// First bytes of every file. The high bit, line ends and control-Z show transfers that
/// mangle text.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'T', b'T', b'M', b'\r', b'\n', 0x1a, b'\n'];
/// Last bytes of the trailer that are not reserved.
pub(crate) const END_MAGIC: [u8; 8] = [0x89, b'M', b'T', b'T', b'\r', b'\n', 0x1a, b'\n'];

/// A reader refuses any other major version.
pub(crate) const MAJOR: u16 = 1;
/// A reader accepts any minor version of its major one.
pub(crate) const MINOR: u16 = 0;

/// Feature: every section is encrypted with the key of its owner.
pub(crate) const INCOMPAT_ENCRYPTED: u32 = 1;
/// Features without which a file cannot be understood.
pub(crate) const KNOWN_INCOMPAT: u32 = INCOMPAT_ENCRYPTED;
/// Features without which a file can be read but not followed by another. None so far.
pub(crate) const KNOWN_RO_COMPAT: u32 = 0;

/// Bytes of the preamble.
pub(crate) const PREAMBLE_LEN: usize = 96;
/// Bytes of the preamble that its checksum covers; the checksum follows them.
pub(crate) const PREAMBLE_CHECKED: usize = 72;
/// Bytes of one row of the section table.
pub(crate) const ROW_LEN: usize = 48;
/// Bytes of the trailer.
pub(crate) const TRAILER_LEN: usize = 64;
/// Every section, and the trailer, begins at a multiple of this.
pub(crate) const ALIGN: u64 = 64;

/// The file holds a whole memory.
pub(crate) const KIND_FULL: u8 = 1;
/// The file holds what changed since another one; it lies in a journal.
pub(crate) const KIND_DELTA: u8 = 2;
/// The file is a journal: this preamble, then records.
pub(crate) const KIND_JOURNAL: u8 = 3;

/// All values are the ones the memory had.
pub(crate) const DTYPE_EXACT: u8 = 1;
/// All values were rounded to 16-bit floats.
pub(crate) const DTYPE_COMPACT: u8 = 2;
/// Momenta were rounded to 16-bit floats, the other values are the ones the memory had.
pub(crate) const DTYPE_EXACT_WEIGHTS: u8 = 3;

/// Section kind of the header: row 0, and only row 0.
pub(crate) const SECTION_HEADER: u16 = 0;
/// Section kind of a tensor; the n-th one holds the n-th tensor of the header.
pub(crate) const SECTION_TENSOR: u16 = 1;

/// Element code of bytes.
pub(crate) const ELEM_BYTES: u8 = 0;
/// Element code of 32-bit floats.
pub(crate) const ELEM_F32: u8 = 1;
/// Element code of 16-bit floats times a power of two.
pub(crate) const ELEM_F16: u8 = 2;
/// Element code of 32-bit floats, each split into a 16-bit float and what is missing.
pub(crate) const ELEM_SPLIT: u8 = 3;

/// Row flag: a reader that does not know the section kind skips it.
pub(crate) const FLAG_OPTIONAL: u32 = 1;

/// Codec: the bytes as they are.
pub(crate) const CODEC_PLAIN: u8 = 0;
/// Codec: every value, in one zstd frame.
pub(crate) const CODEC_DENSE: u8 = 1;
/// Codec: one bit per coordinate, then the values of those, in one zstd frame.
pub(crate) const CODEC_BITMAP: u8 = 2;
/// Codec: gaps between coordinates, then the values of those, in one zstd frame.
pub(crate) const CODEC_GAPS: u8 = 3;
/// Codec: the index of an earlier tensor with the same coordinates, then the values, in one
/// zstd frame.
pub(crate) const CODEC_SHARED: u8 = 4;

/// Bytes of a journal before its first record: the preamble and the digest of the
/// generation that the first record follows.
pub(crate) const JOURNAL_HEAD_LEN: usize = PREAMBLE_LEN + 32;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEAD_LEN: usize = 32;
/// Every record begins at a multiple of this.
pub(crate) const RECORD_ALIGN: usize = 8;

const _: () = assert!(PREAMBLE_CHECKED + 4 <= PREAMBLE_LEN);
const _: () = assert!((TRAILER_LEN as u64).is_multiple_of(ALIGN));

/// The smallest multiple of [`ALIGN`] that is not below `offset`.
pub(crate) fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGN)
}
