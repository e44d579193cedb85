//! Momentum with all singular values brought near one (Muon).

use burn::tensor::Tensor;

use super::Momentum;
use super::rule::AlgorithmRule;
use crate::error::ConfigError;
use crate::miras::descriptor::{ParamReader, Params, Word};

/// Floor of the Frobenius norm, so that a zero gradient gives a zero update.
const SMALLEST: f64 = 1e-7;

/// `update = NS5(S_t)` for every matrix, with the momentum `S_t` stored as it is.
///
/// ```text
/// X = S / ||S||_F, transposed if it has more rows than columns
/// five times:  X = a X + (b G + c G^2) X    with G = X X^T
/// ```
///
/// (ATLAS, arXiv:2505.23735, eq. 32-33; LaCT, arXiv:2505.23884.) Every update has about
/// the same spectral norm, so a chunk without news writes as strongly as one with: the
/// step inside `S` sets proportions only. Gains are moved by plain momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewtonSchulz {
    /// What is orthogonalised.
    pub momentum: Momentum,
    /// The coefficients of the five iterations.
    pub schedule: NewtonSchulzSchedule,
}

/// Coefficients `(a, b, c)` of the iterations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewtonSchulzSchedule {
    /// `(3.4445, -4.7750, 2.0315)` five times: Muon, titans-pytorch.
    #[default]
    Constant,
    /// The five triples of LaCT's code, closer to orthogonal.
    Lact,
}

impl NewtonSchulzSchedule {
    fn coefficients(self) -> [[f64; 3]; 5] {
        match self {
            Self::Constant => [[3.4445, -4.7750, 2.0315]; 5],
            Self::Lact => [
                [4.0848, -6.8946, 2.9270],
                [3.9505, -6.3029, 2.6377],
                [3.7418, -5.5913, 2.3037],
                [2.8769, -3.1427, 1.2046],
                [2.8366, -3.0525, 1.2012],
            ],
        }
    }
}

impl NewtonSchulz {
    pub(super) fn read(params: &mut ParamReader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            momentum: Momentum::read(params)?,
            schedule: params.word()?,
        })
    }
}

impl AlgorithmRule for NewtonSchulz {
    fn name(&self) -> &'static str {
        "newton-schulz"
    }

    fn params(&self) -> Params {
        let mut params = self.momentum.params_by_name();
        params.extend([self.schedule.param()]);
        params
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.momentum.check()
    }

    fn step_size(&self) -> f32 {
        self.momentum.step_size
    }

    fn momentum_decays(&self) -> Vec<f32> {
        self.momentum.decays()
    }

    fn update(&self, momentum: Tensor<3>) -> Tensor<3> {
        let [_, rows, columns] = momentum.dims();
        let tall = rows > columns;
        let upright = |x: Tensor<3>| if tall { x.swap_dims(1, 2) } else { x };
        let mut x = upright(momentum);
        let energy = (x.clone() * x.clone()).sum_dim(2).sum_dim(1);
        let norm = energy.clamp_min(SMALLEST * SMALLEST).sqrt();
        x = x / norm;
        for [a, b, c] in self.schedule.coefficients() {
            let gram = x.clone().matmul(x.clone().swap_dims(1, 2));
            let mix = gram.clone() * b + gram.clone().matmul(gram) * c;
            x = x.clone() * a + mix.matmul(x);
        }
        upright(x)
    }

    /// Small singular values are raised by up to 3.4445^5 = 485, and so is what rounding
    /// leaves in directions that should be empty: a gradient of few tokens has many.
    fn is_ill_conditioned(&self) -> bool {
        true
    }
}

impl Word for NewtonSchulzSchedule {
    const KIND: &'static str = "schedule";
    const ALL: &'static [Self] = &[Self::Constant, Self::Lact];

    fn word(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Lact => "lact",
        }
    }
}
