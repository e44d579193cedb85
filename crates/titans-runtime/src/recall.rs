//! Reading one snapshot.

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory, relative_error};

use crate::context::Context;
use crate::error::{RecallError, RowsError};
use crate::recalled::{RecallInfo, Recalled};
use crate::rows::{Rows, RowsOf};
use crate::snapshot::Snapshot;

/// Reads `queries` in one snapshot.
pub(crate) fn recall(
    context: &Context,
    snapshot: &Snapshot,
    queries: Rows<'_>,
) -> Result<Recalled, RecallError> {
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
) -> Result<RecallInfo, RecallError> {
    let (key_dim, value_dim) = context.widths();
    queries.check_shape(RowsOf::Queries, key_dim)?;
    RowsError::expect_size(
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
) -> Result<(), RecallError> {
    let (key_dim, value_dim) = context.widths();
    let (tokens, value_rows) = (keys.len(), values.len());
    let keys = keys.to_f32(RowsOf::Keys, key_dim)?;
    let values = values.to_f32(RowsOf::Values, value_dim)?;
    RowsError::expect_size("the number of value rows", tokens, value_rows)?;
    RowsError::expect_size(
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
