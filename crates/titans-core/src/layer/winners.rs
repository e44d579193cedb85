//! Sparse keys: the k winners of a product of random features.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

use super::{Initial, project, unit};
use crate::error::{ConfigError, at_least_one};
use crate::ops::{host_floats, top_k_into};

/// Sizes of [`WinnerKeys`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinnerKeysConfig {
    /// Width of the rows.
    pub dim: usize,
    /// Width of the two codes that are bound.
    pub code_dim: usize,
    /// Width of the keys: rows of the memory.
    pub rows: usize,
    /// Coordinates of a key that are not zero.
    pub active: usize,
    /// Seed of the frozen features.
    pub seed: u64,
}

impl WinnerKeysConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("winners.code_dim", self.code_dim)?;
        at_least_one("winners.rows", self.rows)?;
        at_least_one("winners.active", self.active)?;
        if self.active > self.rows {
            return Err(ConfigError::OutOfRange {
                name: "winners.active",
                value: self.active as f64,
                expected: "at most winners.rows",
            });
        }
        Ok(())
    }
}

/// Features of the first code that are multiplied, so that its similarity counts as often.
const OF_FIRST: usize = 3;
/// The product of normal numbers has heavy tails; a root of it, with its sign, is a key's
/// entry: `z / |z|^TAMING = sign(z) |z|^(1/3)`.
const TAMING: f32 = 2.0 / 3.0;

/// Keys of a sparse memory, from two learned codes of a token.
///
/// ```text
/// a, b = l2(x A), l2(x B)                                 learned
/// z    = (a F1) * (a F2) * (a F3) * (b F4)                F frozen, normal
/// key  = l2(sign(z) |z|^(1/3) on the k largest |z|, else 0)
/// ```
///
/// A product of random features multiplies similarities: two tokens have near keys only
/// where *both* codes are near, and `<a, a'>` counts three times, so that what many tokens
/// share drops out before the winners are chosen. Features of the sum of the codes would
/// keep it, and the memory would hold a fraction of the values.
#[derive(Module, Debug)]
pub struct WinnerKeys {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
    /// `[code_dim, rows]`; follow from the seed, so no file holds them.
    #[module(skip)]
    features: [Tensor<2>; OF_FIRST + 1],
    #[module(skip)]
    config: WinnerKeysConfig,
}

impl WinnerKeys {
    /// # Errors
    /// A size of zero, or more active coordinates than rows.
    pub fn new(config: WinnerKeysConfig, initial: &mut Initial) -> Result<Self, ConfigError> {
        config.validate()?;
        let WinnerKeysConfig {
            dim,
            code_dim,
            rows,
            ..
        } = config;
        let mut frozen = Initial::new(config.seed, &initial.device());
        Ok(Self {
            first: initial.matrix(dim, code_dim, 1.0),
            second: initial.matrix(dim, code_dim, 1.0),
            features: std::array::from_fn(|_| frozen.normal([code_dim, rows], 1.0)),
            config,
        })
    }

    /// Puts these projections in place, `[dim, code_dim]` each.
    pub fn set_projections(&mut self, first: Tensor<2>, second: Tensor<2>) {
        self.first = Param::from_tensor(first);
        self.second = Param::from_tensor(second);
    }

    /// The sizes.
    pub fn config(&self) -> &WinnerKeysConfig {
        &self.config
    }

    /// The keys, differentiable through the winners; which ones win is a constant.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`
    /// - returns: `[batch, tokens, rows]`
    pub fn forward(&self, rows: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, _] = rows.dims();
        let width = self.config.rows;
        if tokens == 0 {
            return Tensor::zeros([batch, 0, width], (&rows.device().inner(), rows.dtype()));
        }
        let activations = self.activations(rows).reshape([batch * tokens, width]);
        let winners = winners(activations.clone(), self.config.active);
        let values = activations.gather(1, winners.clone());
        let values = values.clone() / (values.abs() + 1e-6).powf_scalar(TAMING);
        let energy = (values.clone() * values.clone()).sum_dim(1);
        let values = values / (energy + 1e-12).sqrt();
        let empty = Tensor::zeros(
            [batch * tokens, width],
            (&values.device().inner(), values.dtype()),
        );
        empty
            .scatter(1, winners, values, burn::tensor::IndexingUpdateOp::Add)
            .reshape([batch, tokens, width])
    }

    fn activations(&self, rows: Tensor<3>) -> Tensor<3> {
        let first = unit(project(rows.clone(), self.first.val()));
        let second = unit(project(rows, self.second.val()));
        let cast = |frozen: &Tensor<2>| frozen.clone().cast(first.dtype());
        let [of_first @ .., of_second] = &self.features;
        of_first
            .iter()
            .fold(project(second, cast(of_second)), |product, frozen| {
                product * project(first.clone(), cast(frozen))
            })
    }
}

/// The columns of the `active` largest magnitudes of each row, `[rows, active]`.
fn winners(activations: Tensor<2>, active: usize) -> Tensor<2, Int> {
    let [rows, width] = activations.dims();
    let device = activations.device().inner();
    let magnitudes = host_floats(activations.inner().abs());
    let indices: Vec<i32> = magnitudes
        .par_chunks(width)
        .map_init(Vec::new, |selected, row| {
            top_k_into(row, active, selected);
            selected
                .iter()
                .map(|(at, _)| *at as i32)
                .collect::<Vec<_>>()
        })
        .flatten_iter()
        .collect();
    Tensor::from_data(TensorData::new(indices, [rows, active]), &device)
}
