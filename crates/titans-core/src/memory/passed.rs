//! What a pass over some tokens is asked, and what it gives.

use burn::tensor::{Bool, Tensor};

use super::rules::Rules;
use super::updated::{Detail, Updated};
use crate::ops::host_floats;

/// Queries beside the tokens, one for each.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `[memories, tokens, key_dim]`.
    pub queries: Tensor<3>,
    /// Which weights answer.
    pub when: ReadTime,
}

/// The weights that answer the query beside a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadTime {
    /// Those at the start of the token's update: read, then write.
    UpdateStart,
    /// Those at the end of the token's update: write, then read. Not causal inside an
    /// update. For tokens whose update is not complete, the weights as they are.
    UpdateEnd,
    /// Those after the token itself: `y_t = M(q_t; W_t)` of Titans, eq. 15. Causal.
    #[default]
    Token,
    /// Those after as many *full* updates as end with or before the token: causal, the
    /// rule of titans-pytorch.
    FullUpdates,
}

/// What becomes of tokens that do not fill an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// They wait for the rest of their update.
    #[default]
    Hold,
    /// They make a short update of their own.
    Apply,
}

/// Which of two equal forms computes an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A whole update at once.
    #[default]
    Chunkwise,
    /// Token by token: slow, and obviously the equations.
    Recurrent,
}

/// What a pass over some tokens gives.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The answers, `[memories, tokens, value_dim]`, if there were queries.
    pub retrieved: Option<Tensor<3>>,
    /// Loss of each token at the gradient base, `[memories, written]`, over the tokens
    /// whose update was made, earlier pending ones first.
    pub loss: Tensor<2>,
    /// `||M(k) - v|| / ||v||` of the same tokens.
    pub relative_error: Tensor<2>,
    /// Norm over all parameters of the gradient of the same tokens' loss, steps not
    /// applied.
    pub gradient_norm: Tensor<2>,
    /// Norm of each update's gradient, steps applied, `[memories, updates]`.
    pub update_norm: Tensor<2>,
    /// Tokens that the gates let through, for each memory.
    pub tokens_written: Vec<usize>,
}

/// Parts of a [`Passed`], in the order of the stream.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) retrieved: Vec<Tensor<3>>,
    pub(super) loss: Vec<Tensor<2>>,
    pub(super) relative_error: Vec<Tensor<2>>,
    pub(super) gradient_norm: Vec<Tensor<2>>,
    pub(super) update_norm: Vec<Tensor<2>>,
    pub(super) written: Vec<Tensor<2>>,
}

impl Parts {
    /// Leaves out the first `skip` reads: they stand beside tokens of earlier calls.
    pub(super) fn push_reads(&mut self, reads: Tensor<3>, skip: usize) {
        let [_, count, _] = reads.dims();
        if skip < count {
            self.retrieved.push(reads.narrow(1, skip, count - skip));
        }
    }

    pub(super) fn push(&mut self, updated: &Updated, rules: &Rules, detail: Detail) {
        let surprise = &updated.surprise;
        self.relative_error.push(surprise.relative_error.clone());
        let written = as_numbers(surprise.written.clone(), &surprise.relative_error);
        self.written.push(written);
        if detail == Detail::All {
            self.loss.push(surprise.loss(rules));
            self.gradient_norm.push(surprise.gradient_norm());
            self.update_norm.extend(updated.update_norm.clone());
        }
    }

    /// Puts the parts together; `like` is a column of the batch.
    pub(super) fn join(self, like: &Tensor<2>, value_dim: usize, has_queries: bool) -> Passed {
        let [memories, _] = like.dims();
        let options = (&like.device(), like.dtype());
        let join = |parts: Vec<Tensor<2>>| {
            if parts.is_empty() {
                return Tensor::zeros([memories, 0], options);
            }
            Tensor::cat(parts, 1)
        };
        let written = host_floats(join(self.written));
        let per_memory = written.len() / memories;
        Passed {
            retrieved: has_queries.then(|| {
                if self.retrieved.is_empty() {
                    return Tensor::zeros([memories, 0, value_dim], options);
                }
                Tensor::cat(self.retrieved, 1)
            }),
            loss: join(self.loss),
            relative_error: join(self.relative_error),
            gradient_norm: join(self.gradient_norm),
            update_norm: join(self.update_norm),
            tokens_written: (0..memories)
                .map(|memory| {
                    let of_memory = &written[memory * per_memory..(memory + 1) * per_memory];
                    of_memory.iter().filter(|x| **x != 0.0).count()
                })
                .collect(),
        }
    }
}

/// Ones where a flag is set, zeros elsewhere.
pub(super) fn as_numbers(flags: Tensor<2, Bool>, like: &Tensor<2>) -> Tensor<2> {
    like.zeros_like().mask_fill(flags, 1.0)
}
