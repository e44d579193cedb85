//! Small memories of every kind, and numbers to feed them.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod draw;
pub(crate) mod layer;

use burn::tensor::{DType, Device, Distribution, Tensor};
use draw::sample;
use titans_core::{
    AttentionalBias, DotProduct, ForgetScope, GateSpan, GatedMlp, GradientBase, GradientDescent,
    L2, L2Scale, LearningAlgorithm, MemoryArchitecture, MemoryConfig, MemoryState, Mlp, Momentum,
    NeuralMemory, Preset, RetentionGate, SparseChannelMlp, SparseGate, Tokens, Wrap,
};

/// Width of keys and values.
pub(crate) const WIDTH: usize = 6;

/// f32 sums in another order, through a few updates of a small memory.
pub(crate) const F32_TOLERANCE: f64 = 2e-4;
/// The same in f64.
pub(crate) const F64_TOLERANCE: f64 = 1e-11;

/// A preset with small sizes.
pub(crate) fn small(preset: Preset) -> MemoryConfig {
    let mut config = preset.config();
    config.key_dim = WIDTH;
    config.value_dim = WIDTH;
    config.seed = 5;
    config.update.update_size = config.update.update_size.min(5);
    // The presets expect keys and values of length one; those of the tests are longer.
    config.miras.learning_algorithm = match config.miras.learning_algorithm {
        LearningAlgorithm::Momentum(momentum) => LearningAlgorithm::Momentum(Momentum {
            step_size: 0.005,
            ..momentum
        }),
        LearningAlgorithm::GradientDescent(descent) => {
            LearningAlgorithm::GradientDescent(GradientDescent {
                step_size: descent.step_size.min(0.005),
            })
        }
        other => other,
    };
    config.miras.architecture = match config.miras.architecture {
        MemoryArchitecture::Mlp(mlp) => MemoryArchitecture::Mlp(Mlp { hidden: 8, ..mlp }),
        MemoryArchitecture::GatedMlp(mlp) => {
            MemoryArchitecture::GatedMlp(GatedMlp { hidden: 8, ..mlp })
        }
        MemoryArchitecture::SparseChannelMlp(_) => {
            MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
                channels: 40,
                active_channels: 4,
            })
        }
        other => other,
    };
    config
}

/// The memory of the MIRAS papers, small: with the normalisation and the residual.
pub(crate) fn normed(preset: Preset) -> MemoryConfig {
    let mut config = small(preset);
    config.miras.architecture = MemoryArchitecture::Mlp(Mlp {
        depth: 2,
        hidden: 8,
        wrap: Wrap::NormResidual,
        ..Mlp::default()
    });
    config
}

/// One small memory for every preset, architecture, bias, gate, algorithm and schedule.
pub(crate) fn every_kind() -> Vec<(String, MemoryConfig)> {
    let mut kinds: Vec<(String, MemoryConfig)> = Preset::ALL
        .iter()
        .map(|preset| (preset.name().to_owned(), small(*preset)))
        .collect();
    let base = normed(Preset::Titans);
    for span in [GateSpan::PerToken, GateSpan::PerUpdate] {
        let mut push = |what: String, change: &dyn Fn(&mut MemoryConfig)| {
            let mut config = base;
            config.update.gate_span = span;
            change(&mut config);
            kinds.push((format!("{what} {span:?}"), config));
        };
        for choice in MemoryArchitecture::EXAMPLES {
            push(format!("{choice:?}"), &|c| c.miras.architecture = *choice);
        }
        for choice in AttentionalBias::EXAMPLES {
            push(format!("{choice:?}"), &|c| {
                c.miras.attentional_bias = *choice
            });
        }
        for choice in RetentionGate::EXAMPLES {
            push(format!("{choice:?}"), &|c| c.miras.retention_gate = *choice);
        }
        for choice in LearningAlgorithm::EXAMPLES {
            push(format!("{choice:?}"), &|c| {
                c.miras.learning_algorithm = *choice;
            });
        }
        for choice in [GradientBase::EveryTokens(10), GradientBase::Initial] {
            push(format!("{choice:?}"), &|c| c.update.gradient_base = choice);
        }
        let sparse_gates = [
            SparseGate::Elements { ratio: 0.1 },
            SparseGate::Channels {
                ratio: 0.3,
                columns: 0.5,
            },
        ];
        for choice in sparse_gates {
            push(format!("{choice:?}"), &|c| {
                c.update.sparse_gate = choice;
                c.update.forget_scope = ForgetScope::Written;
            });
        }
        push("threshold and bound".to_owned(), &|c| {
            c.update.surprise_threshold = 0.9;
            c.update.max_gradient_norm = Some(0.1);
        });
        push("linear attention".to_owned(), &|c| {
            c.miras.attentional_bias = AttentionalBias::DotProduct(DotProduct);
            c.miras.learning_algorithm =
                LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.1 });
        });
    }
    let mut delta_sum = small(Preset::Delta);
    delta_sum.miras.attentional_bias = AttentionalBias::L2(L2 {
        scale: L2Scale::Sum,
    });
    delta_sum.miras.learning_algorithm =
        LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.05 });
    kinds.push(("delta by gradient descent".to_owned(), delta_sum));
    kinds
}

pub(crate) fn memory(config: MemoryConfig) -> NeuralMemory {
    NeuralMemory::new(config, &Device::flex()).expect("valid")
}

/// Normal numbers, `[memories, tokens, WIDTH]`.
pub(crate) fn random(memories: usize, tokens: usize) -> Tensor<3> {
    sample([memories, tokens, WIDTH], Distribution::Normal(0.0, 1.0))
}

/// A state in f64 with the seed's weights.
pub(crate) fn state_in_f64(memory: &NeuralMemory) -> MemoryState {
    let tensors = memory.initial_state().tensors();
    memory.state_from_tensors(tensors.into_iter().map(|t| t.cast(DType::F64)).collect())
}

pub(crate) fn in_f64(tokens: &Tokens) -> Tokens {
    Tokens::new(
        tokens.keys.clone().cast(DType::F64),
        tokens.values.clone().cast(DType::F64),
    )
}

pub(crate) fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor
        .to_data_as::<f64>()
        .try_into_vec::<f64>()
        .expect("numbers")
}

/// Every number of a state, bit for bit.
pub(crate) fn bits(state: &MemoryState) -> Vec<(String, Vec<u32>)> {
    let host = state.to_host();
    let scalars = host
        .scalars
        .iter()
        .map(|(name, value)| (name.clone(), vec![(*value as f32).to_bits()]));
    let counts = vec![host.tokens_seen as u32, host.tokens_written as u32];
    host.tensors
        .iter()
        .map(|tensor| {
            let values = tensor.values.iter().map(|value| value.to_bits()).collect();
            (format!("{:?} {}", tensor.role, tensor.name), values)
        })
        .chain(scalars)
        .chain([("counts".to_owned(), counts)])
        .collect()
}

/// `max |a - b| / max(1, max |b|)`; infinite where a number is NaN.
pub(crate) fn apart(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let size = theirs.iter().fold(1.0f64, |size, x| size.max(x.abs()));
    let apart = ours.iter().zip(theirs).map(|(a, b)| {
        let apart = (a - b).abs() / size;
        if apart.is_nan() { f64::INFINITY } else { apart }
    });
    apart.fold(0.0, f64::max)
}
