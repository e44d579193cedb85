//! Layers are causal, may be streamed in any pieces, keep a state of constant size that can be
//! saved, and pass gradients to all that is learned in training.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use common::draw::seed;
use common::layer::{F32_TOLERANCE, blocks, every_layer, layer, part, rows, run, winner_block};
use common::{apart, numbers};
use titans_core::{
    ConfigError, Initial, KeyConfig, LayerConfig, LayerState, Preset, Reads, StateError,
    TitansLayer, Wiring,
};

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
