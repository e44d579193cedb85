//! Layers are causal, may be streamed in any pieces, keep a state of constant size that
//! can be saved, and agree with slow twins in values and gradients.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use common::draw::{sample, seed};
use common::{apart, numbers};
use titans_core::{
    Attention, BlockConfig, CausalConvolution, ConfigError, GateKind, GradientDescent, Initial,
    KeyConfig, L2, L2Scale, LayerConfig, LayerState, LearningAlgorithm, NeuralMemoryBlock, Preset,
    Reads, StateError, Target, TitansLayer, Wiring, WriteGateConfig, segment_sums,
};

/// Sums in another order, through projections, softmax and some updates.
const F32_TOLERANCE: f64 = 2e-4;
const DIM: usize = 12;
const WINDOW: usize = 5;

fn gate(hidden: usize, bias: f32) -> WriteGateConfig {
    WriteGateConfig {
        hidden,
        bias,
        kind: GateKind::Hard,
    }
}

fn winner_block(write_gate: Option<WriteGateConfig>) -> BlockConfig {
    let mut memory = Preset::Delta.config();
    memory.key_dim = 96;
    memory.value_dim = 7;
    memory.miras.attentional_bias = titans_core::AttentionalBias::L2(L2 {
        scale: L2Scale::Half,
    });
    memory.miras.learning_algorithm =
        LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.5 });
    BlockConfig {
        dim: DIM,
        memory,
        keys: KeyConfig::Winners {
            code_dim: 8,
            active: 11,
            seed: 3,
        },
        target: Target::Next,
        write_gate,
        gathered: 0,
    }
}

fn dense_block(preset: Preset) -> BlockConfig {
    let mut memory = common::small(preset);
    memory.seed = 7;
    BlockConfig {
        dim: DIM,
        memory,
        keys: KeyConfig::Dense {
            kernel: 4,
            // A larger one diverges under random projections.
            largest_step: 0.02,
        },
        target: Target::Same,
        write_gate: Some(gate(6, 0.0)),
        gathered: 0,
    }
}

fn blocks() -> Vec<(&'static str, BlockConfig)> {
    vec![
        ("winners", winner_block(Some(gate(6, 0.2)))),
        ("titans", dense_block(Preset::Titans)),
        ("delta", dense_block(Preset::Delta)),
    ]
}

/// A layer whose attention and gates do something: what begins at zero is drawn.
fn layer(wiring: Wiring, block: BlockConfig) -> TitansLayer {
    let config = LayerConfig {
        wiring,
        block,
        heads: 2,
        head_dim: 3,
        window: WINDOW,
        persistent: 2,
    };
    let mut initial = Initial::new(11, &Device::flex());
    let layer = TitansLayer::new(config, &mut initial).expect("valid");
    layer.map(&mut DrawZeros(initial))
}

struct DrawZeros(Initial);

impl burn::module::ModuleMapper for DrawZeros {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<Tensor<D>>,
    ) -> burn::module::Param<Tensor<D>> {
        let is_zero = param.val().abs().max().into_scalar::<f32>() == 0.0;
        match is_zero {
            true => {
                let shape = param.val().dims();
                param.map(|_| self.0.normal(shape, 0.5))
            }
            false => param,
        }
    }
}

fn rows(batch: usize, tokens: usize) -> Tensor<3> {
    sample([batch, tokens, DIM], Distribution::Normal(0.0, 1.0))
}

/// `count` rows from `start`, which may be none.
fn part(rows: &Tensor<3>, start: usize, count: usize) -> Tensor<3> {
    let [batch, _, dim] = rows.dims();
    match count {
        0 => Tensor::zeros([batch, 0, dim], &rows.device()),
        _ => rows.clone().narrow(1, start, count),
    }
}

fn run(layer: &TitansLayer, rows: Tensor<3>, pieces: &[usize]) -> (Tensor<3>, LayerState) {
    let [batch, tokens, _] = rows.dims();
    let mut state = layer.initial_state(batch);
    let (mut outputs, mut start) = (Vec::new(), 0);
    for piece in pieces {
        let part = part(&rows, start, *piece);
        let output = layer.forward(part, &mut state, &Reads::All, None);
        outputs.push(output.expect("finite").rows);
        start += piece;
    }
    assert_eq!(start, tokens);
    (Tensor::cat(outputs, 1), state)
}

fn every_layer() -> Vec<(String, TitansLayer)> {
    let mut layers = Vec::new();
    for wiring in Wiring::ALL {
        for (name, block) in blocks() {
            layers.push((format!("{wiring} {name}"), layer(*wiring, block)));
        }
    }
    layers
}

#[test]
fn a_later_token_changes_nothing_before_it() {
    seed(1);
    let before = rows(2, 17);
    for (name, layer) in every_layer() {
        let (expected, _) = run(&layer, before.clone(), &[17]);
        for changed in [0, 4, 5, 11, 16] {
            let mut parts = vec![part(&before, 0, changed), rows(2, 1) * 3.0];
            parts.push(part(&before, changed + 1, 16 - changed));
            let (found, _) = run(&layer, Tensor::cat(parts, 1), &[17]);
            let same = |rows: &Tensor<3>| numbers(&rows.clone().narrow(1, 0, changed));
            if changed > 0 {
                let apart = apart(&same(&found), &same(&expected));
                assert!(
                    apart < 1e-6,
                    "{name}: token {changed} reaches back, {apart}"
                );
            }
            let from = |rows: &Tensor<3>| numbers(&rows.clone().narrow(1, changed, 1));
            assert!(
                from(&found) != from(&expected),
                "{name}: {changed} is not seen"
            );
        }
    }
}

#[test]
fn pieces_of_any_length_give_what_the_whole_gives() {
    seed(2);
    let rows = rows(2, 23);
    for (name, layer) in every_layer() {
        let (expected, whole) = run(&layer, rows.clone(), &[23]);
        for pieces in [&[1; 23][..], &[7, 5, 11], &[22, 1], &[0, 13, 0, 10]] {
            let (found, state) = run(&layer, rows.clone(), pieces);
            let apart = apart(&numbers(&found), &numbers(&expected));
            assert!(apart < F32_TOLERANCE, "{name} in {pieces:?}: {apart}");
            assert_eq!(state.position(), whole.position());
            let written = |state: &LayerState| -> Vec<u64> {
                state.memories().iter().map(|m| m.tokens_written).collect()
            };
            assert_eq!(written(&state), written(&whole), "{name}");
        }
    }
}

#[test]
fn a_batch_gives_what_its_texts_give_alone() {
    seed(3);
    let rows = rows(3, 13);
    for (name, layer) in every_layer() {
        let (together, _) = run(&layer, rows.clone(), &[13]);
        for text in 0..3 {
            let (alone, _) = run(&layer, rows.clone().narrow(0, text, 1), &[13]);
            let found = numbers(&together.clone().narrow(0, text, 1));
            let apart = apart(&found, &numbers(&alone));
            assert!(apart < F32_TOLERANCE, "{name}: {apart}");
        }
    }
}

#[test]
fn unasked_tokens_change_nothing_that_follows() {
    seed(4);
    let (first, second) = (rows(1, 19), rows(1, 9));
    for (name, layer) in every_layer() {
        let follow = |reads: &Reads| {
            let mut state = layer.initial_state(1);
            let output = layer.forward(first.clone(), &mut state, reads, None);
            let given = output.expect("finite").rows.dims()[1];
            let output = layer.forward(second.clone(), &mut state, &Reads::All, None);
            (given, numbers(&output.expect("finite").rows))
        };
        let (all, expected) = follow(&Reads::All);
        let (none, found) = follow(&Reads::Nothing);
        assert_eq!((all, none), (19, 0));
        assert!(apart(&found, &expected) < F32_TOLERANCE, "{name}");
        let (two, found) = follow(&Reads::At(vec![vec![3, 18]]));
        assert_eq!(two, 2);
        assert!(apart(&found, &expected) < F32_TOLERANCE, "{name}");
    }
}

#[test]
fn the_state_does_not_grow_unless_attention_sees_everything() {
    seed(5);
    for (name, layer) in every_layer() {
        // As far into a segment and an update each time.
        let bytes: Vec<usize> = [20, 60, 140]
            .map(|tokens| run(&layer, rows(1, tokens), &[tokens]).1.bytes())
            .into();
        if layer.config().wiring.is_constant() {
            assert!(
                bytes[0] == bytes[1] && bytes[1] == bytes[2],
                "{name}: {bytes:?}"
            );
        } else {
            assert!(bytes[1] > 2 * bytes[0], "{name}: {bytes:?}");
        }
    }
}

#[test]
fn a_state_comes_back_from_the_host_and_goes_on_alike() {
    seed(6);
    let (first, second) = (rows(2, 13), rows(2, 8));
    for (name, layer) in every_layer() {
        let (_, mut state) = run(&layer, first.clone(), &[13]);
        let host = state.to_host();
        let mut back = layer.state_from_host(&host).expect("our own state");
        assert!(back.to_host() == host, "{name}");
        let go_on = |state: &mut LayerState| {
            let output = layer.forward(second.clone(), state, &Reads::All, None);
            numbers(&output.expect("finite").rows)
        };
        assert!(go_on(&mut state) == go_on(&mut back), "{name}");

        if layer.config().wiring.has_memory() {
            let mut broken = host.clone();
            broken.memories.pop();
            let error = layer.state_from_host(&broken);
            assert!(matches!(error, Err(StateError::Missing { .. })), "{name}");
        }
    }
}

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

#[test]
fn a_recall_loss_reaches_projections_and_gate() {
    seed(11);
    for (name, config) in blocks() {
        let mut config = config;
        config.gathered = 13;
        for wiring in Wiring::ALL.iter().filter(|wiring| wiring.has_memory()) {
            let trained = layer(*wiring, config).train();
            let mut state = trained.initial_state(2);
            let rows = Tensor::from_inner(rows(2, 13));
            let output =
                trained.forward(rows, &mut state, &Reads::At(vec![vec![12], vec![9]]), None);
            let loss = output.expect("finite").rows.powf_scalar(2.0).sum();
            let gradients = loss.backward();
            let mut reached = Reached {
                gradients: &gradients,
                untouched: Vec::new(),
                path: Vec::new(),
            };
            trained.visit(&mut reached);
            // A last token's own query is not a write's key, and so on: a few may be missing,
            // the gate and the projections may not.
            let missing: Vec<&String> = (reached.untouched.iter())
                .filter(|name| name.contains("write_gate") || name.contains("first"))
                .collect();
            assert!(
                missing.is_empty(),
                "{name} {wiring}: no gradient for {missing:?}"
            );
        }
    }
}

struct Reached<'a> {
    gradients: &'a burn::tensor::Gradients,
    untouched: Vec<String>,
    path: Vec<String>,
}

impl burn::module::ModuleVisitor for Reached<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        let touched = param
            .val()
            .grad(self.gradients)
            .is_some_and(|gradient| gradient.abs().max().into_scalar::<f32>() > 0.0);
        if !touched {
            self.untouched.push(self.path.join("."));
        }
    }
}

#[test]
fn a_convolution_is_its_sum_over_taps() {
    seed(12);
    for kernel in [1, 2, 5] {
        let taps = sample([kernel, 3], Distribution::Normal(0.0, 1.0));
        let rows = sample([2, 7, 3], Distribution::Normal(0.0, 1.0));
        let convolution = CausalConvolution::from_taps(taps.clone());
        let mut tail = convolution.empty_tail(2);
        let found = Tensor::cat(
            [(0, 3), (3, 1), (4, 3)]
                .map(|(start, count)| {
                    convolution.forward(rows.clone().narrow(1, start, count), &mut tail)
                })
                .into(),
            1,
        );
        let (taps, rows) = (numbers(&taps), numbers(&rows));
        let expected: Vec<f64> = (0..2 * 7 * 3)
            .map(|index| {
                let (text, token, channel) = (index / 21, index / 3 % 7, index % 3);
                (0..kernel.min(token + 1))
                    .map(|back| {
                        taps[back * 3 + channel] * rows[text * 21 + (token - back) * 3 + channel]
                    })
                    .sum()
            })
            .collect();
        assert!(apart(&numbers(&found), &expected) < 1e-6, "{kernel}");
    }
}

#[test]
fn segment_sums_are_running_sums_that_start_again() {
    seed(13);
    for tokens in [1, 63, 64, 65, 131] {
        let rows = sample([2, tokens, 3], Distribution::Normal(0.0, 1.0));
        let starts = sample([2, tokens], Distribution::Uniform(0.0, 1.0))
            .lower_elem(0.05)
            .float();
        let carried = sample([2, 3], Distribution::Normal(0.0, 1.0));
        let mut carry = carried.clone();
        let first = (tokens / 3).max(1).min(tokens);
        let mut parts = Vec::new();
        for (start, count) in [(0, first), (first, tokens - first)] {
            if count == 0 {
                continue;
            }
            let starts = starts.clone().narrow(1, start, count);
            parts.push(segment_sums(
                rows.clone().narrow(1, start, count),
                starts,
                &mut carry,
            ));
        }
        let (rows, starts) = (numbers(&rows), numbers(&starts));
        let mut sums = numbers(&carried);
        let mut expected = vec![0.0; 2 * tokens * 3];
        for text in 0..2 {
            for token in 0..tokens {
                for channel in 0..3 {
                    let sum = &mut sums[text * 3 + channel];
                    if starts[text * tokens + token] == 1.0 {
                        *sum = 0.0;
                    }
                    *sum += rows[(text * tokens + token) * 3 + channel];
                    expected[(text * tokens + token) * 3 + channel] = *sum;
                }
            }
        }
        assert!(
            apart(&numbers(&Tensor::cat(parts, 1)), &expected) < 1e-5,
            "{tokens}"
        );
        assert!(apart(&numbers(&carry), &sums) < 1e-5, "{tokens}");
    }
}

#[test]
fn attention_is_a_softmax_over_what_each_token_sees() {
    seed(14);
    for (wiring, sees) in [
        (
            Wiring::FullAttention,
            (|_, _| true) as fn(usize, usize) -> bool,
        ),
        (Wiring::SlidingWindow, |query, key| query < key + WINDOW),
    ] {
        let mut layer = layer(wiring, winner_block(None));
        // One head, no persistent tokens, keys of the same token: the textbook's formula.
        let config = LayerConfig {
            heads: 1,
            persistent: 0,
            block: BlockConfig {
                target: Target::Same,
                ..layer.config().block
            },
            ..*layer.config()
        };
        let mut initial = Initial::new(2, &Device::flex());
        layer = TitansLayer::new(config, &mut initial).expect("valid");
        let weights: [Tensor<2>; 3] = std::array::from_fn(|_| initial.normal([DIM, 3], 0.5));
        let output = initial.normal([3, DIM], 0.5);
        let attention: &mut Attention = layer.attention_mut().expect("attends");
        attention.set_projections(weights.clone(), output.clone());
        let text = rows(1, 11);
        let (found, _) = run(&layer, text.clone(), &[11]);

        let energy = (text.clone() * text.clone()).mean_dim(2);
        let normed: Tensor<2> = (text.clone() / (energy + 1e-6).sqrt()).squeeze_dim(0);
        let [queries, keys, values] = weights.map(|weight| numbers(&normed.clone().matmul(weight)));
        let mut attended = vec![0.0; 11 * 3];
        for query in 0..11 {
            let score = |key: usize| -> f64 {
                let dot = (0..3).map(|i| queries[query * 3 + i] * keys[key * 3 + i]);
                (dot.sum::<f64>() / 3f64.sqrt()).exp()
            };
            let visible: Vec<usize> = (0..=query).filter(|key| sees(query, *key)).collect();
            let total: f64 = visible.iter().map(|key| score(*key)).sum();
            for key in visible {
                for i in 0..3 {
                    attended[query * 3 + i] += score(key) / total * values[key * 3 + i];
                }
            }
        }
        let attended: Vec<f32> = attended.into_iter().map(|x| x as f32).collect();
        let attended = burn::tensor::TensorData::new(attended, [11, 3]);
        let attended: Tensor<2> = Tensor::from_data(attended, &Device::flex());
        let expected = text + attended.matmul(output).unsqueeze_dim::<3>(0);
        let apart = apart(&numbers(&found), &numbers(&expected));
        assert!(apart < 1e-5, "{wiring}: {apart}");
    }
}

#[test]
fn words_for_wirings_are_read_back_and_others_are_named() {
    for wiring in Wiring::ALL {
        assert_eq!(wiring.name().parse(), Ok(*wiring));
    }
    let error = "mac2".parse::<Wiring>().expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "unknown wiring \"mac2\"; this build knows lmm, mac, mag, mal, full-attention, sliding-window"
    );
}

#[test]
fn wrong_sizes_are_named() {
    let refuse = |change: &dyn Fn(&mut LayerConfig)| -> ConfigError {
        let mut config = LayerConfig {
            wiring: Wiring::Mac,
            block: winner_block(None),
            heads: 1,
            head_dim: 2,
            window: 4,
            persistent: 0,
        };
        change(&mut config);
        let built = TitansLayer::new(config, &mut Initial::new(0, &Device::flex()));
        built.expect_err("refused")
    };
    assert_eq!(
        refuse(&|config| config.window = 0).to_string(),
        "attention.segment must be at least 1"
    );
    assert_eq!(
        refuse(&|config| config.block.dim = 0).to_string(),
        "block.dim must be at least 1"
    );
    let keys = |active| KeyConfig::Winners {
        code_dim: 2,
        active,
        seed: 0,
    };
    assert_eq!(
        refuse(&|config| config.block.keys = keys(97)).to_string(),
        "winners.active is 97, expected at most winners.rows"
    );
    let titans = common::small(Preset::Titans);
    let error = refuse(&|config| config.block.memory = titans);
    assert!(error.to_string().starts_with("block.memory is"), "{error}");
}
