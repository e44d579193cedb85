//! Causal attention over a window, a segment or everything, with a cache of keys and values.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor, TensorData};

use super::{Initial, project};
use crate::error::{ConfigError, at_least_one};

/// Queries whose scores exist at once when nothing else bounds them.
const QUERIES: usize = 256;
/// What a score becomes that must not count; finite, so that no row is all minus infinity.
const MASKED: f32 = -1e9;

/// Which earlier tokens a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of them: the cache grows with the text.
    Full,
    /// The last `n`, itself among them.
    Window(usize),
    /// Those of its segment of `n` tokens, counted from the beginning of the text.
    Segment(usize),
}

/// Sizes of an [`Attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Width of the rows.
    pub dim: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub head_dim: usize,
    /// Which tokens are seen.
    pub span: Span,
    /// Learned tokens before all others, always seen (Titans, section 3.3).
    pub persistent: usize,
}

impl AttentionConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("attention.heads", self.heads)?;
        at_least_one("attention.head_dim", self.head_dim)?;
        match self.span {
            Span::Full => Ok(()),
            Span::Window(tokens) => at_least_one("attention.window", tokens),
            Span::Segment(tokens) => at_least_one("attention.segment", tokens),
        }
    }
}

/// Causal attention without position codes: order comes from the convolutions before it.
///
/// `y_t = softmax(q_t [K_P | K_H | K_X]^T / sqrt(head_dim)) [V_P | V_H | V_X] W_O`, over the
/// persistent tokens P, the rows H read from a memory, if any, and the tokens X that the
/// span shows; H_j is seen where X_j is.
#[derive(Module, Debug)]
pub struct Attention {
    queries: Param<Tensor<2>>,
    keys: Param<Tensor<2>>,
    values: Param<Tensor<2>>,
    output: Param<Tensor<2>>,
    /// `[persistent, dim]`.
    persistent: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: AttentionConfig,
}

/// Keys and values of the tokens that later ones still see.
#[derive(Clone, Debug)]
pub struct AttentionState {
    /// `[batch, cached, heads * head_dim]`: keys, values, and those of rows from a memory.
    cached: Option<Cached>,
    /// Tokens so far.
    position: usize,
}

#[derive(Clone, Debug)]
struct Cached {
    keys: Tensor<3>,
    values: Tensor<3>,
    /// Keys and values of what a memory gave beside the same tokens.
    beside: Option<(Tensor<3>, Tensor<3>)>,
}

impl AttentionState {
    /// Nothing read yet.
    pub fn empty() -> Self {
        Self {
            cached: None,
            position: 0,
        }
    }

    /// Numbers in the cache.
    pub fn len(&self) -> usize {
        let count = |tensor: &Tensor<3>| tensor.dims().iter().product::<usize>();
        self.cached.as_ref().map_or(0, |cached| {
            let beside = cached.beside.as_ref();
            count(&cached.keys)
                + count(&cached.values)
                + beside.map_or(0, |(keys, values)| count(keys) + count(values))
        })
    }

    /// Nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The tensors of the cache under their names, and the position.
    pub(super) fn tensors(&self) -> Vec<(&'static str, Tensor<3>)> {
        let Some(cached) = &self.cached else {
            return Vec::new();
        };
        let mut tensors = vec![
            ("attention_keys", cached.keys.clone()),
            ("attention_values", cached.values.clone()),
        ];
        if let Some((keys, values)) = &cached.beside {
            tensors.push(("attention_memory_keys", keys.clone()));
            tensors.push(("attention_memory_values", values.clone()));
        }
        tensors
    }

    pub(super) fn from_tensors(
        position: usize,
        mut take: impl FnMut(&'static str) -> Option<Tensor<3>>,
    ) -> Self {
        let cached = take("attention_keys").zip(take("attention_values"));
        let beside = take("attention_memory_keys").zip(take("attention_memory_values"));
        Self {
            cached: cached.map(|(keys, values)| Cached {
                keys,
                values,
                beside,
            }),
            position,
        }
    }
}

impl Attention {
    /// Attention that begins by adding nothing: the output projection is zero, so that a
    /// layer with it begins as the layer without.
    pub(crate) fn new(config: AttentionConfig, initial: &mut Initial) -> Self {
        let AttentionConfig {
            dim,
            heads,
            head_dim,
            persistent,
            ..
        } = config;
        let width = heads * head_dim;
        Self {
            queries: initial.matrix(dim, width, 1.0),
            keys: initial.matrix(dim, width, 1.0),
            values: initial.matrix(dim, width, 1.0),
            output: initial.constant([width, dim], 0.0),
            persistent: (persistent > 0)
                .then(|| Param::from_tensor(initial.normal([persistent, dim], 1.0))),
            config,
        }
    }

    /// Puts these projections in place, each `[dim, heads * head_dim]`, the last transposed.
    pub fn set_projections(&mut self, [queries, keys, values]: [Tensor<2>; 3], output: Tensor<2>) {
        self.queries = Param::from_tensor(queries);
        self.keys = Param::from_tensor(keys);
        self.values = Param::from_tensor(values);
        self.output = Param::from_tensor(output);
    }

    /// The sizes.
    pub fn config(&self) -> &AttentionConfig {
        &self.config
    }

    /// Attends, and leaves in `state` what later pieces see.
    ///
    /// # Shapes
    /// - `rows`: `[batch, tokens, dim]`, from which queries and values come
    /// - `key_rows`: the same, from which keys come
    /// - `beside`: rows of a memory, `[batch, tokens, dim]`
    ///
    /// # Panics
    /// If a piece crosses the end of a segment while rows of a memory stand beside it, or if
    /// only some pieces have such rows.
    pub fn forward(
        &self,
        rows: Tensor<3>,
        key_rows: Tensor<3>,
        beside: Option<Tensor<3>>,
        state: &mut AttentionState,
    ) -> Tensor<3> {
        let [_, tokens, _] = rows.dims();
        let mut outputs = Vec::new();
        let mut start = 0;
        while start < tokens {
            let count = (tokens - start).min(self.stride(state.position));
            assert!(
                beside.is_none() || count == tokens,
                "rows of a memory are those of one segment"
            );
            outputs.push(self.step(
                rows.clone().narrow(1, start, count),
                key_rows.clone().narrow(1, start, count),
                beside.clone(),
                state,
            ));
            start += count;
        }
        match outputs.is_empty() {
            true => rows,
            false => Tensor::cat(outputs, 1),
        }
    }

    /// How many tokens from here are attended at once.
    fn stride(&self, position: usize) -> usize {
        match self.config.span {
            Span::Full => QUERIES,
            Span::Window(tokens) => tokens.max(16),
            Span::Segment(tokens) => tokens - position % tokens,
        }
    }

    fn step(
        &self,
        rows: Tensor<3>,
        key_rows: Tensor<3>,
        beside: Option<Tensor<3>>,
        state: &mut AttentionState,
    ) -> Tensor<3> {
        let [batch, tokens, _] = rows.dims();
        let queries = project(rows.clone(), self.queries.val());
        let both = |keys: Tensor<3>, values: Tensor<3>| {
            (
                project(keys, self.keys.val()),
                project(values, self.values.val()),
            )
        };
        let (mut keys, mut values) = both(key_rows, rows);
        let mut beside = beside.map(|rows| both(rows.clone(), rows));
        if let Some(cached) = state.cached.take() {
            keys = Tensor::cat(vec![cached.keys, keys], 1);
            values = Tensor::cat(vec![cached.values, values], 1);
            beside = match (cached.beside, beside) {
                (Some((old_keys, old_values)), Some((keys, values))) => Some((
                    Tensor::cat(vec![old_keys, keys], 1),
                    Tensor::cat(vec![old_values, values], 1),
                )),
                (None, None) => None,
                _ => panic!("only some pieces of a text have rows of a memory"),
            };
        }
        let seen = keys.dims()[1];
        let hidden = self.hidden(tokens, seen);
        let shown = state.position + tokens;
        let attended = self.attend(queries, &keys, &values, beside.as_ref(), hidden);

        let keep = match self.config.span {
            Span::Full => seen,
            Span::Window(window) => seen.min(window - 1),
            Span::Segment(segment) => match shown % segment {
                0 => 0,
                _ => seen,
            },
        };
        let last = |tensor: Tensor<3>| tensor.narrow(1, seen - keep, keep);
        state.position = shown;
        state.cached = (keep > 0).then(|| Cached {
            keys: last(keys),
            values: last(values),
            beside: beside.map(|(keys, values)| (last(keys), last(values))),
        });
        let width = self.config.heads * self.config.head_dim;
        project(attended.reshape([batch, tokens, width]), self.output.val())
    }

    /// Which of the `seen` tokens each of the last `tokens` must not see.
    fn hidden(&self, tokens: usize, seen: usize) -> Vec<bool> {
        let first = seen - tokens;
        (0..tokens)
            .flat_map(|query| {
                (0..seen).map(move |key| {
                    let at = first + query;
                    let is_old = match self.config.span {
                        Span::Window(window) => key + window <= at,
                        Span::Full | Span::Segment(_) => false,
                    };
                    key > at || is_old
                })
            })
            .collect()
    }

    fn attend(
        &self,
        queries: Tensor<3>,
        keys: &Tensor<3>,
        values: &Tensor<3>,
        beside: Option<&(Tensor<3>, Tensor<3>)>,
        hidden: Vec<bool>,
    ) -> Tensor<3> {
        let [batch, tokens, width] = queries.dims();
        let [_, seen, _] = keys.dims();
        let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
        let mut masks = Vec::new();
        let device = keys.device().inner();
        if let Some(persistent) = &self.persistent {
            let rows = persistent.val().unsqueeze_dim::<3>(0);
            let count = rows.dims()[1];
            let of_each = |weight: &Param<Tensor<2>>| {
                project(rows.clone(), weight.val()).expand([batch, count, width])
            };
            all_keys.push(of_each(&self.keys));
            all_values.push(of_each(&self.values));
            masks.push(Tensor::from_data(
                TensorData::new(vec![false; tokens * count], [tokens, count]),
                &device,
            ));
        }
        let mask: Tensor<2, Bool> =
            Tensor::from_data(TensorData::new(hidden, [tokens, seen]), &device);
        if let Some((keys, values)) = beside {
            all_keys.push(keys.clone());
            all_values.push(values.clone());
            masks.push(mask.clone());
        }
        all_keys.push(keys.clone());
        all_values.push(values.clone());
        masks.push(mask);

        let AttentionConfig {
            heads, head_dim, ..
        } = self.config;
        let by_head = |rows: Tensor<3>| {
            let [_, count, _] = rows.dims();
            rows.reshape([batch, count, heads, head_dim])
                .swap_dims(1, 2)
        };
        let keys = by_head(Tensor::cat(all_keys, 1));
        let values = by_head(Tensor::cat(all_values, 1));
        let mask = Tensor::cat(masks, 1);
        let [_, _, seen, _] = keys.dims();
        let scores = by_head(queries).matmul(keys.swap_dims(2, 3)) / (head_dim as f32).sqrt();
        let mask = mask.reshape([1, 1, tokens, seen]);
        let scores = scores.mask_fill(mask.expand([batch, heads, tokens, seen]), MASKED);
        softmax(scores, 3)
            .matmul(values)
            .swap_dims(1, 2)
            .reshape([batch, tokens, width])
    }
}
