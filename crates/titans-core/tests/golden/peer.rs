//! `peer_*` cases: the layer of titans-pytorch, its projections here, its memory ours.

use burn::tensor::activation::{gelu, relu, sigmoid, silu};
use burn::tensor::{DType, Device, Tensor};
use serde_json::Value;
use titans_core::{
    Activation, AttentionalBias, FactorizedMlp, Form, GateSpan, GateValues, GatedResidualMlp,
    GradientBase, GradientDescent, L2, L2Scale, LearningAlgorithm, MemoryArchitecture,
    MemoryConfig, MemoryState, MirasConfig, Mlp, Momentum, NeuralMemory, NewtonSchulz,
    NewtonSchulzSchedule, NoRetention, Preset, ReadTime, Reading, RetentionGate, StateRole,
    SwiGluMlp, Tail, TokenGates, Tokens, UpdateConfig, Wrap,
};

use crate::case::{Case, Errors};
use crate::reference::loss;

/// Options of the layer that this file knows; another one is an error, not a guess.
const KNOWN_OPTIONS: &[&str] = &[
    "chunk_size",
    "batch_size",
    "heads",
    "dim_head",
    "qk_rmsnorm",
    "post_rmsnorm",
    "pre_rmsnorm",
    "max_grad_norm",
    "spectral_norm_surprises",
    "default_step_transform_max_lr",
    "activation",
    "store_memory_loss_fn",
    "mem_model_norm_add_residual",
    "momentum",
    "momentum_order",
    // Initial values of parameters that the file holds.
    "init_adaptive_step_bias",
    "init_momentum_bias",
    "init_decay_bias",
];

struct Layer<'a> {
    case: &'a Case,
    dtype: DType,
    heads: usize,
    head_dim: usize,
    chunk: usize,
    tokens: usize,
    batch: usize,
    momentum_order: usize,
}

pub(crate) fn run(case: &Case, dtype: DType) -> Errors {
    let options = &case.config["kw"];
    for option in options.as_object().expect("options").keys() {
        assert!(
            KNOWN_OPTIONS.contains(&option.as_str()),
            "{}: option {option} is not known here",
            case.name
        );
    }
    let count = |key: &str| options[key].as_u64().map(|count| count as usize);
    let x = case.array("in.x");
    let heads = count("heads").unwrap_or(1);
    let layer = Layer {
        case,
        dtype,
        heads,
        head_dim: count("dim_head").unwrap_or(x.shape[2] / heads),
        chunk: count("chunk_size").expect("chunk_size"),
        tokens: x.shape[1],
        batch: x.shape[0],
        momentum_order: case.array("mid.eta").shape[2],
    };
    layer.run()
}

impl Layer<'_> {
    fn option(&self, key: &str) -> &Value {
        &self.case.config["kw"][key]
    }

    fn on(&self, key: &str, default: bool) -> bool {
        self.option(key).as_bool().unwrap_or(default)
    }

    fn outer<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.case.tensor(&format!("in.outer.{name}"), self.dtype)
    }

    fn has_outer(&self, name: &str) -> bool {
        self.case.has(&format!("in.outer.{name}"))
    }

    fn run(&self) -> Errors {
        let errors = Errors::default();
        let (case, dtype) = (self.case, self.dtype);
        let [batch, heads, width] = [self.batch, self.heads, self.head_dim];
        let stored = self.tokens / self.chunk * self.chunk;
        let x: Tensor<3> = case.tensor("in.x", dtype);
        let normed = |name: &str| {
            if self.has_outer(name) {
                return rms_norm(x.clone()) * self.row(name);
            }
            x.clone()
        };
        let to_store = normed("store_norm.weight");
        let to_read = normed("retrieve_norm.weight");

        // With an activation the projection is the first part of a sequence.
        let project = |rows: &Tensor<3>, name: &str| {
            let part = format!("{name}.0");
            let is_sequence = self.has_outer(&format!("{part}.weight"));
            self.activated(self.linear(rows, if is_sequence { &part } else { name }))
        };
        let mut keys = self.split_heads(project(&to_store, "to_keys"));
        let values = self.split_heads(project(&to_store, "to_values"));
        let mut queries = self.split_heads(project(&to_read, "to_queries"));
        if self.has_outer("k_norm.gamma") {
            keys = rms_norm4(keys) * self.head_gain("k_norm.gamma");
            queries = rms_norm4(queries) * self.head_gain("q_norm.gamma");
        }
        let keys = keys.slice([0..batch, 0..heads, 0..stored]);
        let values = values.slice([0..batch, 0..heads, 0..stored]);

        let max_step = self
            .option("default_step_transform_max_lr")
            .as_f64()
            .unwrap_or(1.0);
        let whole_chunks = to_store.clone().slice([0..batch, 0..stored]);
        let steps = sigmoid(self.linear(&whole_chunks, "to_adaptive_step.0"));
        let steps = steps.swap_dims(1, 2) * max_step;
        let chunks = stored / self.chunk;
        let means = whole_chunks
            .reshape([batch, chunks, self.chunk, to_store.dims()[2]])
            .mean_dim(2)
            .reshape([batch, chunks, to_store.dims()[2]]);
        let forgotten = sigmoid(self.linear(&means, "to_decay_factor.0")).swap_dims(1, 2);
        let order = self.momentum_order;
        // Columns are (head, order), order fastest.
        let decays: Tensor<4> = if self.on("momentum", true) {
            sigmoid(self.linear(&means, "to_momentum.0"))
                .reshape([batch, chunks, heads, order])
                .swap_dims(1, 2)
                .swap_dims(2, 3)
        } else {
            case.tensor("mid.eta", dtype)
        };
        errors.compare(case, "mid.k", &keys);
        errors.compare(case, "mid.v", &values);
        errors.compare(case, "mid.q", &queries);
        errors.compare(case, "mid.theta", &steps);
        errors.compare(case, "mid.alpha", &forgotten);
        errors.compare(case, "mid.eta", &decays);

        let memory = NeuralMemory::new(self.config(), &Device::flex()).expect("valid");
        let memories = batch * heads;
        let names = self.parameter_names(&memory);
        let decay_of = |index: usize| {
            let of_order = decays.clone().narrow(2, index, 1);
            GateValues::PerUpdate(of_order.reshape([memories, chunks]))
        };
        // The layer stores whole chunks, and asks for every token.
        let tokens = |from: usize, to: usize| {
            let rows = |rows: &Tensor<4>| {
                let [_, _, _, width] = rows.dims();
                rows.clone()
                    .narrow(2, from, to - from)
                    .reshape([memories, to - from, width])
            };
            let of_chunks = |values: GateValues| match values {
                GateValues::PerUpdate(values) => {
                    let (first, last) = (from / self.chunk, to / self.chunk);
                    GateValues::PerUpdate(values.narrow(1, first, last - first))
                }
                other => other,
            };
            let kept = (forgotten.clone() - 1.0).neg().reshape([memories, chunks]);
            let steps = steps.clone().narrow(2, from, to - from);
            Tokens {
                keys: rows(&keys),
                values: rows(&values),
                gates: TokenGates {
                    step_size: Some(GateValues::PerToken(steps.reshape([memories, to - from]))),
                    momentum_decay: Some(of_chunks(decay_of(0))),
                    second_momentum_decay: (order > 1).then(|| of_chunks(decay_of(1))),
                    retention: Some(of_chunks(GateValues::PerUpdate(kept))),
                    ..TokenGates::default()
                },
            }
        };

        for form in [Form::Chunkwise, Form::Recurrent] {
            // Chunk by chunk: the weights after each.
            let mut states = self.initial(&memory, &names);
            self.compare_weights(&errors, &names, 0, &states);
            for chunk in 0..chunks {
                let (from, to) = (chunk * self.chunk, (chunk + 1) * self.chunk);
                memory
                    .pass(&mut states, tokens(from, to), None, Tail::Hold, form)
                    .expect("finite");
                self.compare_weights(&errors, &names, chunk + 1, &states);
            }

            // In one pass: losses, reads, the last state.
            let mut states = self.initial(&memory, &names);
            let all_queries: Tensor<3> = queries.clone().reshape([memories, self.tokens, width]);
            let reading = Reading {
                queries: all_queries.clone().slice([0..memories, 0..stored]),
                when: ReadTime::FullUpdates,
            };
            let mut reads = Vec::new();
            if stored > 0 {
                let passed = memory
                    .pass(
                        &mut states,
                        tokens(0, stored),
                        Some(reading),
                        Tail::Hold,
                        form,
                    )
                    .expect("finite");
                reads.push(passed.retrieved.expect("there were queries"));
                let loss = passed.loss.reshape([batch, heads, stored]);
                errors.compare(case, "out.loss", &loss);
            } else {
                let none: Tensor<3> = Tensor::zeros([batch, heads, 0], (&Device::flex(), dtype));
                errors.compare(case, "out.loss", &none);
            }
            if stored < self.tokens {
                let rest = all_queries.narrow(1, stored, self.tokens - stored);
                reads.push(memory.read_batch(&states, rest));
            }
            let retrieved = self.merge(Tensor::cat(reads, 1), &to_read);
            errors.compare(case, "out.retrieved", &retrieved);
            self.compare_last(&errors, &memory, &names, &states);
        }
        errors
    }

    fn compare_weights(
        &self,
        errors: &Errors,
        names: &[String],
        chunk: usize,
        states: &[MemoryState],
    ) {
        for (index, name) in names.iter().enumerate() {
            let of_all = states.iter().map(|state| state.tensors()[index].clone());
            let ours: Tensor<3> = Tensor::stack(of_all.collect(), 0);
            errors.compare_at(self.case, &format!("out.updates.{name}"), chunk, &ours);
        }
    }

    fn compare_last(
        &self,
        errors: &Errors,
        memory: &NeuralMemory,
        names: &[String],
        states: &[MemoryState],
    ) {
        for (index, name) in names.iter().enumerate() {
            let is_gain = name.ends_with("gamma");
            let compare = |name: String, of_all: Vec<Tensor<2>>| {
                let ours: Tensor<3> = Tensor::stack(of_all, 0);
                if is_gain {
                    let gains: Tensor<2> = ours.squeeze_dim(1);
                    errors.compare(self.case, &name, &gains);
                } else {
                    errors.compare(self.case, &name, &ours);
                }
            };
            let weights = states.iter().map(|state| state.tensors()[index].clone());
            compare(format!("out.last_W.{name}"), weights.collect());
            let bases = states
                .iter()
                .map(|s| memory.gradient_base(s)[index].clone());
            compare(format!("out.base_W.{name}"), bases.collect());
            let name = format!("out.last_S.{name}");
            if !self.on("momentum", true) && !self.case.has(&name) {
                continue;
            }
            let momenta: Vec<Tensor<3>> = (0..self.momentum_order)
                .map(|order| {
                    let of_all = states.iter().map(|s| s.momenta()[order][index].clone());
                    Tensor::stack(of_all.collect(), 0)
                })
                .collect();
            let momenta: Tensor<4> = Tensor::stack(momenta, 0);
            if is_gain {
                let gains: Tensor<3> = momenta.squeeze_dim(2);
                errors.compare(self.case, &name, &gains);
            } else {
                errors.compare(self.case, &name, &momenta);
            }
        }
    }

    fn initial(&self, memory: &NeuralMemory, names: &[String]) -> Vec<MemoryState> {
        (0..self.batch * self.heads)
            .map(|index| {
                let head = index % self.heads;
                let tensors = names
                    .iter()
                    .map(|name| {
                        let name = format!("in.P0.{name}");
                        if name.ends_with("gamma") {
                            let gains: Tensor<2> = self.case.tensor(&name, self.dtype);
                            return gains.narrow(0, head, 1);
                        }
                        let all: Tensor<3> = self.case.tensor(&name, self.dtype);
                        all.narrow(0, head, 1).squeeze_dim(0)
                    })
                    .collect();
                memory.state_from_tensors(tensors)
            })
            .collect()
    }

    /// The layer's names of the memory's parameters, in our order.
    fn parameter_names(&self, memory: &NeuralMemory) -> Vec<String> {
        let names = memory.initial_state().to_host().tensors;
        names
            .iter()
            .filter(|tensor| tensor.role == StateRole::Weights)
            .map(|tensor| {
                if tensor.name == "gain" {
                    return "norm.gamma".to_owned();
                }
                let theirs = tensor
                    .name
                    .replace("w.", "weights.")
                    .replace(".in", ".0")
                    .replace(".out", ".1")
                    .replace(".gate", ".2")
                    .replace("projection", "final_proj");
                if self.case.has(&format!("in.P0.model.{theirs}")) {
                    format!("model.{theirs}")
                } else {
                    theirs
                }
            })
            .collect()
    }

    fn config(&self) -> MemoryConfig {
        let momentum = Momentum {
            step_size: 1.0,
            momentum_decay: 0.0,
            second_momentum_decay: (self.momentum_order > 1).then_some(0.0),
        };
        assert!(self.momentum_order <= 2, "momentum of order 3 or more");
        MemoryConfig {
            key_dim: self.head_dim,
            value_dim: self.head_dim,
            seed: 0,
            miras: MirasConfig {
                architecture: self.architecture(),
                attentional_bias: match self.option("store_memory_loss_fn") {
                    Value::Null => AttentionalBias::L2(L2 {
                        scale: L2Scale::Mean,
                    }),
                    given => loss(self.case, given),
                },
                retention_gate: RetentionGate::None(NoRetention),
                learning_algorithm: if self.on("spectral_norm_surprises", false) {
                    LearningAlgorithm::NewtonSchulz(NewtonSchulz {
                        momentum,
                        schedule: NewtonSchulzSchedule::Constant,
                    })
                } else if self.on("momentum", true) {
                    LearningAlgorithm::Momentum(momentum)
                } else {
                    LearningAlgorithm::GradientDescent(GradientDescent { step_size: 1.0 })
                },
            },
            update: UpdateConfig {
                update_size: self.chunk,
                gate_span: GateSpan::PerUpdate,
                gradient_base: match self.option("batch_size").as_u64() {
                    Some(tokens) => GradientBase::EveryTokens(tokens as usize),
                    None => GradientBase::Initial,
                },
                max_gradient_norm: self.option("max_grad_norm").as_f64().map(|n| n as f32),
                ..Preset::Titans.config().update
            },
        }
    }

    fn architecture(&self) -> MemoryArchitecture {
        let columns = |name: &str| self.case.array(&format!("in.P0.{name}")).shape[2];
        let depth = self.case.number("depth");
        let activation = Activation::Gelu;
        let plain = self.case.has("in.P0.weights.0") || self.case.has("in.P0.weights.0.0");
        let prefix = if plain { "" } else { "model." };
        let wrap = if self.on("mem_model_norm_add_residual", true) {
            Wrap::NormResidual
        } else {
            Wrap::Plain
        };
        match self.case.word("model") {
            "mlp" => MemoryArchitecture::Mlp(Mlp {
                depth,
                hidden: columns(&format!("{prefix}weights.0")),
                activation,
                wrap,
            }),
            "factorized" => MemoryArchitecture::FactorizedMlp(FactorizedMlp {
                depth,
                rank: columns(&format!("{prefix}weights.0.0")),
                activation,
                wrap,
            }),
            // This network brings its own normalisation, without a residual.
            "swiglu" => {
                assert_eq!(wrap, Wrap::Plain, "swiglu inside another normalisation");
                let blocks = (0..)
                    .take_while(|block| self.case.has(&format!("in.P0.weights.{block}.0")))
                    .count();
                MemoryArchitecture::SwiGluMlp(SwiGluMlp {
                    depth: blocks,
                    hidden: columns("weights.0.0") / 2,
                    activation,
                    wrap: Wrap::Norm,
                })
            }
            "gatedres" => {
                let blocks = (0..)
                    .take_while(|block| self.case.has(&format!("in.P0.{prefix}weights.{block}.0")))
                    .count();
                MemoryArchitecture::GatedResidualMlp(GatedResidualMlp {
                    depth: blocks,
                    hidden: columns(&format!("{prefix}weights.0.0")),
                    activation,
                    wrap,
                })
            }
            other => panic!("{}: unknown memory network {other}", self.case.name),
        }
    }

    /// `rows @ weight^T + bias`.
    fn linear(&self, rows: &Tensor<3>, name: &str) -> Tensor<3> {
        let weight: Tensor<2> = self.outer(&format!("{name}.weight"));
        let output = rows.clone().matmul(weight.transpose().unsqueeze_dim(0));
        let bias = format!("{name}.bias");
        if self.has_outer(&bias) {
            return output + self.row(&bias);
        }
        output
    }

    fn row(&self, name: &str) -> Tensor<3> {
        let row: Tensor<1> = self.outer(name);
        let [width] = row.dims();
        row.reshape([1, 1, width])
    }

    fn activated(&self, rows: Tensor<3>) -> Tensor<3> {
        match self.option("activation").as_str() {
            None => rows,
            Some("silu") => silu(rows),
            Some("gelu") => gelu(rows),
            Some("relu") => relu(rows),
            Some(other) => panic!("{}: unknown activation {other}", self.case.name),
        }
    }

    fn split_heads(&self, rows: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, _] = rows.dims();
        rows.reshape([batch, tokens, self.heads, self.head_dim])
            .swap_dims(1, 2)
    }

    fn head_gain(&self, name: &str) -> Tensor<4> {
        let gain: Tensor<3> = self.outer(name);
        gain.unsqueeze_dim::<4>(0) + 1.0
    }

    /// Reads of all memories as the layer's output.
    fn merge(&self, reads: Tensor<3>, to_read: &Tensor<3>) -> Tensor<3> {
        let [batch, heads, tokens] = [self.batch, self.heads, self.tokens];
        let mut reads: Tensor<4> = reads.reshape([batch, heads, tokens, self.head_dim]);
        if self.has_outer("multihead_rmsnorm.gamma") {
            reads = rms_norm4(reads) * self.head_gain("multihead_rmsnorm.gamma");
        }
        if self.has_outer("retrieve_gate.0.weight") {
            let gates = sigmoid(self.linear(to_read, "retrieve_gate.0")).swap_dims(1, 2);
            reads = reads * gates.unsqueeze_dim::<4>(3);
        }
        let merged = reads
            .swap_dims(1, 2)
            .reshape([batch, tokens, heads * self.head_dim]);
        if self.has_outer("combine_heads.weight") {
            return self.linear(&merged, "combine_heads");
        }
        merged
    }
}

/// The smallest number that the element type can add to one, as torch's default.
fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 {
        f64::EPSILON
    } else {
        f64::from(f32::EPSILON)
    }
}

fn rms_norm(rows: Tensor<3>) -> Tensor<3> {
    let mean = (rows.clone() * rows.clone()).mean_dim(2) + epsilon(rows.dtype());
    rows / mean.sqrt()
}

fn rms_norm4(rows: Tensor<4>) -> Tensor<4> {
    let mean = (rows.clone() * rows.clone()).mean_dim(3) + epsilon(rows.dtype());
    rows / mean.sqrt()
}
