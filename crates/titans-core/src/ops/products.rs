//! In how many bits matrix products are made.

/// The type to which operands of a dense memory's matrix products are rounded, where an
/// implementation of its operations offers a choice: GPUs do, and the CPU by
/// [`RoundedHostOps`](crate::RoundedHostOps). Sums, states and everything beside the products are
/// f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Not rounded.
    #[default]
    F32,
    /// Eight bits of mantissa: on every CPU, by AVX512-BF16 or by loops with the same bits, and on
    /// tensor cores; f32 on a GPU that has no bf16.
    Bf16,
    /// Eleven bits and numbers up to 65504; f32 where the device has no f16.
    F16,
}

impl Products {
    /// The least surprise threshold that a dense memory may have, but for zero, which writes
    /// everything: eight of the largest errors of rounding an operand, `2^-8` of it in bf16 and
    /// `2^-11` in f16.
    ///
    /// How surprising a token is, `||M(k) - v|| / ||v||`, is told to no better than the
    /// products: pairs that f32 knows exactly are 0.003 away in bf16, and more where many share
    /// the memory. Under a threshold below that, known pairs would be written again without end.
    ///
    /// At such a threshold a memory that knows its stream soon finds nothing to write. It may open
    /// again: what is told of a token are rounded errors, and
    /// [momentum](crate::UpdateConfig::surprise_threshold) goes on moving the weights after the
    /// last write. Once a pass changes no bit, no later pass over the same stream does.
    pub fn least_surprise_threshold(self) -> f32 {
        match self {
            Self::F32 => 0.0,
            Self::Bf16 => 0.031_25,
            Self::F16 => 0.003_906_25,
        }
    }
}
