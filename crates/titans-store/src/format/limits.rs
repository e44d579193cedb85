//! Every bound that a reader enforces, each with its reason.

use crate::error::StoreError;

/// What a host accepts from a file. The format has tighter, fixed bounds beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest file in bytes. Default 256 MiB: a file is read whole into memory.
    pub max_file_bytes: u64,
    /// Most values of one role in all tensors together. Default 16 Mi: bounds what a small
    /// file can decompress to, 64 MiB for weights and as much for momentum.
    pub max_params: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::standard()
    }
}

impl Limits {
    /// What [`Limits::default`] is, for constants.
    pub const fn standard() -> Self {
        Self {
            max_file_bytes: 256 << 20,
            max_params: 16 << 20,
        }
    }

    /// Limits for files of strangers: 64 MiB and 4 Mi values, four times what a memory of
    /// the usual size needs.
    pub const fn untrusted() -> Self {
        Self {
            max_file_bytes: 64 << 20,
            max_params: 4 << 20,
        }
    }

    /// The same limits with another largest file.
    pub fn with_max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// The same limits with another largest number of values.
    pub fn with_max_params(mut self, values: u64) -> Self {
        self.max_params = values;
        self
    }
}

/// Header bytes. It is parsed before anything is known of the file's size.
pub(crate) const MAX_HEADER_LEN: u64 = 64 << 10;
/// Tensors of a memory. A deep memory has a dozen.
pub(crate) const MAX_TENSORS: u64 = 64;
/// Rows of the section table: the header, the tensors, and as many optional ones.
pub(crate) const MAX_SECTIONS: u64 = 1 + 2 * MAX_TENSORS;
/// Dimensions of a tensor.
pub(crate) const MAX_RANK: u64 = 8;
/// Nesting of the header. Its own depth is 4; deeper maps can only be unknown keys.
pub(crate) const MAX_DEPTH: usize = 16;
/// Values of one tensor: coordinates are 32-bit numbers.
pub(crate) const MAX_TENSOR_VALUES: u64 = u32::MAX as u64;
/// Bytes of any string in the header.
pub(crate) const MAX_STRING: u64 = 256;
/// Window of a zstd frame in bytes; level 1 needs 512 KiB.
pub(crate) const MAX_WINDOW: u64 = 1 << 23;

/// `Ok` when `found` is at most `limit`.
pub(crate) fn at_most(field: &'static str, found: u64, limit: u64) -> Result<(), StoreError> {
    if found > limit {
        return Err(StoreError::Limit {
            field,
            limit,
            found,
        });
    }
    Ok(())
}
