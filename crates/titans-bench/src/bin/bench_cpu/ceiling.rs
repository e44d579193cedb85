//! What the machine can do, measured in this process.

use std::time::Instant;

use titans_cpu::{Activation, Mlp, Products};
use titans_needle::status_bytes;

const SIZE: usize = 1024;

/// The best rate of f32 matrix products at 1024^3, in GFLOP/s, with this process's threads.
pub(crate) fn matrix_products() -> f64 {
    let left = vec![0.5_f32; SIZE * SIZE];
    let right = vec![0.25_f32; SIZE * SIZE];
    let mut product = vec![0.0_f32; SIZE * SIZE];
    let best = best_of(|| multiply(&left, &right, &mut product));
    assert_eq!(product[SIZE + 1], SIZE as f32 * 0.125);
    best
}

/// The best rate of products in bf16 at 1024^3, in GFLOP/s, with this process's threads: what a
/// memory of one layer answers is one product.
pub(crate) fn matrix_products_in_bf16() -> f64 {
    let layer = Mlp::new(vec![SIZE, SIZE], Activation::Relu, Products::Bf16);
    let (left, right) = (vec![0.5_f32; SIZE * SIZE], vec![0.25_f32; SIZE * SIZE]);
    let mut product = vec![0.0_f32; SIZE * SIZE];
    let best = best_of(|| layer.read(&[&right], &left, &mut product));
    assert_eq!(product[SIZE + 1], SIZE as f32 * 0.125);
    best
}

fn best_of(mut multiply: impl FnMut()) -> f64 {
    let flops = 2.0 * (SIZE as f64).powi(3);
    let mut best = 0.0_f64;
    for _ in 0..12 {
        let started = Instant::now();
        multiply();
        best = best.max(flops / started.elapsed().as_secs_f64() / 1e9);
    }
    best
}

fn multiply(left: &[f32], right: &[f32], product: &mut [f32]) {
    let size = SIZE as isize;
    // SAFETY: three slices of SIZE * SIZE numbers, row-major, and the product is not read.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            SIZE,
            SIZE,
            SIZE,
            product.as_mut_ptr(),
            1,
            size,
            false,
            left.as_ptr(),
            1,
            size,
            right.as_ptr(),
            1,
            size,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// The most memory that this process has had resident, in MiB; 0 where nobody tells.
pub(crate) fn peak_resident_mib() -> f64 {
    status_bytes("VmHWM").map_or(0.0, |bytes| bytes as f64 / f64::from(1 << 20))
}

/// Seconds that the processor has spent on this process, on all threads, to a hundredth; 0
/// where nobody tells.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold spaces; behind it the fields are numbers, user and system the 12th
    // and 13th.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
