//! Taking one item back out of a memory, approximately and at once.

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory};

use super::TokenRows;
use crate::context::Context;
use crate::error::CommandError;
use crate::recall;
use crate::snapshot::Snapshot;

/// Tokens that take away what some keys recall.
#[derive(Debug)]
pub(crate) struct Erasure {
    pub(crate) rows: TokenRows,
    /// What the keys recall after them, as a fraction of what they recall now.
    pub(crate) remains: f32,
}

/// Enough has gone.
const REMAINS: f32 = 0.02;
/// A rule with a small step takes away little at a time.
const MOST_PASSES: usize = 16;

/// Finds out on a copy of the memory which tokens it takes.
///
/// A value of zeros would take everything away at once and would be infinitely surprising,
/// which gates that look at surprise answer by forgetting everything around it. So each pass
/// hands over a quarter of what the keys still recall, which is as surprising as any new
/// token, until little remains or another pass makes it no better.
pub(super) fn plan_erasure(
    context: &Context,
    snapshot: &Snapshot,
    keys: &[f32],
) -> Result<Erasure, CommandError> {
    let (key_dim, value_dim) = context.widths();
    let tokens = keys.len() / key_dim;
    let energy = |recalled: &[f32]| recalled.iter().map(|x| x * x).sum::<f32>();
    let memory = context.memories.of(snapshot.shard);
    let read = |state: &MemoryState| recall::read(memory, state, keys.to_vec());
    let mut state = snapshot.state.clone();
    let mut recalled = read(&state);
    let at_first = energy(&recalled);
    let mut erasure = Erasure {
        rows: TokenRows {
            keys: keys.to_vec(),
            values: vec![0.0; tokens * value_dim],
        },
        remains: 0.0,
    };
    if at_first == 0.0 {
        return Ok(erasure);
    }
    erasure.remains = 1.0;
    for pass in 0..MOST_PASSES {
        let values: Vec<f32> = recalled.iter().map(|value| value / 4.0).collect();
        let rows = TokenRows {
            keys: keys.to_vec(),
            values,
        };
        let mut next = state.clone();
        learn(memory, &mut next, &rows)?;
        // What waits for the rest of its update has to be seen, too.
        let mut seen = next.clone();
        memory.finish_update(&mut seen).map_err(failed)?;
        let after = read(&seen);
        let remains = (energy(&after) / at_first).sqrt();
        if pass > 0 && remains >= erasure.remains {
            break;
        }
        match pass {
            0 => erasure.rows = rows,
            _ => {
                erasure.rows.keys.extend(rows.keys);
                erasure.rows.values.extend(rows.values);
            }
        }
        erasure.remains = remains;
        if remains <= REMAINS {
            break;
        }
        (state, recalled) = (next, after);
    }
    Ok(erasure)
}

/// Learns rows outside the stream.
pub(super) fn learn(
    memory: &NeuralMemory,
    state: &mut MemoryState,
    rows: &TokenRows,
) -> Result<(), CommandError> {
    let (key_dim, value_dim) = (memory.config().key_dim, memory.config().value_dim);
    let tokens = rows.keys.len() / key_dim;
    let device = memory.device();
    let tensor = |numbers: &[f32], dim| {
        Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), [tokens, dim]), &device)
    };
    let (keys, values) = (tensor(&rows.keys, key_dim), tensor(&rows.values, value_dim));
    let report = memory.write(state, keys, values).map_err(failed)?;
    match report.surprise.iter().all(|surprise| surprise.is_finite()) {
        true => Ok(()),
        false => Err(failed("the numbers left the finite ones")),
    }
}

fn failed(reason: impl ToString) -> CommandError {
    CommandError::CannotLearn {
        reason: reason.to_string(),
    }
}
