//! Initial parameters from a seed.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A source of initial parameters that depends on its seed alone.
///
/// The library's own generator is one for the whole process, so what a model begins with
/// would depend on what else runs in it.
#[derive(Clone, Debug)]
pub struct Initial {
    words: ChaCha8Rng,
    device: Device,
}

impl Initial {
    /// Numbers of `seed`, on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            words: ChaCha8Rng::seed_from_u64(seed),
            device: device.clone().inner(),
        }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// A uniform number in (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.words.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Normal numbers with this standard deviation.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f32) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), self.unit());
                deviation * (radius * (std::f64::consts::TAU * angle).cos()) as f32
            })
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// A trainable matrix `[inputs, outputs]` with deviation `gain / sqrt(inputs)`.
    pub fn matrix(&mut self, inputs: usize, outputs: usize, gain: f32) -> Param<Tensor<2>> {
        let deviation = gain / (inputs as f32).sqrt();
        Param::from_tensor(self.normal([inputs, outputs], deviation))
    }

    /// A trainable tensor of one number.
    pub fn constant<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::full(shape, value, &self.device))
    }
}
