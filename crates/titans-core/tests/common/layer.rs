//! Small layers and blocks of every kind, and how tests run them.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use titans_core::{
    AttentionalBias, BlockConfig, GateKind, GradientDescent, Initial, KeyConfig, L2, L2Scale,
    LayerConfig, LayerState, LearningAlgorithm, Preset, Reads, Target, TitansLayer, Wiring,
    WriteGateConfig,
};

use super::draw::sample;

/// Sums in another order, through projections, softmax and some updates.
pub(crate) const F32_TOLERANCE: f64 = 2e-4;
pub(crate) const DIM: usize = 12;
pub(crate) const WINDOW: usize = 5;

pub(crate) fn gate(hidden: usize, bias: f32) -> WriteGateConfig {
    WriteGateConfig {
        hidden,
        bias,
        kind: GateKind::Hard,
    }
}

pub(crate) fn winner_block(write_gate: Option<WriteGateConfig>) -> BlockConfig {
    let mut memory = Preset::Delta.config();
    memory.key_dim = 96;
    memory.value_dim = 7;
    memory.miras.attentional_bias = AttentionalBias::L2(L2 {
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

pub(crate) fn dense_block(preset: Preset) -> BlockConfig {
    let mut memory = super::small(preset);
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

pub(crate) fn blocks() -> Vec<(&'static str, BlockConfig)> {
    vec![
        ("winners", winner_block(Some(gate(6, 0.2)))),
        ("titans", dense_block(Preset::Titans)),
        ("delta", dense_block(Preset::Delta)),
    ]
}

/// A layer whose attention and gates do something: what begins at zero is drawn.
pub(crate) fn layer(wiring: Wiring, block: BlockConfig) -> TitansLayer {
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

pub(crate) fn rows(batch: usize, tokens: usize) -> Tensor<3> {
    sample([batch, tokens, DIM], Distribution::Normal(0.0, 1.0))
}

/// `count` rows from `start`, which may be none.
pub(crate) fn part(rows: &Tensor<3>, start: usize, count: usize) -> Tensor<3> {
    let [batch, _, dim] = rows.dims();
    match count {
        0 => Tensor::zeros([batch, 0, dim], &rows.device()),
        _ => rows.clone().narrow(1, start, count),
    }
}

pub(crate) fn run(
    layer: &TitansLayer,
    rows: Tensor<3>,
    pieces: &[usize],
) -> (Tensor<3>, LayerState) {
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

pub(crate) fn every_layer() -> Vec<(String, TitansLayer)> {
    let mut layers = Vec::new();
    for wiring in Wiring::ALL {
        for (name, block) in blocks() {
            layers.push((format!("{wiring} {name}"), layer(*wiring, block)));
        }
    }
    layers
}
