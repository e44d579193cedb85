//! Matrix products of operands rounded to bf16, with the same bits on every machine.
//!
//! What they are is what the instruction `vdpbf16ps` of AVX512-BF16 makes of them. Both factors are
//! rounded to bf16 (to nearest, ties to even; numbers under 2^-126 become zero). Terms go in
//! pairs: two terms of a sum that follow each other, the second added first,
//!
//! ```text
//! sum = (sum + x_2 y_2) + x_1 y_1       each rounded once, as a fused multiply-add
//! ```
//!
//! and what is under 2^-126 after rounding becomes zero. A number of a product is one chain of
//! such pairs per [`CHAIN`](chain::CHAIN) terms, in their order, whatever stands beside it. Where
//! the machine has the instructions they do it (`native`), or else loops do (`portable`), with the
//! same bits.

mod chain;
#[cfg(target_arch = "x86_64")]
mod native;
mod portable;
#[cfg(test)]
mod tests;

use crate::matrix::Matrix;
pub(crate) use chain::Change;
#[cfg(target_arch = "x86_64")]
pub use native::{Found, Screen};

/// Whether this machine has the instructions, and may use them.
pub(crate) fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return native::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Changes the output by `left @ right`.
///
/// # Panics
/// If the shapes do not fit, or neither rows nor columns of a factor are contiguous.
pub(crate) fn product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], change: Change) {
    #[cfg(target_arch = "x86_64")]
    if native::is_available() {
        return native::product(left, right, output, change);
    }
    portable::product(left, right, output, change);
}

/// A right factor that many products share: it is laid out once.
pub(crate) enum RightFactor {
    #[cfg(target_arch = "x86_64")]
    Native(native::RightFactor),
    Portable(portable::RightFactor),
}

impl RightFactor {
    /// # Panics
    /// As [`product`]; and if the sums of its products are longer than one chain.
    pub(crate) fn new(right: Matrix<'_>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if native::is_available() {
            return Self::Native(native::RightFactor::new(right));
        }
        Self::Portable(portable::RightFactor::new(right))
    }

    /// Changes the output by `left @ this`.
    ///
    /// # Panics
    /// As [`product`].
    pub(crate) fn multiplied(&self, left: Matrix<'_>, output: &mut [f32], change: Change) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Native(right) => right.multiplied(left, output, change),
            Self::Portable(right) => right.multiplied(left, output, change),
        }
    }
}
