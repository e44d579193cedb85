//! The fast path and the reference agree: what is read, what is written, what is touched.

#[path = "common/draw.rs"]
mod draw;

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use draw::{sample, seed};
use titans_core::{
    Form, HostOps, LearningAlgorithm, MemoryArchitecture, MemoryConfig, NeuralMemory, NoRetention,
    NormalisedStep, Preset, RetentionGate, SparseChannelMlp, SurpriseSigmoid, Tail, TensorOps,
    Tokens,
};

/// f32 sums in another order: 2^-24 relative per term, a few hundred terms.
const TOLERANCE: f32 = 2e-5;

fn config(
    channels: usize,
    active_channels: usize,
    key_dim: usize,
    value_dim: usize,
) -> MemoryConfig {
    let mut config = Preset::Sparse.config();
    config.key_dim = key_dim;
    config.value_dim = value_dim;
    config.seed = 11;
    config.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels,
        active_channels,
    });
    config
}

fn pair(config: MemoryConfig) -> (NeuralMemory, NeuralMemory) {
    let device = Device::flex();
    (
        NeuralMemory::with_ops(config, &device, Arc::new(HostOps)).expect("valid"),
        NeuralMemory::with_ops(config, &device, Arc::new(TensorOps)).expect("valid"),
    )
}

fn random(tokens: usize, width: usize) -> Tensor<2> {
    sample([tokens, width], Distribution::Normal(0.0, 1.0))
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter()
        .zip(right)
        .map(|(l, r)| (l - r).abs())
        .fold(0.0, f32::max)
}

fn check(config: MemoryConfig, tokens: usize) {
    let (host, reference) = pair(config);
    let mut host_state = host.initial_state();
    let mut reference_state = reference.initial_state();
    let mut general_state = host.initial_state();
    // A second pass over the same keys meets what the first one wrote.
    let keys = random(tokens, config.key_dim);
    for pass in 0..2 {
        let values = random(tokens, config.value_dim);
        let host_report = host
            .write(&mut host_state, keys.clone(), values.clone())
            .expect("finite");
        let reference_report = reference
            .write(&mut reference_state, keys.clone(), values.clone())
            .expect("finite");
        assert_eq!(host_report.tokens_written, reference_report.tokens_written);
        let rows = |report: &titans_core::WriteReport| -> Vec<u32> {
            let tensors = report.delta.iter().flat_map(|delta| &delta.tensors);
            tensors.flat_map(|t| t.indices.clone()).collect()
        };
        assert_eq!(rows(&host_report), rows(&reference_report));
        // The general path knows nothing of rows, and yet does the same.
        host.pass(
            std::slice::from_mut(&mut general_state),
            Tokens::new(keys.clone().unsqueeze_dim(0), values.unsqueeze_dim(0)),
            None,
            Tail::Hold,
            Form::Chunkwise,
        )
        .expect("finite");
        let surprise = largest_difference(&host_report.surprise, &reference_report.surprise);
        assert!(
            surprise < TOLERANCE,
            "surprise differs by {surprise} in pass {pass}"
        );
    }
    let weights = largest_difference(
        &host_state.to_host().tensors[0].values,
        &reference_state.to_host().tensors[0].values,
    );
    assert!(weights < TOLERANCE, "weights differ by {weights}");
    let general = largest_difference(
        &host_state.to_host().tensors[0].values,
        &general_state.to_host().tensors[0].values,
    );
    assert!(general < TOLERANCE, "the general path differs by {general}");
    let smoothed = host_state.smoothed_surprise();
    assert!((smoothed - reference_state.smoothed_surprise()).abs() < TOLERANCE);
    assert!((smoothed - general_state.smoothed_surprise()).abs() < TOLERANCE);
    assert_eq!(host_state.tokens_written, reference_state.tokens_written);

    let queries = random(tokens, config.key_dim);
    let recalled: Vec<f32> = host
        .read(&host_state, queries.clone())
        .to_data_as::<f32>()
        .try_to_vec()
        .expect("f32");
    let expected: Vec<f32> = reference
        .read(&reference_state, queries)
        .to_data_as::<f32>()
        .try_to_vec()
        .expect("f32");
    let read = largest_difference(&recalled, &expected);
    assert!(read < TOLERANCE, "reads differ by {read}");
}

#[test]
fn odd_and_prime_sizes() {
    seed(3);
    check(config(97, 7, 13, 5), 31);
    check(config(64, 64, 8, 8), 17);
    check(config(1, 1, 1, 1), 3);
    check(config(301, 1, 6, 3), 1);
}

#[test]
fn more_tokens_than_one_block_of_activations() {
    seed(4);
    check(config(67, 5, 8, 4), 263);
}

#[test]
fn every_retention_gate_and_a_partial_step() {
    seed(5);
    for retention_gate in [
        RetentionGate::None(NoRetention),
        RetentionGate::SurpriseSigmoid(SurpriseSigmoid {
            gain: 0.8,
            offset: 0.2,
            smoothing: 0.5,
        }),
    ] {
        let mut config = config(53, 11, 9, 7);
        config.miras.retention_gate = retention_gate;
        config.miras.learning_algorithm =
            LearningAlgorithm::NormalisedStep(NormalisedStep { step_size: 0.4 });
        config.update.surprise_threshold = 0.9;
        check(config, 29);
    }
}
