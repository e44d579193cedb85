//! The four choices that make a memory (MIRAS, arXiv:2504.13173), as run-time values.
//!
//! Each choice is a closed set, named in file headers and chosen by configuration:
//! what the memory is ([`MemoryArchitecture`]), what counts as an error
//! ([`AttentionalBias`]), what is kept ([`RetentionGate`]) and how a gradient moves the
//! weights ([`LearningAlgorithm`]). [`Preset`] bundles four of them with their source.

mod architecture;
mod attentional_bias;
mod descriptor;
mod learning_algorithm;
mod preset;
mod retention_gate;

pub use architecture::{
    Activation, FactorizedMlp, GatedMlp, GatedResidualMlp, Matrix, MemoryArchitecture, Mlp,
    SparseChannelMlp, SwiGluMlp, Wrap,
};
pub(crate) use architecture::{LinearMaps, OuterGradient, Start, StaticMaps, TensorSpec};
pub use attentional_bias::{AttentionalBias, DotProduct, Huber, HuberForm, L2, L2Scale, Lp};
pub use descriptor::{ChoiceDescriptor, Params};
pub(crate) use descriptor::{ParamReader, Word, params};
pub use learning_algorithm::{
    GradientDescent, LearningAlgorithm, Momentum, NewtonSchulz, NewtonSchulzSchedule,
    NormalisedStep,
};
pub use preset::Preset;
pub(crate) use retention_gate::RetentionStep;
pub use retention_gate::{
    ElasticNet, Kl, L2Retention, Lq, NoRetention, RetentionGate, RetentionTarget, RowNorm,
    SurpriseSigmoid,
};

/// The four choices together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MirasConfig {
    /// What the memory is.
    pub architecture: MemoryArchitecture,
    /// What counts as an error.
    pub attentional_bias: AttentionalBias,
    /// What is kept.
    pub retention_gate: RetentionGate,
    /// How a gradient moves the weights.
    pub learning_algorithm: LearningAlgorithm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_round_trips_through_its_descriptor() {
        for choice in MemoryArchitecture::EXAMPLES {
            assert_eq!(
                MemoryArchitecture::from_descriptor(&choice.descriptor()).as_ref(),
                Ok(choice)
            );
        }
        for choice in AttentionalBias::EXAMPLES {
            assert_eq!(
                AttentionalBias::from_descriptor(&choice.descriptor()).as_ref(),
                Ok(choice)
            );
        }
        for choice in RetentionGate::EXAMPLES {
            assert_eq!(
                RetentionGate::from_descriptor(&choice.descriptor()).as_ref(),
                Ok(choice)
            );
        }
        for choice in LearningAlgorithm::EXAMPLES {
            assert_eq!(
                LearningAlgorithm::from_descriptor(&choice.descriptor()).as_ref(),
                Ok(choice)
            );
        }
    }

    #[test]
    fn names_and_parameters_can_stand_in_a_file_header() {
        let descriptors = (MemoryArchitecture::EXAMPLES.iter().map(|c| c.descriptor()))
            .chain(AttentionalBias::EXAMPLES.iter().map(|c| c.descriptor()))
            .chain(RetentionGate::EXAMPLES.iter().map(|c| c.descriptor()))
            .chain(LearningAlgorithm::EXAMPLES.iter().map(|c| c.descriptor()));
        let is_plain = |text: &str| {
            text.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        };
        for descriptor in descriptors {
            assert!(is_plain(&descriptor.name), "{descriptor:?}");
            assert!(
                descriptor.params.keys().all(|p| is_plain(p)),
                "{descriptor:?}"
            );
        }
    }

    #[test]
    fn an_unknown_choice_is_quoted_and_the_known_ones_are_listed() {
        let bregman = ChoiceDescriptor::new("bregman", Params::new());
        let error = RetentionGate::from_descriptor(&bregman).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "unknown retention gate \"bregman\"; this build knows none, l2, \
             surprise-sigmoid, elastic-net, lq, kl, row-norm"
        );
    }

    #[test]
    fn a_missing_extra_or_impossible_parameter_is_refused() {
        let short = ChoiceDescriptor::new("surprise-sigmoid", params([("gain", 0.8)]));
        assert!(RetentionGate::from_descriptor(&short).is_err());
        let long = ChoiceDescriptor::new("l2", params([("scale-half", 1.0), ("power", 2.0)]));
        assert!(AttentionalBias::from_descriptor(&long).is_err());
        let two_words =
            ChoiceDescriptor::new("l2", params([("scale-half", 1.0), ("scale-sum", 1.0)]));
        assert!(AttentionalBias::from_descriptor(&two_words).is_err());
        let flat = ChoiceDescriptor::new("lp", params([("power", 1.0)]));
        assert!(AttentionalBias::from_descriptor(&flat).is_err());
        let mut deep = MemoryArchitecture::EXAMPLES[1].descriptor();
        deep.params.insert("depth".to_owned(), 5.0);
        assert!(MemoryArchitecture::from_descriptor(&deep).is_err());
    }
}
