//! When an update happens, and which tokens and coordinates it touches.

use crate::error::{ConfigError, at_least_one, in_range};
use crate::miras::{ChoiceDescriptor, ParamReader, Params, Word, params};

/// The schedule and the gates of a memory's updates.
///
/// An *update* is one step of the learning algorithm, made from `update_size` tokens whose
/// gradients are all taken at the same weights, the gradient base. Its size is part of
/// what the memory is, not a tuning knob of speed: a memory trained at one size and used
/// at another is another memory (`docs/chunkwise.md`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateConfig {
    /// Tokens per update.
    pub update_size: usize,
    /// The weights at which gradients are taken.
    pub gradient_base: GradientBase,
    /// Whether momentum and retention act at every token or once per update.
    pub gate_span: GateSpan,
    /// How the gradients of one update are put together.
    pub reduction: Reduction,
    /// Relative error `||M(k) - v|| / ||v||` that a token must exceed to be written at
    /// all; at or under it the token's weight is exactly zero. Zero writes everything.
    ///
    /// So a token that is not written adds nothing of its own. What the equations do at every
    /// token goes on: momentum, the surprise of tokens before it (Titans, arXiv:2501.00663, section
    /// 3.1), decays into the weights, and under dense retention all weights fade. An update of `n`
    /// tokens, none of them written, leaves
    ///
    /// ```text
    /// S -> momentum_decay^n S
    /// W -> W + (momentum_decay + ... + momentum_decay^n) S        without retention
    /// ```
    ///
    /// and of a memory without momentum and dense retention, as of the preset `sparse`, not one
    /// bit of the weights changes.
    pub surprise_threshold: f32,
    /// Which coordinates of the gradient are kept.
    pub sparse_gate: SparseGate,
    /// Which coordinates forget.
    pub forget_scope: ForgetScope,
    /// Soft bound of each tensor's gradient: `G tanh-scaled to at most this norm`, as
    /// titans-pytorch does it; none if absent.
    pub max_gradient_norm: Option<f32>,
}

/// The weights at which the gradients of an update are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GradientBase {
    /// The weights at the start of the update (Titans, section 3.2).
    #[default]
    UpdateStart,
    /// The weights at the last update boundary where the number of tokens was a multiple
    /// of this.
    EveryTokens(usize),
    /// Always the weights that the memory began with: the default of titans-pytorch.
    Initial,
}

/// How often momentum decays and weights forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateSpan {
    /// At every token (Titans, eq. 13-14, with gradients at the base).
    #[default]
    PerToken,
    /// Once per update, with the gates of its last token (titans-pytorch, LaCT).
    PerUpdate,
}

/// How the gradients of one update are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, each times its token's step.
    #[default]
    Sum,
    /// The sum divided by the tokens of the update: the article's mean loss.
    Mean,
}

/// Which coordinates of an update's gradient are kept; the others become exactly zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SparseGate {
    /// All.
    #[default]
    None,
    /// The largest by size, over all tensors of a memory together, ties by position.
    Elements {
        /// Share kept, in `(0, 1]`; at least one coordinate.
        ratio: f32,
    },
    /// The rows (input channels) with the most energy in each tensor, ties by position,
    /// and of those a seeded sample of columns that changes from update to update.
    Channels {
        /// Share of the rows kept, in `(0, 1]`; at least one.
        ratio: f32,
        /// Share of the columns sampled, in `(0, 1]`; at least one.
        columns: f32,
    },
}

/// Which coordinates forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForgetScope {
    /// All of them, as in the papers.
    #[default]
    Dense,
    /// Those that the update changes: what is not written does not fade.
    Written,
}

impl Default for UpdateConfig {
    /// Token by token, everything is written, everything forgets.
    fn default() -> Self {
        Self {
            update_size: 1,
            gradient_base: GradientBase::UpdateStart,
            gate_span: GateSpan::PerToken,
            reduction: Reduction::Sum,
            surprise_threshold: 0.0,
            sparse_gate: SparseGate::None,
            forget_scope: ForgetScope::Dense,
            max_gradient_norm: None,
        }
    }
}

const NAME: &str = "update";

impl UpdateConfig {
    const CHOICE: &'static str = "update schedule";

    /// Schedules that have every parameter between them: what a text of a configuration may
    /// name.
    pub const EXAMPLES: &'static [Self] = &[
        Self {
            update_size: 7,
            gradient_base: GradientBase::EveryTokens(8),
            gate_span: GateSpan::PerUpdate,
            reduction: Reduction::Mean,
            surprise_threshold: 0.15,
            sparse_gate: SparseGate::Elements { ratio: 0.02 },
            forget_scope: ForgetScope::Written,
            max_gradient_norm: Some(0.5),
        },
        Self {
            update_size: 1,
            gradient_base: GradientBase::Initial,
            gate_span: GateSpan::PerToken,
            reduction: Reduction::Sum,
            surprise_threshold: 0.0,
            sparse_gate: SparseGate::Channels {
                ratio: 0.1,
                columns: 0.5,
            },
            forget_scope: ForgetScope::Dense,
            max_gradient_norm: None,
        },
    ];

    /// The numbers that a file header stores beside the four choices.
    pub fn descriptor(&self) -> ChoiceDescriptor {
        let mut params = params([
            ("update_size", self.update_size as f64),
            ("surprise_threshold", f64::from(self.surprise_threshold)),
        ]);
        params.extend([
            self.gate_span.param(),
            self.reduction.param(),
            self.forget_scope.param(),
        ]);
        let mut set = |name: &str, value: f64| {
            params.insert(name.to_owned(), value);
        };
        match self.gradient_base {
            GradientBase::UpdateStart => {}
            GradientBase::EveryTokens(tokens) => set("base_every_tokens", tokens as f64),
            GradientBase::Initial => set("base_initial", 1.0),
        }
        match self.sparse_gate {
            SparseGate::None => {}
            SparseGate::Elements { ratio } => set("top_elements", f64::from(ratio)),
            SparseGate::Channels { ratio, columns } => {
                set("top_channels", f64::from(ratio));
                set("sampled_columns", f64::from(columns));
            }
        }
        if let Some(norm) = self.max_gradient_norm {
            set("max_gradient_norm", f64::from(norm));
        }
        ChoiceDescriptor::new(NAME, params)
    }

    /// The schedule that a header holds.
    ///
    /// # Errors
    /// Another name, or parameters that are missing, unknown or out of range.
    pub fn from_descriptor(descriptor: &ChoiceDescriptor) -> Result<Self, ConfigError> {
        if descriptor.name != NAME {
            return Err(descriptor.unknown(Self::CHOICE, &[NAME]));
        }
        let mut params = descriptor.reader(Self::CHOICE);
        let config = Self {
            update_size: params.count("update_size")?,
            surprise_threshold: params.float("surprise_threshold")?,
            gate_span: params.word()?,
            reduction: params.word()?,
            forget_scope: params.word()?,
            gradient_base: read_base(&mut params, &descriptor.params)?,
            sparse_gate: read_sparse_gate(&mut params, &descriptor.params)?,
            max_gradient_norm: params.optional_float("max_gradient_norm")?,
        };
        params.finish()?;
        config.validate()?;
        Ok(config)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let share = |ratio: f32| ratio > 0.0 && ratio <= 1.0;
        at_least_one("update_size", self.update_size)?;
        if let GradientBase::EveryTokens(tokens) = self.gradient_base {
            at_least_one("base_every_tokens", tokens)?;
        }
        in_range(
            "surprise_threshold",
            self.surprise_threshold,
            "a number >= 0",
            |threshold| threshold >= 0.0,
        )?;
        match self.sparse_gate {
            SparseGate::None => {}
            SparseGate::Elements { ratio } => {
                in_range("top_elements", ratio, "over 0 and at most 1", share)?;
            }
            SparseGate::Channels { ratio, columns } => {
                in_range("top_channels", ratio, "over 0 and at most 1", share)?;
                in_range("sampled_columns", columns, "over 0 and at most 1", share)?;
            }
        }
        if let Some(norm) = self.max_gradient_norm {
            in_range("max_gradient_norm", norm, "a number over 0", |norm| {
                norm > 0.0
            })?;
        }
        Ok(())
    }
}

fn read_base(params: &mut ParamReader<'_>, all: &Params) -> Result<GradientBase, ConfigError> {
    if all.contains_key("base_every_tokens") {
        return Ok(GradientBase::EveryTokens(
            params.count("base_every_tokens")?,
        ));
    }
    if all.contains_key("base_initial") {
        params.count("base_initial")?;
        return Ok(GradientBase::Initial);
    }
    Ok(GradientBase::UpdateStart)
}

fn read_sparse_gate(params: &mut ParamReader<'_>, all: &Params) -> Result<SparseGate, ConfigError> {
    if all.contains_key("top_elements") {
        let ratio = params.float("top_elements")?;
        return Ok(SparseGate::Elements { ratio });
    }
    if all.contains_key("top_channels") {
        return Ok(SparseGate::Channels {
            ratio: params.float("top_channels")?,
            columns: params.float("sampled_columns")?,
        });
    }
    Ok(SparseGate::None)
}

impl Word for GateSpan {
    const KIND: &'static str = "gates";
    const ALL: &'static [Self] = &[Self::PerToken, Self::PerUpdate];

    fn word(self) -> &'static str {
        match self {
            Self::PerToken => "per-token",
            Self::PerUpdate => "per-update",
        }
    }
}

impl Word for Reduction {
    const KIND: &'static str = "reduction";
    const ALL: &'static [Self] = &[Self::Sum, Self::Mean];

    fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
        }
    }
}

impl Word for ForgetScope {
    const KIND: &'static str = "forget";
    const ALL: &'static [Self] = &[Self::Dense, Self::Written];

    fn word(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Written => "written",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_round_trips_through_its_descriptor() {
        let bases = [
            GradientBase::UpdateStart,
            GradientBase::EveryTokens(8),
            GradientBase::Initial,
        ];
        let sparse_gates = [
            SparseGate::None,
            SparseGate::Elements { ratio: 0.02 },
            SparseGate::Channels {
                ratio: 0.1,
                columns: 0.5,
            },
        ];
        for gradient_base in bases {
            for sparse_gate in sparse_gates {
                let config = UpdateConfig {
                    update_size: 7,
                    gradient_base,
                    gate_span: GateSpan::PerUpdate,
                    reduction: Reduction::Mean,
                    surprise_threshold: 0.15,
                    sparse_gate,
                    forget_scope: ForgetScope::Written,
                    max_gradient_norm: Some(0.5),
                };
                assert_eq!(
                    UpdateConfig::from_descriptor(&config.descriptor()),
                    Ok(config)
                );
            }
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let mut descriptor = UpdateConfig::default().descriptor();
        descriptor.params.insert("colour".to_owned(), 1.0);
        let error = UpdateConfig::from_descriptor(&descriptor).expect_err("unknown");
        assert!(error.to_string().contains("colour"), "{error}");
    }
}
