//! The number types in which rows may come.

use half::{bf16, f16};

/// A number type in which rows may come: `f32`, [`f16`](struct@f16) or [`bf16`](struct@bf16).
///
/// Sealed: the runtime learns in `f32`, and what is added here has to be converted without a
/// loss.
pub trait Element: sealed::Sealed {}

impl Element for f32 {}
impl Element for f16 {}
impl Element for bf16 {}

/// Numbers of one of the types.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Numbers<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }
}

mod sealed {
    use super::{Numbers, bf16, f16};

    pub trait Sealed: Copy {
        fn numbers(numbers: &[Self]) -> Numbers<'_>;
    }

    impl Sealed for f32 {
        fn numbers(numbers: &[Self]) -> Numbers<'_> {
            Numbers::F32(numbers)
        }
    }

    impl Sealed for f16 {
        fn numbers(numbers: &[Self]) -> Numbers<'_> {
            Numbers::F16(numbers)
        }
    }

    impl Sealed for bf16 {
        fn numbers(numbers: &[Self]) -> Numbers<'_> {
            Numbers::Bf16(numbers)
        }
    }
}
