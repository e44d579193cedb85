//! What the learning threads do: chunks of one or many users to their next snapshots.
//!
//! A learner has a shard from the moment it takes its chunk until it has published what came
//! of it, so the chunks of a user are learned in order. Between two chunks the shard goes to
//! the end of the line.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use crate::engine::{Engine, guarded};
use crate::shard::{NextChunk, Shard, Step, TokenRows};
use crate::snapshot::Snapshot;

/// Shards with a chunk of another length that are passed over while a batch is put together.
/// Such a batch is as good as it gets long before the whole line was looked at.
const PASSED_OVER: usize = 64;

/// The next chunk of one user.
struct Chunk {
    shard: Arc<Shard>,
    rows: TokenRows,
}

impl Engine {
    /// Serves learners until the queue is closed.
    pub(crate) fn run_learner(&self) {
        while let Some(first) = self.learners.pop() {
            let mut chunks = self.next_batch(first);
            let outcomes = self.learn_guarded(&mut chunks);
            for (chunk, outcome) in chunks.iter().zip(outcomes) {
                self.conclude(&chunk.shard, outcome);
            }
        }
    }

    /// The chunk of a shard and chunks of the same length that wait beside it. Empty if the
    /// shard has nothing to learn any more.
    fn next_batch(&self, first: Arc<Shard>) -> Vec<Chunk> {
        let NextChunk::Rows(rows) = first.next_chunk(None, &self.bounds) else {
            return Vec::new();
        };
        let length = self.tokens(&rows);
        let mut chunks = vec![Chunk { shard: first, rows }];
        let mut passed_over = Vec::new();
        while chunks.len() < self.learn_batch && passed_over.len() < PASSED_OVER {
            let Some(turn) = self.learners.pop_due() else {
                break;
            };
            match turn.shard.next_chunk(Some(length), &self.bounds) {
                NextChunk::Rows(rows) => chunks.push(Chunk {
                    shard: turn.shard,
                    rows,
                }),
                NextChunk::OfOtherLength => passed_over.push(turn),
                NextChunk::Nothing => {}
            }
        }
        self.learners.put_back(passed_over);
        chunks
    }

    /// One outcome per chunk. A failure, a panic included, is that of the chunk that caused
    /// it: if the batch as a whole fails, each chunk is learned alone.
    fn learn_guarded(&self, chunks: &mut [Chunk]) -> Vec<Result<Snapshot, String>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        match guarded(|| self.timers.learn.time(|| self.learn(chunks))) {
            Ok(outcomes) => {
                self.timers.count_batch(chunks.len());
                outcomes
            }
            Err(reason) if chunks.len() == 1 => vec![Err(reason)],
            Err(_) => chunks
                .chunks_mut(1)
                .flat_map(|chunk| self.learn_guarded(chunk))
                .collect(),
        }
    }

    /// Learns chunks of equal length at once, each as if it were alone. An error is that of
    /// an unknown one of them.
    fn learn(&self, chunks: &mut [Chunk]) -> Result<Vec<Result<Snapshot, String>>, String> {
        let tokens = self.tokens(&chunks[0].rows);
        let memories = chunks.len();
        let (key_dim, value_dim) = self.widths();
        let device = self.memory.device();
        let tensor = |rows, dim| {
            Tensor::<3>::from_data(TensorData::new(rows, [memories, tokens, dim]), &device)
        };
        let keys = tensor(side_by_side(chunks, |rows| &mut rows.keys), key_dim);
        let values = tensor(side_by_side(chunks, |rows| &mut rows.values), value_dim);
        let current: Vec<Arc<Snapshot>> = chunks
            .iter()
            .map(|chunk| chunk.shard.published.load())
            .collect();
        let mut states: Vec<_> = chunks
            .iter()
            .zip(&current)
            .map(|(chunk, current)| current.next_state(chunk.shard.take_replaced()))
            .collect();
        let reports = self
            .memory
            .write_batch(&mut states, keys, values)
            .map_err(|error| error.to_string())?;
        let snapshots = current.iter().zip(states).zip(reports);
        Ok(snapshots
            .map(|((current, state), report)| {
                // Finite input can still overflow. Such a chunk must not replace a good
                // snapshot.
                if let Some(token) = report.surprise.iter().position(|s| !s.is_finite()) {
                    return Err(format!(
                        "token {token} of the chunk at token {} left the finite numbers",
                        current.state.tokens_seen
                    ));
                }
                Ok(Snapshot {
                    shard: current.shard,
                    version: current.version + 1,
                    last_chunk_id: state.tokens_seen.div_ceil(self.config.chunk_tokens as u64),
                    state,
                    changed: Some(report.delta),
                })
            })
            .collect())
    }

    /// Publishes what was learned of a chunk, or stops the user whose chunk failed.
    fn conclude(&self, shard: &Arc<Shard>, outcome: Result<Snapshot, String>) {
        match outcome {
            Ok(snapshot) => {
                let due = shard.publish(snapshot, &self.bounds, &self.timers.publish);
                self.savers.push(shard, due);
                // To the end of the line: other users are served in between.
                self.learners.push(shard, Instant::now());
            }
            Err(reason) => self.fail(shard, Step::Learning, reason),
        }
    }

    fn tokens(&self, rows: &TokenRows) -> usize {
        rows.keys.len() / self.config.memory.key_dim
    }
}

/// The rows of all chunks in one buffer. Those of a single chunk are moved, those of several
/// copied, because each may have to be learned alone yet.
fn side_by_side(chunks: &mut [Chunk], rows: impl Fn(&mut TokenRows) -> &mut Vec<f32>) -> Vec<f32> {
    match chunks {
        [chunk] => std::mem::take(rows(&mut chunk.rows)),
        chunks => {
            let mut all = Vec::new();
            for chunk in chunks {
                all.extend_from_slice(rows(&mut chunk.rows));
            }
            all
        }
    }
}
