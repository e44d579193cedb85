//! What the device can do: products of matrices, and copies.

use std::error::Error;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use titans_bench::outln;

/// What the device can do at best.
pub(crate) struct Ceilings {
    /// Bytes per second of a copy, read and written.
    pub(crate) copy: f64,
    /// Operations per second of a large product, for each type of operands that the device has.
    products: Vec<(DType, f64)>,
}

impl Ceilings {
    /// Operations per second of a large product of operands of this type, if the device has it.
    pub(crate) fn product(&self, dtype: DType) -> Option<f64> {
        let found = self.products.iter().find(|(of, _)| *of == dtype);
        found.map(|(_, rate)| *rate)
    }
}

/// Measures the ceilings and prints them.
pub(crate) fn print(device: &Device, quick: bool) -> Result<Ceilings, Box<dyn Error>> {
    let side = if quick { 256 } else { 4096 };
    let mut products = Vec::new();
    for dtype in [DType::F32, DType::BF16] {
        if !device.supports_dtype(dtype) {
            outln!("{dtype:?} product: not on this device");
            continue;
        }
        let matrix: Tensor<2> =
            Tensor::random([side, side], Distribution::Normal(0.0, 1.0), device);
        let matrix = matrix.cast(dtype);
        let seconds = best_seconds(device, quick, || {
            let _product = matrix.clone().matmul(matrix.clone());
            Ok(())
        })?;
        let rate = 2.0 * (side as f64).powi(3) / seconds;
        outln!("{dtype:?} product of {side}^3: {:.3} TFLOP/s", rate / 1e12);
        products.push((dtype, rate));
    }
    let numbers = if quick { 1 << 20 } else { 1 << 28 };
    let tensor: Tensor<1> = Tensor::ones([numbers], device);
    let seconds = best_seconds(device, quick, || {
        let _copy = tensor.clone().mul_scalar(1.5);
        Ok(())
    })?;
    let copy = 2.0 * (numbers * size_of::<f32>()) as f64 / seconds;
    outln!("copy, read and written: {:.1} GB/s", copy / 1e9);
    Ok(Ceilings { copy, products })
}

/// The least of a few runs, after one that compiles and warms up.
pub(crate) fn best_seconds(
    device: &Device,
    quick: bool,
    mut run: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let runs = if quick { 2 } else { 5 };
    let mut best = f64::INFINITY;
    for warm in 0..=runs {
        let begun = Instant::now();
        run()?;
        device.sync()?;
        if warm > 0 {
            best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}
