//! Reading one snapshot.

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory, relative_error};

use crate::context::Context;
use crate::error::RuntimeError;
use crate::ledger::Neighbour;
use crate::recalled::Recalled;
use crate::rows::{Rows, RowsOf};
use crate::snapshot::Snapshot;

/// What a recall came from, and what is known about how good it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecallInfo {
    /// Version of the snapshot that answered; rises with every chunk learned.
    pub version: u64,
    /// Tokens that were handed over and are not in that snapshot.
    pub lag: u64,
    /// The stored items nearest to what was recalled, best first, each once: not what the
    /// memory holds, but what in the ledger it comes closest to. Empty where nothing was
    /// handed over as an item.
    pub neighbours: Vec<Neighbour>,
    /// How far what was recalled is from the nearest stored item, as the mean over the
    /// queries of `|recalled - value| / |value|`, the scale of the write gate: 0 is that item
    /// exactly, 1 and more is as good as nothing. `None` without items. The surprise of pairs
    /// that are known is what [`surprise_into`](crate::UserMemory::surprise_into) tells.
    pub surprise: Option<f32>,
    /// How often recalls as strong as this one were right, as the mean over the queries:
    /// measured, chunk by chunk, on pairs that the memory has written and on pairs of the
    /// stream before it learned them. Right means closer than `0.7 |value|` to the value.
    /// `None` while there are too few of either kind, and where nothing watches recall.
    pub confidence: Option<f32>,
}

/// Reads `queries` in one snapshot.
pub(crate) fn recall(
    context: &Context,
    snapshot: &Snapshot,
    queries: Rows<'_>,
) -> Result<Recalled, RuntimeError> {
    let (key_dim, dim) = context.widths();
    let queries = queries.to_f32(RowsOf::Queries, key_dim)?;
    let values = match queries.is_empty() {
        true => Vec::new(),
        false => {
            let memory = context.memories.of(snapshot.shard);
            read(memory, &snapshot.state, queries)
        }
    };
    let at_most = context.config.ledger.neighbours;
    let (neighbours, surprise) = snapshot.ledger.nearest(&values, dim, at_most);
    let info = RecallInfo {
        version: snapshot.version,
        lag: 0,
        neighbours,
        surprise,
        confidence: confidence(snapshot, &values, dim),
    };
    Ok(Recalled { values, dim, info })
}

/// [`recall`] into the caller's buffer, whose length is looked at before anything is computed.
pub(crate) fn recall_into(
    context: &Context,
    snapshot: &Snapshot,
    queries: Rows<'_>,
    buffer: &mut [f32],
) -> Result<RecallInfo, RuntimeError> {
    let (key_dim, value_dim) = context.widths();
    queries.check_shape(RowsOf::Queries, key_dim)?;
    RuntimeError::expect_size(
        "the length of the buffer for what is recalled",
        queries.len() * value_dim,
        buffer.len(),
    )?;
    let recalled = recall(context, snapshot, queries)?;
    buffer.copy_from_slice(&recalled.values);
    Ok(recalled.info)
}

fn confidence(snapshot: &Snapshot, recalled: &[f32], value_dim: usize) -> Option<f32> {
    let watched = snapshot.watched.as_ref()?;
    let rows = recalled.chunks_exact(value_dim);
    let tokens = rows.len() as f32;
    let each: Option<Vec<f32>> = rows.map(|row| watched.confidence(row)).collect();
    each.filter(|each| !each.is_empty())
        .map(|each| each.iter().sum::<f32>() / tokens)
}

/// `|recalled - value| / |value|` of each pair in one snapshot.
pub(crate) fn surprise(
    context: &Context,
    snapshot: &Snapshot,
    keys: Rows<'_>,
    values: Rows<'_>,
    surprise: &mut [f32],
) -> Result<(), RuntimeError> {
    let (key_dim, value_dim) = context.widths();
    let (tokens, value_rows) = (keys.len(), values.len());
    let keys = keys.to_f32(RowsOf::Keys, key_dim)?;
    let values = values.to_f32(RowsOf::Values, value_dim)?;
    RuntimeError::expect_size("the number of value rows", tokens, value_rows)?;
    RuntimeError::expect_size(
        "the length of the buffer for surprise",
        tokens,
        surprise.len(),
    )?;
    if tokens == 0 {
        return Ok(());
    }
    let recalled = read(context.memories.of(snapshot.shard), &snapshot.state, keys);
    let rows = recalled
        .chunks_exact(value_dim)
        .zip(values.chunks_exact(value_dim));
    for (surprise, (recalled, value)) in surprise.iter_mut().zip(rows) {
        *surprise = relative_error(recalled, value);
    }
    Ok(())
}

/// What a memory says for some queries.
pub(crate) fn read(memory: &NeuralMemory, state: &MemoryState, queries: Vec<f32>) -> Vec<f32> {
    let key_dim = memory.config().key_dim;
    let tokens = queries.len() / key_dim;
    let device = memory.device();
    let queries = Tensor::<2>::from_data(TensorData::new(queries, [tokens, key_dim]), &device);
    let read = memory.read(state, queries);
    read.into_data_as::<f32>()
        .try_into_vec::<f32>()
        .expect("the data was just converted to f32")
}
