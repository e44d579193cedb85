//! `ref_*` cases: the equations, given keys, values and gates.

use burn::tensor::{DType, Tensor};
use serde_json::Value;
use titans_core::{
    Activation, AttentionalBias, Form, GateSpan, GateValues, GradientBase, Huber, HuberForm, L2,
    L2Scale, LearningAlgorithm, Lp, MemoryArchitecture, MemoryConfig, MemoryState, MirasConfig,
    Mlp, Momentum, NeuralMemory, NewtonSchulz, NewtonSchulzSchedule, NoRetention, Preset, ReadTime,
    Reading, RetentionGate, Tail, TokenGates, Tokens, UpdateConfig, Wrap,
};

use crate::case::{Case, Errors};

pub(crate) fn loss(case: &Case, loss: &Value) -> AttentionalBias {
    let number = |key: &str| loss[key].as_f64().expect("a number of the loss") as f32;
    match loss["kind"].as_str().expect("a kind of loss") {
        "l2_mean" => AttentionalBias::L2(L2 {
            scale: L2Scale::Mean,
        }),
        "l2_sum" => AttentionalBias::L2(L2 {
            scale: L2Scale::Sum,
        }),
        "l2_half" => AttentionalBias::L2(L2 {
            scale: L2Scale::Half,
        }),
        "huber" => AttentionalBias::Huber(Huber {
            threshold: number("delta"),
            form: HuberForm::PerCoordinate,
        }),
        "huber_norm" | "hubernorm" => AttentionalBias::Huber(Huber {
            threshold: number("delta"),
            form: HuberForm::Norm,
        }),
        "lp" => AttentionalBias::Lp(Lp { power: number("p") }),
        other => panic!("{}: unknown loss {other}", case.name),
    }
}

fn config(case: &Case) -> MemoryConfig {
    let activation = match case.word("act") {
        "gelu" => Activation::Gelu,
        "gelu_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "relu" => Activation::Relu,
        other => panic!("{}: unknown activation {other}", case.name),
    };
    let wrap = match case.word("wrap") {
        "plain" => Wrap::Plain,
        "res" => Wrap::Residual,
        "ln_res" => Wrap::NormResidual,
        other => panic!("{}: unknown wrap {other}", case.name),
    };
    let momentum = Momentum {
        step_size: 1.0,
        momentum_decay: 0.0,
        second_momentum_decay: None,
    };
    MemoryConfig {
        key_dim: case.number("dk"),
        value_dim: case.number("dv"),
        seed: 0,
        miras: MirasConfig {
            architecture: MemoryArchitecture::Mlp(Mlp {
                depth: case.number("depth"),
                hidden: case.number("hid"),
                activation,
                wrap,
            }),
            attentional_bias: loss(case, &case.config["loss"]),
            retention_gate: RetentionGate::None(NoRetention),
            learning_algorithm: if case.flag("spectral") {
                LearningAlgorithm::NewtonSchulz(NewtonSchulz {
                    momentum,
                    schedule: NewtonSchulzSchedule::Constant,
                })
            } else {
                LearningAlgorithm::Momentum(momentum)
            },
        },
        update: UpdateConfig {
            update_size: case.number("chunk"),
            gate_span: match case.word("rule") {
                "chunk" => GateSpan::PerUpdate,
                "token" => GateSpan::PerToken,
                other => panic!("{}: unknown rule {other}", case.name),
            },
            gradient_base: match &case.config["base"] {
                Value::String(base) if base == "chunk" => GradientBase::UpdateStart,
                Value::String(base) if base == "initial" => GradientBase::Initial,
                Value::Number(every) => {
                    GradientBase::EveryTokens(every.as_u64().expect("a count") as usize)
                }
                other => panic!("{}: unknown base {other}", case.name),
            },
            max_gradient_norm: case.config["max_grad_norm"]
                .as_f64()
                .map(|norm| norm as f32),
            ..Preset::Titans.config().update
        },
    }
}

/// One case under way.
struct Run<'a> {
    case: &'a Case,
    dtype: DType,
    memory: NeuralMemory,
    errors: Errors,
    /// Names of the parameters, in our order.
    names: Vec<String>,
    memories: usize,
    tokens: usize,
    chunk: usize,
    tail: Tail,
}

pub(crate) fn run(case: &Case, dtype: DType) -> Errors {
    let config = config(case);
    let mut names: Vec<String> = (0..case.number("depth"))
        .map(|l| format!("W.{l}"))
        .collect();
    if case.has("in.P0.g") {
        names.push("g".to_owned());
    }
    let run = Run {
        case,
        dtype,
        memory: NeuralMemory::new(config, &burn::tensor::Device::flex()).expect("valid"),
        errors: Errors::default(),
        names,
        memories: case.number("B"),
        tokens: case.number("T"),
        chunk: case.number("chunk"),
        tail: match case.word("tail") {
            "apply" => Tail::Apply,
            "hold" => Tail::Hold,
            other => panic!("{}: unknown tail {other}", case.name),
        },
    };
    for form in [Form::Chunkwise, Form::Recurrent] {
        run.check_reads(form);
        run.check_updates(form);
        if case.word("rule") == "token" {
            run.check_every_token(form);
        }
    }
    run.check_gradients();
    run.errors
}

impl Run<'_> {
    fn initial(&self) -> Vec<MemoryState> {
        let set = |kind: &str, memory: usize| -> Vec<Tensor<2>> {
            self.names
                .iter()
                .map(|name| {
                    let name = format!("in.{kind}.{name}");
                    if name.ends_with(".g") {
                        let gains: Tensor<2> = self.case.tensor(&name, self.dtype);
                        return gains.narrow(0, memory, 1);
                    }
                    let all: Tensor<3> = self.case.tensor(&name, self.dtype);
                    all.narrow(0, memory, 1).squeeze_dim(0)
                })
                .collect()
        };
        (0..self.memories)
            .map(|memory| {
                self.memory
                    .state_from_tensors(set("P0", memory))
                    .with_momenta(vec![set("S0", memory)])
            })
            .collect()
    }

    /// The tokens of a range; `to` may cut an update short.
    fn tokens_of(&self, from: usize, to: usize) -> Tokens {
        let rows = |name: &str| -> Tensor<3> {
            self.case
                .tensor::<3>(name, self.dtype)
                .narrow(1, from, to - from)
        };
        let gate = |name: &str| -> GateValues {
            let values: Tensor<2> = self.case.tensor(name, self.dtype);
            if self.case.word("rule") == "token" {
                return GateValues::PerToken(values.narrow(1, from, to - from));
            }
            let first = from / self.chunk;
            let count = to.div_ceil(self.chunk) - first;
            GateValues::PerUpdate(values.narrow(1, first, count))
        };
        let theta: Tensor<2> = self.case.tensor("in.theta", self.dtype);
        let kept = match gate("in.alpha") {
            GateValues::PerToken(alpha) => GateValues::PerToken((alpha - 1.0).neg()),
            GateValues::PerUpdate(alpha) => GateValues::PerUpdate((alpha - 1.0).neg()),
        };
        Tokens {
            keys: rows("in.k"),
            values: rows("in.v"),
            gates: TokenGates {
                step_size: Some(GateValues::PerToken(theta.narrow(1, from, to - from))),
                momentum_decay: Some(gate("in.eta")),
                retention: Some(kept),
                ..TokenGates::default()
            },
        }
    }

    fn pass(
        &self,
        states: &mut [MemoryState],
        from: usize,
        to: usize,
        when: Option<ReadTime>,
        form: Form,
        tail: Tail,
    ) -> titans_core::Passed {
        let reading = when.map(|when| Reading {
            queries: self
                .case
                .tensor::<3>("in.q", self.dtype)
                .narrow(1, from, to - from),
            when,
        });
        self.memory
            .pass(states, self.tokens_of(from, to), reading, tail, form)
            .expect("finite")
    }

    /// The whole stream in one pass: losses, norms, every kind of read, the last state.
    fn check_reads(&self, form: Form) {
        let reads = [
            ("out.y_start", ReadTime::UpdateStart),
            ("out.y_end", ReadTime::UpdateEnd),
            ("out.y_token", ReadTime::Token),
            ("out.y_peer", ReadTime::FullUpdates),
        ];
        for (name, when) in reads {
            if !self.case.has(name) {
                continue;
            }
            let mut states = self.initial();
            let passed = self.pass(&mut states, 0, self.tokens, Some(when), form, self.tail);
            let retrieved = passed.retrieved.expect("there were queries");
            self.errors.compare(self.case, name, &retrieved);
            for (name, ours) in [
                ("out.loss", &passed.loss),
                ("out.grad_norm_token", &passed.gradient_norm),
                ("out.surprise", &passed.update_norm),
            ] {
                if self.case.has(name) {
                    self.errors.compare(self.case, name, ours);
                }
            }
            for (index, name) in self.names.iter().enumerate() {
                let weights = format!("out.last.W.{name}");
                let momentum = format!("out.last.S.{name}");
                if self.case.has(&weights) {
                    self.compare_set(&weights, None, &states, &|s| s.tensors()[index].clone());
                    self.compare_set(&momentum, None, &states, &|s| s.momenta()[0][index].clone());
                }
            }
        }
    }

    /// Update by update: weights and momentum after each.
    fn check_updates(&self, form: Form) {
        if self.case.word("rule") == "token" || !self.case.has("out.W.W.0") {
            return;
        }
        let mut states = self.initial();
        for (update, from) in (0..self.tokens).step_by(self.chunk).enumerate() {
            let to = self.tokens.min(from + self.chunk);
            self.pass(&mut states, from, to, None, form, self.tail);
            self.compare_state(update, &states);
        }
    }

    /// Token by token inside each update: what a short update up to the token leaves.
    fn check_every_token(&self, form: Form) {
        let mut states = self.initial();
        for from in (0..self.tokens).step_by(self.chunk) {
            let to = self.tokens.min(from + self.chunk);
            for end in from + 1..=to {
                let mut until = states.clone();
                self.pass(&mut until, from, end, None, form, Tail::Apply);
                self.compare_state(end - 1, &until);
            }
            self.pass(&mut states, from, to, None, form, self.tail);
        }
    }

    /// The gradient of each update at the weights before it.
    fn check_gradients(&self) {
        if !self.case.has("out.G.W.0") {
            return;
        }
        let mut states = self.initial();
        for (update, from) in (0..self.tokens).step_by(self.chunk).enumerate() {
            let to = self.tokens.min(from + self.chunk);
            let tokens = self.tokens_of(from, to);
            let gradients: Vec<Vec<Tensor<2>>> = states
                .iter()
                .enumerate()
                .map(|(memory, state)| self.memory.gradient(state, one_memory(&tokens, memory)))
                .collect();
            for (index, name) in self.names.iter().enumerate() {
                let of_all = gradients.iter().map(|g| g[index].clone()).collect();
                let name = format!("out.G.{name}");
                let ours: Tensor<3> = Tensor::stack(of_all, 0);
                self.errors.compare_at(self.case, &name, update, &ours);
            }
            self.pass(&mut states, from, to, None, Form::Chunkwise, self.tail);
        }
    }

    fn compare_state(&self, at: usize, states: &[MemoryState]) {
        for (index, name) in self.names.iter().enumerate() {
            let weights = format!("out.W.{name}");
            let momentum = format!("out.S.{name}");
            self.compare_set(&weights, Some(at), states, &|s| s.tensors()[index].clone());
            self.compare_set(&momentum, Some(at), states, &|s| {
                s.momenta()[0][index].clone()
            });
        }
    }

    fn compare_set(
        &self,
        name: &str,
        at: Option<usize>,
        states: &[MemoryState],
        of: &dyn Fn(&MemoryState) -> Tensor<2>,
    ) {
        let ours: Tensor<3> = Tensor::stack(states.iter().map(of).collect(), 0);
        match at {
            Some(at) => self.errors.compare_at(self.case, name, at, &ours),
            None if name.ends_with(".g") => {
                let gains: Tensor<2> = ours.squeeze_dim(1);
                self.errors.compare(self.case, name, &gains);
            }
            None => self.errors.compare(self.case, name, &ours),
        }
    }
}

fn one_memory(tokens: &Tokens, memory: usize) -> Tokens {
    let gate = |gate: &Option<GateValues>| {
        gate.as_ref().map(|gate| match gate {
            GateValues::PerToken(values) => {
                GateValues::PerToken(values.clone().narrow(0, memory, 1))
            }
            GateValues::PerUpdate(values) => {
                GateValues::PerUpdate(values.clone().narrow(0, memory, 1))
            }
        })
    };
    Tokens {
        keys: tokens.keys.clone().narrow(0, memory, 1),
        values: tokens.values.clone().narrow(0, memory, 1),
        gates: TokenGates {
            step_size: gate(&tokens.gates.step_size),
            momentum_decay: gate(&tokens.gates.momentum_decay),
            retention: gate(&tokens.gates.retention),
            ..TokenGates::default()
        },
    }
}
