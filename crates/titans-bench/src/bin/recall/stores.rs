//! Things that can be written to and asked: the presets and the yardsticks.

use std::error::Error;

use burn::tensor::{Device, Tensor};
use titans_core::{
    LearningAlgorithm, MemoryArchitecture, MemoryConfig, MemoryState, NeuralMemory, NormalisedStep,
    Preset, SparseChannelMlp,
};

/// Anything that keeps associations.
pub(crate) trait Store {
    /// Takes in pairs, `[tokens, width]` each, in order.
    fn write(&mut self, keys: &Tensor<2>, values: &Tensor<2>) -> Result<usize, Box<dyn Error>>;
    /// Answers, one row for each query.
    fn read(&self, queries: &Tensor<2>) -> Tensor<2>;
    /// What it keeps between tokens.
    fn bytes(&self) -> usize;
}

/// A named way to make an empty store.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Width of keys and values.
    pub(crate) width: usize,
    /// Learned parameters, where the theory of a dense memory speaks of it.
    pub(crate) parameters: Option<usize>,
    /// The most pairs that are worth the time.
    pub(crate) most_pairs: usize,
    pub(crate) make: Box<dyn Fn(Gate) -> Box<dyn Store>>,
}

/// Whether unsurprising tokens are written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gate {
    /// Everything is written.
    Open,
    /// A token is written only if its relative error exceeds 0.6.
    Surprise,
}

/// Relative error over which the gate writes.
const THRESHOLD: f32 = 0.6;

fn preset(name: &str, config: MemoryConfig, most_pairs: usize, device: &Device) -> Contender {
    let device = device.clone();
    let learned = config.parameters();
    let frozen = match config.miras.architecture {
        MemoryArchitecture::SparseChannelMlp(mlp) => mlp.channels * config.key_dim,
        _ => 0,
    };
    Contender {
        name: name.to_owned(),
        width: config.key_dim,
        parameters: Some(learned - frozen),
        most_pairs,
        make: Box::new(move |gate| {
            let mut config = config;
            config.update.surprise_threshold = match gate {
                Gate::Open => 0.0,
                Gate::Surprise => THRESHOLD,
            };
            let memory = NeuralMemory::new(config, &device).expect("a valid preset");
            let state = memory.initial_state();
            Box::new(Titan { memory, state })
        }),
    }
}

/// Every contender, memories on `device`; `full` adds those that take long.
pub(crate) fn contenders(full: bool, device: &Device) -> Vec<Contender> {
    let mut all: Vec<Contender> = Preset::ALL
        .iter()
        .map(|which| {
            let most_pairs = match which {
                Preset::Sparse => 1 << 16,
                Preset::Article if full => 4096,
                Preset::Article => 1024,
                _ => 4096,
            };
            preset(which.name(), which.config(), most_pairs, device)
        })
        .collect();

    let mut slow_sparse = Preset::Sparse.config();
    slow_sparse.miras.learning_algorithm =
        LearningAlgorithm::NormalisedStep(NormalisedStep { step_size: 0.3 });
    all.push(preset("sparse, step 0.3", slow_sparse, 1 << 16, device));
    // As many learned parameters as `delta` has.
    let mut small_sparse = Preset::Sparse.config();
    small_sparse.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 64,
        active_channels: 8,
    });
    all.push(preset("sparse, 64 channels", small_sparse, 4096, device));
    if full {
        // As many learned parameters as `sparse` has, with keys as wide as that takes.
        let mut wide_delta = Preset::Delta.config();
        wide_delta.key_dim = 724;
        wide_delta.value_dim = 724;
        all.push(preset("delta, width 724", wide_delta, 1 << 15, device));
    }

    let delta_bytes = Preset::Delta.config().state_bytes();
    let sparse_bytes = Preset::Sparse.config().state_bytes();
    for (name, bytes) in [("delta", delta_bytes), ("sparse", sparse_bytes)] {
        all.push(Contender {
            name: format!("flat index = {name}"),
            width: 64,
            parameters: None,
            most_pairs: 1 << 16,
            make: Box::new(move |_| Box::new(FlatIndex::new(bytes, 64))),
        });
    }
    all.push(Contender {
        name: "outer products = delta".to_owned(),
        width: 64,
        parameters: Some(64 * 64),
        most_pairs: 4096,
        make: Box::new(|_| Box::new(OuterProducts::new(64))),
    });
    if full {
        all.push(Contender {
            name: "outer products, width 724".to_owned(),
            width: 724,
            parameters: Some(724 * 724),
            most_pairs: 1 << 15,
            make: Box::new(|_| Box::new(OuterProducts::new(724))),
        });
    }
    all
}

/// A memory of this library.
struct Titan {
    memory: NeuralMemory,
    state: MemoryState,
}

impl Store for Titan {
    fn write(&mut self, keys: &Tensor<2>, values: &Tensor<2>) -> Result<usize, Box<dyn Error>> {
        let here = |rows: &Tensor<2>| rows.clone().to_device(&self.memory.device());
        let (keys, values) = (here(keys), here(values));
        let report = self.memory.write(&mut self.state, keys, values)?;
        Ok(report.tokens_written)
    }

    fn read(&self, queries: &Tensor<2>) -> Tensor<2> {
        // What waits for its update is to be answered for as well.
        let mut state = self.state.clone();
        self.memory
            .finish_update(&mut state)
            .expect("an update that stays finite");
        let here = queries.clone().to_device(&self.memory.device());
        self.memory.read(&state, here).to_device(&queries.device())
    }

    fn bytes(&self) -> usize {
        self.memory.config().state_bytes()
    }
}

/// The last pairs that fit, found by the largest product with their key.
struct FlatIndex {
    capacity: usize,
    keys: Vec<Tensor<2>>,
    values: Vec<Tensor<2>>,
    width: usize,
}

impl FlatIndex {
    fn new(bytes: usize, width: usize) -> Self {
        Self {
            capacity: bytes / (2 * width * size_of::<f32>()),
            keys: Vec::new(),
            values: Vec::new(),
            width,
        }
    }
}

impl Store for FlatIndex {
    fn write(&mut self, keys: &Tensor<2>, values: &Tensor<2>) -> Result<usize, Box<dyn Error>> {
        let written = keys.dims()[0];
        for (all, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
            all.push(new.clone());
            let joined = Tensor::cat(std::mem::take(all), 0);
            let [count, _] = joined.dims();
            let kept = count.min(self.capacity);
            all.push(joined.narrow(0, count - kept, kept));
        }
        Ok(written)
    }

    fn read(&self, queries: &Tensor<2>) -> Tensor<2> {
        let (Some(keys), Some(values)) = (self.keys.first(), self.values.first()) else {
            return queries.zeros_like();
        };
        let nearest = queries.clone().matmul(keys.clone().transpose()).argmax(1);
        values.clone().select(0, nearest.squeeze_dim(1))
    }

    fn bytes(&self) -> usize {
        self.capacity * 2 * self.width * size_of::<f32>()
    }
}

/// `W <- W + k^T v`: linear attention without a denominator.
struct OuterProducts {
    weights: Tensor<2>,
}

impl OuterProducts {
    fn new(width: usize) -> Self {
        Self {
            weights: Tensor::zeros([width, width], &Device::flex()),
        }
    }
}

impl Store for OuterProducts {
    fn write(&mut self, keys: &Tensor<2>, values: &Tensor<2>) -> Result<usize, Box<dyn Error>> {
        let sum = keys.clone().transpose().matmul(values.clone());
        self.weights = self.weights.clone() + sum;
        Ok(keys.dims()[0])
    }

    fn read(&self, queries: &Tensor<2>) -> Tensor<2> {
        queries.clone().matmul(self.weights.clone())
    }

    fn bytes(&self) -> usize {
        self.weights.shape().num_elements() * size_of::<f32>()
    }
}
