//! In how many bits matrix products are made.

/// The type to which operands of a dense memory's matrix products are rounded, where an
/// implementation of its operations offers a choice: GPUs do. Sums, states and everything beside
/// the products are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Not rounded.
    #[default]
    F32,
    /// Eight bits of mantissa, on tensor cores; f32 where the device has no bf16.
    Bf16,
    /// Eleven bits and numbers up to 65504; f32 where the device has no f16.
    F16,
}
