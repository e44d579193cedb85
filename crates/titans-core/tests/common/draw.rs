//! Random numbers that depend on a seed and on nothing else.
//!
//! The library's own generator is one for the whole process, so tests that run beside each
//! other would take each other's numbers. This one belongs to the thread of the test.

use std::cell::RefCell;

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

thread_local! {
    static WORDS: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0));
}

/// Starts the numbers of this thread again.
pub(crate) fn seed(seed: u64) {
    WORDS.with_borrow_mut(|words| *words = ChaCha8Rng::seed_from_u64(seed));
}

/// The next numbers of this thread.
pub(crate) fn sample<const D: usize>(shape: [usize; D], distribution: Distribution) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = WORDS.with_borrow_mut(|words| {
        // In (0, 1], so that its logarithm is finite.
        let mut unit = || ((words.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        let mut next = || match distribution {
            Distribution::Uniform(low, high) => low + (high - low) * unit(),
            Distribution::Normal(mean, deviation) => {
                let (radius, angle) = ((-2.0 * unit().ln()).sqrt(), unit());
                mean + deviation * radius * (std::f64::consts::TAU * angle).cos()
            }
            other => panic!("no test draws from {other:?}"),
        };
        (0..count).map(|_| next() as f32).collect()
    });
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}
