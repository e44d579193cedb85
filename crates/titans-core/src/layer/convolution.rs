//! Causal depthwise convolution.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Initial, tokens_of};

/// `y_t = sum_j taps_j * x_(t-j)`, a tap per channel and step back.
#[derive(Module, Debug)]
pub struct CausalConvolution {
    /// `[kernel, channels]`; row j looks j tokens back.
    taps: Param<Tensor<2>>,
}

impl CausalConvolution {
    /// A convolution that begins near the identity: tap 0 is one, the others are small.
    pub fn new(kernel: usize, channels: usize, initial: &mut Initial) -> Self {
        let noise = initial.normal([kernel, channels], 0.2);
        let first = Tensor::ones([1, channels], &initial.device());
        let taps = match kernel {
            1 => first,
            _ => Tensor::cat(vec![first, noise.narrow(0, 1, kernel - 1)], 0),
        };
        Self {
            taps: Param::from_tensor(taps),
        }
    }

    /// A convolution with these taps, `[kernel, channels]`.
    pub fn from_taps(taps: Tensor<2>) -> Self {
        Self {
            taps: Param::from_tensor(taps),
        }
    }

    /// What comes before the first token: zeros, `[batch, kernel - 1, channels]`.
    pub fn empty_tail(&self, batch: usize) -> Tensor<3> {
        let taps = self.taps.val();
        let [kernel, channels] = taps.dims();
        Tensor::zeros(
            [batch, kernel - 1, channels],
            (&taps.device().inner(), taps.dtype()),
        )
    }

    /// Convolves a piece and leaves its end in `tail` for the next.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, channels]`
    /// - `tail`: that of [`empty_tail`](Self::empty_tail)
    pub fn forward(&self, rows: Tensor<3>, tail: &mut Tensor<3>) -> Tensor<3> {
        let [_, tokens, channels] = rows.dims();
        let taps = self.taps.val();
        let [kernel, _] = taps.dims();
        let padded = match kernel {
            1 => rows,
            _ => Tensor::cat(vec![tail.clone(), rows], 1),
        };
        *tail = tokens_of(padded.clone(), tokens, kernel - 1);
        let tap = |back: usize| {
            let rows = padded.clone().narrow(1, kernel - 1 - back, tokens);
            rows * taps.clone().narrow(0, back, 1).reshape([1, 1, channels])
        };
        (1..kernel).fold(tap(0), |sum, back| sum + tap(back))
    }
}
