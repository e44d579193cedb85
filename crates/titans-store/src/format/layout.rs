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

/// Features without which a file cannot be understood. Version 1.0 defines none.
pub(crate) const KNOWN_INCOMPAT: u32 = 0;
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

/// The file holds a whole memory. 2 (changes only) and 3 (journal) are reserved.
pub(crate) const KIND_FULL: u8 = 1;
/// The values are exact 32-bit floats. 2 (16-bit floats only) is reserved.
pub(crate) const DTYPE_F32: u8 = 1;

/// Section kind of the header: row 0, and only row 0.
pub(crate) const SECTION_HEADER: u16 = 0;
/// Section kind of a tensor; the n-th one holds the n-th tensor of the header.
pub(crate) const SECTION_TENSOR: u16 = 1;

/// Element code of bytes.
pub(crate) const ELEM_BYTES: u8 = 0;
/// Element code of 32-bit floats.
pub(crate) const ELEM_F32: u8 = 1;

/// Row flag: a reader that does not know the section kind skips it.
pub(crate) const FLAG_OPTIONAL: u32 = 1;

/// Codec: the bytes as they are.
pub(crate) const CODEC_PLAIN: u8 = 0;
/// Codec: every value, as four byte planes in one zstd frame.
pub(crate) const CODEC_DENSE: u8 = 1;
/// Codec: one bit per coordinate, then the set values as byte planes, in one zstd frame.
pub(crate) const CODEC_BITMAP: u8 = 2;
/// Codec: gaps between the set coordinates, their values as byte planes, in one zstd frame.
pub(crate) const CODEC_GAPS: u8 = 3;

const _: () = assert!(PREAMBLE_CHECKED + 4 <= PREAMBLE_LEN);
const _: () = assert!((TRAILER_LEN as u64).is_multiple_of(ALIGN));

/// The smallest multiple of [`ALIGN`] that is not below `offset`.
pub(crate) fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGN)
}
