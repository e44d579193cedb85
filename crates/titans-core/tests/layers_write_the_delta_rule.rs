//! A block with winner keys writes the delta rule, one token at a time or many at once, in values
//! and in gradients.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use common::draw::{sample, seed};
use common::layer::{DIM, F32_TOLERANCE, gate, layer, rows, run, winner_block};
use common::{apart, numbers};
use titans_core::{
    GateKind, Initial, LayerState, NeuralMemoryBlock, Reads, Wiring, WriteGateConfig,
};

#[test]
fn a_closed_gate_leaves_the_memory_as_it_was_bit_for_bit() {
    seed(7);
    let layer = layer(Wiring::Lmm, winner_block(Some(gate(6, -50.0))));
    let (_, state) = run(&layer, rows(1, 40), &[40]);
    let begun = layer.initial_state(1);
    let tensors = |state: &LayerState| state.memories()[0].to_host().tensors;
    assert!(tensors(&state) == tensors(&begun));
    assert_eq!(state.memories()[0].tokens_written, 0);
}

#[test]
fn what_was_written_is_read_back_under_the_same_key() {
    seed(8);
    let layer = layer(Wiring::Lmm, winner_block(None));
    let block = layer.block().expect("a memory");
    let text = rows(1, 9);
    let (_, state) = run(&layer, text.clone(), &[9]);
    let reads = |at: usize| {
        let query = block
            .winners()
            .expect("winners")
            .forward(text.clone().narrow(1, at, 1));
        numbers(
            &block
                .memory()
                .read(&state.memories()[0], query.squeeze_dim(0)),
        )
    };
    let values = |at: usize| {
        let values = block.values_of(text.clone().narrow(1, at, 1));
        numbers(&values.expect("winners"))
    };
    // Half of the error is removed at a time; the nearest value is the right one.
    for at in 0..8 {
        let read = reads(at);
        let distance = |other: usize| -> f64 {
            read.iter()
                .zip(values(other))
                .map(|(a, b)| (a - 0.5 * b).powi(2))
                .sum()
        };
        let nearest = (0..9).min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        assert_eq!(nearest, Some(at + 1));
    }
}

/// `W <- W + open_t step k_t (v_t - k_t W)` for every token, then `o_t = k(x_t) W`.
fn delta_by_hand(block: &NeuralMemoryBlock, text: &Tensor<3>, open: &Tensor<2>) -> Tensor<3> {
    let [batch, tokens, dim] = text.dims();
    let config = block.config().memory;
    let winners = block.winners().expect("winners");
    let device = Device::flex();
    let mut weights = Tensor::<3>::zeros([batch, config.key_dim, config.value_dim], &device);
    let mut outputs = Vec::new();
    for token in 0..tokens {
        let row = text.clone().narrow(1, token, 1);
        let earlier = match token {
            0 => Tensor::zeros([batch, 1, dim], &device),
            _ => text.clone().narrow(1, token - 1, 1),
        };
        let key = winners.forward(earlier);
        let value = block.values_of(row.clone()).expect("winners");
        let error = value - key.clone().matmul(weights.clone());
        let step = open.clone().narrow(1, token, 1).unsqueeze_dim::<3>(2) * 0.5;
        weights = weights + key.swap_dims(1, 2).matmul(error * step);
        outputs.push(winners.forward(row).matmul(weights.clone()));
    }
    Tensor::cat(outputs, 1)
}

#[test]
fn many_writes_at_once_are_the_delta_rule_and_so_are_strengths() {
    seed(31);
    let text = rows(2, 150);
    for kind in [GateKind::Hard, GateKind::Soft] {
        // Of a hard gate at this bias nearly everything is written, more than one by one.
        let config = winner_block(Some(WriteGateConfig {
            kind,
            ..gate(6, 2.0)
        }));
        let mut block =
            NeuralMemoryBlock::new(config, &mut Initial::new(5, &Device::flex())).expect("valid");
        let identity = Tensor::eye(7, &Device::flex());
        let values = Tensor::random([DIM, 7], Distribution::Normal(0.0, 0.5), &Device::flex());
        let padded = Tensor::cat(
            vec![identity, Tensor::zeros([7, DIM - 7], &Device::flex())],
            1,
        );
        block.set_value_projections(values, padded);
        let mut state = block.initial_state(2);
        let output = block
            .advance(text.clone(), &mut state, &Reads::All, None)
            .expect("finite");
        let gates = output.gates.expect("a gate");
        assert!(
            output.written.iter().all(|written| *written > 64),
            "{kind:?}"
        );
        let by_hand = delta_by_hand(&block, &text, &gates.open);
        let whole = numbers(&output.retrieved.clone().narrow(2, 0, 7));
        assert!(
            apart(&whole, &numbers(&by_hand)) < F32_TOLERANCE,
            "{kind:?}"
        );

        let mut state = block.initial_state(2);
        let pieces: Vec<Tensor<3>> = (0..150)
            .map(|at| {
                let piece = text.clone().narrow(1, at, 1);
                let output = block.advance(piece, &mut state, &Reads::All, None);
                output.expect("finite").retrieved
            })
            .collect();
        let pieces = numbers(&Tensor::cat(pieces, 1));
        assert!(
            apart(&pieces, &numbers(&output.retrieved)) < F32_TOLERANCE,
            "{kind:?}"
        );
    }
}

#[test]
fn many_writes_at_once_refuse_what_is_not_finite() {
    let block = NeuralMemoryBlock::new(winner_block(None), &mut Initial::new(5, &Device::flex()))
        .expect("valid");
    let mut state = block.initial_state(1);
    let bad = Tensor::full([1, 1, DIM], f32::NAN, &Device::flex());
    let text = Tensor::cat(vec![rows(1, 80), bad, rows(1, 19)], 1);
    let error = block.advance(text, &mut state, &Reads::Nothing, None);
    assert!(error.is_err());
    assert_eq!(state.memories[0].tokens_written, 0);
}

#[test]
fn the_closed_form_of_the_gated_tokens_is_the_delta_rule_in_values_and_gradients() {
    seed(9);
    for tokens in [1, 2, 7, 67] {
        let mut config = winner_block(Some(gate(6, 0.3)));
        config.gathered = tokens;
        let mut initial = Initial::new(5, &Device::flex());
        let mut block = NeuralMemoryBlock::new(config, &mut initial).expect("valid");
        // What is read comes out as it is.
        let identity = Tensor::eye(7, &Device::flex());
        let padded = Tensor::cat(
            vec![identity, Tensor::zeros([7, DIM - 7], &Device::flex())],
            1,
        );
        block.set_value_projections(initial.normal([DIM, 7], 0.4), padded);
        let trained = block.clone().train();
        let weights = Tensor::from_inner(sample([2, tokens, 7], Distribution::Normal(0.0, 1.0)));
        let given = rows(2, tokens);

        let fast = Tensor::from_inner(given.clone()).require_grad();
        let mut state = trained.initial_state(2);
        let output = trained
            .advance(fast.clone(), &mut state, &Reads::All, None)
            .expect("finite");
        let read = output.retrieved.narrow(2, 0, 7);
        let gradients = (read.clone() * weights.clone()).sum().backward();
        let fast_gradient = fast.grad(&gradients).expect("depends on the rows");

        let slow = Tensor::from_inner(given.clone()).require_grad();
        let mut unused = trained.initial_state(2);
        let gates = trained
            .advance(slow.clone(), &mut unused, &Reads::Nothing, None)
            .expect("finite")
            .gates
            .expect("a gate");
        let by_hand = delta_by_hand(&trained, &slow, &gates.open);
        let gradients = (by_hand.clone() * weights).sum().backward();
        let slow_gradient = slow.grad(&gradients).expect("depends on the rows");

        let values = apart(&numbers(&read.clone().inner()), &numbers(&by_hand.inner()));
        assert!(values < F32_TOLERANCE, "{tokens}: values {values}");
        let apart = apart(&numbers(&fast_gradient), &numbers(&slow_gradient));
        assert!(apart < F32_TOLERANCE, "{tokens}: gradients {apart}");
        assert!(tokens < 3 || numbers(&fast_gradient).iter().any(|x| x.abs() > 1e-3));

        // Without autodiff, tokens go one by one through the memory's own write.
        let mut state = block.initial_state(2);
        let served = block
            .advance(given, &mut state, &Reads::All, None)
            .expect("finite");
        let served = numbers(&served.retrieved.narrow(2, 0, 7));
        let apart = common::apart(&served, &numbers(&read.inner()));
        assert!(apart < F32_TOLERANCE, "{tokens}: served {apart}");
    }
}

#[test]
fn gathering_fewer_tokens_changes_no_value() {
    seed(10);
    let given = rows(2, 31);
    let outputs = [0, 3, 31].map(|gathered| {
        let mut config = winner_block(Some(gate(6, -0.2)));
        config.gathered = gathered;
        let mut initial = Initial::new(5, &Device::flex());
        let block = NeuralMemoryBlock::new(config, &mut initial)
            .expect("valid")
            .train();
        let mut state = block.initial_state(2);
        let rows = Tensor::from_inner(given.clone());
        let output = block
            .advance(rows, &mut state, &Reads::All, None)
            .expect("finite");
        assert!(
            output
                .written
                .iter()
                .all(|written| (1..31).contains(written))
        );
        numbers(&output.retrieved.inner())
    });
    assert!(apart(&outputs[1], &outputs[0]) < F32_TOLERANCE);
    assert!(apart(&outputs[2], &outputs[0]) < F32_TOLERANCE);
}
