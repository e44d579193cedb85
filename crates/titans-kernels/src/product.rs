//! Products of matrices, many memories at once, by CubeK.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

/// Which operand is given with its last two dimensions exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transposed {
    Neither,
    Left,
    Right,
}

/// `out = left @ right`, summed in f32.
///
/// Nothing is tuned by timing and f32 stays f32 (the library's own choice on CUDA is TF32,
/// with ten bits), so that a result depends on the shapes and the numbers alone: not on the
/// process, and not on how many matrices are multiplied beside each other.
///
/// # Shapes
/// - `left`: `[.., rows, inner]`, `right`: `[.., inner, columns]`, before a transposition;
///   a leading dimension of one is repeated
/// - `out`: `[.., rows, columns]`, f32
///
/// # Panics
/// If not even the plain kernel takes the operands: their shapes disagree.
pub(crate) fn product(
    left: CubeTensor,
    right: CubeTensor,
    transposed: Transposed,
    out: &CubeTensor,
) {
    let element = element(left.dtype);
    let rank = out.meta.shape().num_dims();
    let bind = |tensor: CubeTensor, is_transposed: bool| {
        let mut binding = InputBinding::new(tensor.binding(), element);
        if is_transposed {
            binding.swap_dims(rank - 2, rank - 1);
        }
        binding
    };
    let exact = left.dtype == DType::F32;
    let left = bind(left, transposed == Transposed::Left);
    let right = bind(right, transposed == Transposed::Right);
    let run = |strategy: Strategy| {
        let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: element,
            rhs: element,
            out: f32::elem_type_native(),
        });
        launch_ref(
            &strategy,
            &out.client,
            left.clone(),
            right.clone(),
            out.clone().binding(),
            &mut elements,
        )
    };
    let first = match exact {
        true => Strategy::MultiLevel(multi_level::Strategy::SimpleUnit(Default::default())),
        false => Strategy::Auto,
    };
    run(first)
        .or_else(|_| run(Strategy::MultiLevel(multi_level::Strategy::Naive)))
        .expect("operands of one shape and type");
}

/// The element type of a kernel.
pub(crate) fn element(dtype: DType) -> ElemType {
    match dtype {
        DType::BF16 => half::bf16::elem_type_native(),
        DType::F16 => half::f16::elem_type_native(),
        _ => f32::elem_type_native(),
    }
}
