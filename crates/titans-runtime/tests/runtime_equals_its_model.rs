//! Whatever is asked of a runtime, in whatever order, every memory is what one thread gives
//! that writes the same tokens one after the other.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, model_cases};
use proptest::prelude::*;
use titans_core::NeuralMemory;
use titans_runtime::{Durability, Runtime, RuntimeConfig, UserMemory};
use titans_store::SaveMode;

const USERS: usize = 4;
/// Memories that fit: fewer than users, so that some have to leave.
const ROOM: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Observe { user: usize, tokens: usize },
    Flush { user: usize },
    Pin { user: usize },
    RollBack { user: usize },
    Forget { user: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    prop_oneof![
        8 => (user.clone(), 0usize..3 * CHUNK).prop_map(|(user, tokens)| Step::Observe { user, tokens }),
        2 => user.clone().prop_map(|user| Step::Flush { user }),
        2 => user.clone().prop_map(|user| Step::Pin { user }),
        2 => user.clone().prop_map(|user| Step::RollBack { user }),
        1 => user.prop_map(|user| Step::Forget { user }),
        2 => Just(Step::Restart),
    ]
}

/// What one user's memory must be: the tokens it has learned, by number.
#[derive(Clone, Debug, Default)]
struct Model {
    learned: Vec<usize>,
    pinned: Option<usize>,
    opened: bool,
    forgotten: bool,
}

/// Tokens that all users draw from.
fn stream() -> Stream {
    Stream::new(40 * CHUNK, 77)
}

fn settings(durability: Durability, mode: SaveMode) -> RuntimeConfig {
    let mut config = config();
    config.durability = durability;
    config.store.mode = mode;
    config.resident_bytes = ROOM * config.bytes_per_user();
    config
}

fn name(user: usize) -> String {
    format!("user {user}")
}

fn apply(
    runtime: &Runtime,
    stream: &Stream,
    model: &mut HashMap<usize, Model>,
    next: &mut usize,
    step: &Step,
) {
    let (Step::Observe { user, .. }
    | Step::Flush { user }
    | Step::Pin { user }
    | Step::RollBack { user }
    | Step::Forget { user }) = *step
    else {
        return;
    };
    let model = model.entry(user).or_default();
    if let Step::Forget { .. } = step {
        let receipt = runtime.forget_user(name(user)).unwrap();
        assert_eq!(receipt.is_some(), model.opened);
        model.forgotten = model.opened;
        return;
    }
    let memory = match runtime.user(name(user)) {
        Ok(memory) => memory,
        Err(error) => {
            assert!(model.forgotten, "{error}");
            return;
        }
    };
    assert!(!model.forgotten);
    model.opened = true;
    match step {
        Step::Observe { tokens, .. } => {
            let start = *next % (stream.tokens() - 3 * CHUNK);
            *next += tokens;
            stream.observe(&memory, start..start + tokens).unwrap();
            model.learned.extend(start..start + tokens);
        }
        Step::Flush { .. } => memory.flush().unwrap(),
        // A memory that never saved has no generation to pin.
        Step::Pin { .. } if model.learned.is_empty() => {
            let _ = memory.pin();
        }
        Step::Pin { .. } => {
            memory.pin().unwrap();
            model.pinned = Some(model.learned.len());
        }
        Step::RollBack { .. } => match model.pinned {
            Some(tokens) => {
                let rolled_back = memory.roll_back().unwrap();
                assert_eq!(rolled_back.tokens, tokens as u64);
                model.learned.truncate(tokens);
            }
            None => assert!(memory.roll_back().is_err()),
        },
        Step::Forget { .. } | Step::Restart => {}
    }
}

/// What a single thread recalls after writing the tokens.
fn alone(stream: &Stream, learned: &[usize]) -> Vec<f32> {
    let device = Device::flex();
    let memory = NeuralMemory::new(config().memory, &device).unwrap();
    let mut state = memory.initial_state();
    let gather = |data: &[f32], dim: usize| -> Tensor<2> {
        let rows: Vec<f32> = learned
            .iter()
            .flat_map(|token| data[token * dim..][..dim].to_vec())
            .collect();
        Tensor::from_data(TensorData::new(rows, [learned.len(), dim]), &device)
    };
    let keys = gather(&stream.keys, KEY_DIM);
    let values = gather(&stream.values, VALUE_DIM);
    memory.write(&mut state, keys, values).unwrap();
    let queries = TensorData::new(stream.keys.clone(), [stream.tokens(), KEY_DIM]);
    memory
        .read(&state, Tensor::from_data(queries, &device))
        .into_data_as::<f32>()
        .try_into_vec::<f32>()
        .unwrap()
}

fn check(memory: &UserMemory, stream: &Stream, model: &Model) {
    memory.flush().unwrap();
    let progress = memory.progress();
    assert_eq!(progress.durable, model.learned.len() as u64);
    assert_eq!(progress.accepted, progress.visible);
    assert!(stream.recall(memory) == alone(stream, &model.learned));
}

fn run(dir: &Path, config: &RuntimeConfig, steps: &[Step]) {
    let stream = stream();
    let mut model = HashMap::new();
    let mut next = 0;
    let open = || Runtime::open(dir, config.clone()).unwrap();
    let mut runtime = open();
    for step in steps {
        if let Step::Restart = step {
            assert!(runtime.close(Duration::from_secs(60)).is_durable());
            runtime = open();
        }
        apply(&runtime, &stream, &mut model, &mut next, step);
        assert!(runtime.resident_users() <= ROOM);
    }
    for (user, model) in &model {
        match runtime.user(name(*user)) {
            Ok(memory) => check(&memory, &stream, model),
            Err(_) => assert!(model.forgotten),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: model_cases(24), ..ProptestConfig::default() })]

    #[test]
    fn any_steps_under_any_policy(
        steps in prop::collection::vec(step(), 1..40),
        policy in 0usize..3,
        journal in any::<bool>(),
    ) {
        let durability = [
            Durability::EveryChunk,
            Durability::Async { max_lag: 3 },
            Durability::Interval(Duration::from_secs(3600)),
        ][policy];
        let mode = if journal { SaveMode::Journal } else { SaveMode::Snapshot };
        let root = tempfile::tempdir().unwrap();
        run(root.path(), &settings(durability, mode), &steps);
    }
}
