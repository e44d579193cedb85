//! The configurations that are compared.

use titans_core::{
    LearningAlgorithm, MemoryArchitecture, MemoryConfig, Preset, RetentionGate, SparseGate,
};

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: MemoryConfig,
}

/// A parameter by the article's name, and how it is set.
struct Parameter {
    name: &'static str,
    set: fn(&mut MemoryConfig, f32),
}

const TOP_K_RATIO: Parameter = Parameter {
    name: "top_k_ratio",
    set: |config, ratio| match &mut config.miras.architecture {
        MemoryArchitecture::SparseChannelMlp(mlp) => {
            mlp.active_channels = ((mlp.channels as f32 * ratio).round() as usize).max(1);
        }
        _ => config.update.sparse_gate = SparseGate::Elements { ratio },
    },
};

const SURPRISE_THRESHOLD: Parameter = Parameter {
    name: "surprise_threshold",
    set: |config, threshold| config.update.surprise_threshold = threshold,
};

const ALPHA_LAMBDA: Parameter = Parameter {
    name: "alpha_lambda",
    set: |config, gain| {
        if let RetentionGate::SurpriseSigmoid(gate) = &mut config.miras.retention_gate {
            gate.gain = gain;
        }
    },
};

const ALPHA_GAMMA: Parameter = Parameter {
    name: "alpha_gamma",
    set: |config, offset| {
        if let RetentionGate::SurpriseSigmoid(gate) = &mut config.miras.retention_gate {
            gate.offset = offset;
        }
    },
};

const BETA: Parameter = Parameter {
    name: "beta",
    set: |config, smoothing| {
        if let RetentionGate::SurpriseSigmoid(gate) = &mut config.miras.retention_gate {
            gate.smoothing = smoothing;
        }
    },
};

const ETA: Parameter = Parameter {
    name: "eta",
    set: |config, step| match &mut config.miras.learning_algorithm {
        LearningAlgorithm::GradientDescent(descent) => descent.step_size = step,
        LearningAlgorithm::NormalisedStep(normalised) => normalised.step_size = step,
        _ => {}
    },
};

/// In `article`, where one chunk is one update. In `sparse` a chunk is a matter of the runtime
/// and changes nothing of what is learned.
const CHUNK_SIZE: Parameter = Parameter {
    name: "chunk_size",
    set: |config, tokens| config.update.update_size = tokens as usize,
};

/// Values of each parameter, those of the article among them.
const SPARSE: [(Parameter, &[f32]); 6] = [
    (TOP_K_RATIO, &[0.005, 0.01, 0.02, 0.05, 0.1]),
    (SURPRISE_THRESHOLD, &[0.0, 0.15, 0.3, 0.9]),
    (ALPHA_LAMBDA, &[0.0, 4.0]),
    (ALPHA_GAMMA, &[0.2, 3.0, 5.0]),
    (ETA, &[1e-4, 0.1, 0.3]),
    (BETA, &[0.0, 0.95]),
];

const ARTICLE: [(Parameter, &[f32]); 7] = [
    (TOP_K_RATIO, &[0.1]),
    (SURPRISE_THRESHOLD, &[0.6]),
    (ALPHA_LAMBDA, &[0.0]),
    (ALPHA_GAMMA, &[9.0]),
    (ETA, &[2e-4, 1.0]),
    (BETA, &[0.95]),
    (CHUNK_SIZE, &[64.0]),
];

/// A preset as it is, and with each value of each parameter.
pub(crate) fn cases(preset: Preset) -> Vec<Case> {
    let plain = Case {
        name: "none".to_owned(),
        config: preset.config(),
    };
    let sweeps: &[(Parameter, &[f32])] = match preset {
        Preset::Article => &ARTICLE,
        _ => &SPARSE,
    };
    let changed = sweeps.iter().flat_map(|(parameter, values)| {
        values.iter().map(|&value| {
            let mut config = preset.config();
            (parameter.set)(&mut config, value);
            Case {
                name: format!("{} {value}", parameter.name),
                config,
            }
        })
    });
    std::iter::once(plain).chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_another_configuration_that_can_be_built() {
        for preset in [Preset::Sparse, Preset::Article] {
            let cases = cases(preset);
            for (index, case) in cases.iter().enumerate() {
                assert!(case.config.validate().is_ok(), "{}", case.name);
                let earlier = &cases[..index];
                let same = earlier.iter().find(|other| other.config == case.config);
                assert!(same.is_none(), "{}", case.name);
            }
        }
    }
}
