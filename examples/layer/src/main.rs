//! A layer of a model: a Burn model with a `TitansLayer` learns in seconds to recall what it reads:
//! eight pairs of symbols, then the first symbol of each again, after which the second is to come.
//!
//! The control is the same model without a memory: attention that sees the last four tokens.

use std::error::Error;
use std::io::{self, ErrorKind, Write};

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, loss::CrossEntropyLoss};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use titanmem::titans_core::{
    BlockConfig, Initial, InputError, KeyConfig, LayerConfig, Reads, Target, TitansLayer, Wiring,
};
use titanmem::{ConfigError, Preset};

const DIM: usize = 64;
const SYMBOLS: i32 = 32;
const PAIRS: usize = 8;
const BATCH: usize = 32;

#[derive(Module, Debug)]
struct Model {
    embedding: Embedding,
    layer: TitansLayer,
    head: Linear,
}

impl Model {
    /// What follows the last tokens of each text. It may come in pieces if the state is kept.
    fn forward(&self, texts: Tensor<2, Int>) -> Result<Tensor<2>, InputError> {
        let mut state = self.layer.initial_state(BATCH);
        let rows = self.embedding.forward(texts);
        let reads = Reads::At(vec![(2 * PAIRS..3 * PAIRS).collect(); BATCH]);
        let rows = self.layer.forward(rows, &mut state, &reads, None)?.rows;
        Ok(self.head.forward(rows.reshape([BATCH * PAIRS, DIM])))
    }
}

fn model(wiring: Wiring) -> Result<Model, ConfigError> {
    let config = LayerConfig {
        wiring,
        block: BlockConfig {
            dim: DIM,
            memory: Preset::Delta.config(),
            keys: KeyConfig::Dense {
                kernel: 1,
                largest_step: 1.0,
            },
            // The key of a token is written with the value of the next one.
            target: Target::Next,
            write_gate: None,
            gathered: 0,
        },
        heads: 2,
        head_dim: DIM / 2,
        window: 4,
        persistent: 0,
    };
    let device = Device::flex();
    device.seed(1);
    Ok(Model {
        embedding: EmbeddingConfig::new(2 * SYMBOLS as usize, DIM).init(&device),
        layer: TitansLayer::new(config, &mut Initial::new(1, &device))?,
        head: LinearConfig::new(DIM, 2 * SYMBOLS as usize).init(&device),
    })
}

/// Texts that nobody has seen, and what is to follow.
fn texts(random: &mut Initial) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let mut draw = |below: i32| (random.unit() * f64::from(below)) as i32;
    let (mut texts, mut targets) = (Vec::<i32>::new(), Vec::<i32>::new());
    for _ in 0..BATCH {
        // An odd step meets no symbol twice.
        let (start, step) = (draw(SYMBOLS), 2 * draw(SYMBOLS / 2) + 1);
        let firsts = (0..PAIRS as i32).map(|pair| (start + pair * step) % SYMBOLS);
        let pairs = firsts.map(|first| [first, SYMBOLS + draw(SYMBOLS)]);
        let pairs: Vec<[i32; 2]> = pairs.collect();
        texts.extend(pairs.as_flattened());
        texts.extend(pairs.iter().map(|pair| pair[0]));
        targets.extend(pairs.iter().map(|pair| pair[1]));
    }
    let texts = Tensor::<1, Int>::from_data(&texts[..], &Device::flex());
    let targets = Tensor::from_data(&targets[..], &Device::flex());
    (texts.reshape([BATCH, 3 * PAIRS]), targets)
}

/// The percentage of right answers, for the same texts each time.
fn recall(model: &Model) -> Result<f32, InputError> {
    let (texts, targets) = texts(&mut Initial::new(3, &Device::flex()));
    let answers = model.forward(texts)?.argmax(1).reshape([BATCH * PAIRS]);
    Ok(100.0 * answers.equal(targets).float().mean().into_scalar::<f32>())
}

fn main() -> Result<(), Box<dyn Error>> {
    let cross_entropy = CrossEntropyLoss::new(None, &Device::flex());
    let mut trained = Vec::new();
    for wiring in [Wiring::Lmm, Wiring::SlidingWindow] {
        let mut random = Initial::new(2, &Device::flex());
        let (mut model, mut optimizer) = (model(wiring)?.train(), AdamConfig::new().init());
        let before = recall(&model.valid())?;
        for _ in 0..150 {
            let (texts, targets) = texts(&mut random);
            let loss = cross_entropy.forward(model.forward(texts)?, targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.01, model, gradients);
        }
        let after = recall(&model.valid())?;
        let line = format!("{wiring}: recall {before:.1} %, trained {after:.1} %");
        match writeln!(io::stdout(), "{line}") {
            // A reader that has closed the pipe is no error, a full disk is.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => trained.push(after),
        }
    }
    assert!(trained[0] > 90.0 && trained[1] < 20.0, "{trained:?}");
    Ok(())
}
