//! What the learning threads do: chunks of one or many users to their next snapshots.
//!
//! A learner has a shard from the moment it takes its chunk until it has published what came
//! of it, so the chunks of a user are learned in order. Between two chunks the shard goes to
//! the end of the line.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory};

use crate::alert::AlertKind;
use crate::engine::{Engine, guarded};
use crate::metric;
use crate::recall;
use crate::replay::PlacedRows;
use crate::shard::{NextChunk, Shard, Step, TokenRows};
use crate::snapshot::Snapshot;
use crate::watch::{Ask, Candidate, Outcome, ProbeScore, RecallDrop};

/// Shards with a chunk of another length or on another device that are passed over while a
/// batch is put together. Such a batch is as good as it gets long before the whole line was looked at.
const PASSED_OVER: usize = 64;

/// Probes that are put to a memory at once: a read gathers the rows of all its queries, which
/// for all probes together is more than the memory itself.
const ASKED_AT_ONCE: usize = 32;

/// The next chunk of one user.
struct Chunk {
    shard: Arc<Shard>,
    rows: TokenRows,
    /// The rows once more, for the watch and to be kept beside the memory: learning takes
    /// them for itself. Empty where neither is wanted.
    copy: Arc<TokenRows>,
}

/// What a chunk has made of a memory, not published yet.
struct Learned {
    snapshot: Snapshot,
    /// Surprise of each token.
    surprise: Vec<f32>,
}

/// A memory as the watch asks it, beside one learned chunk.
struct AskMemory<'a> {
    memory: &'a NeuralMemory,
    rows: &'a TokenRows,
}

impl Ask for AskMemory<'_> {
    fn rows(&self, tokens: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let config = self.memory.config();
        let pick = |rows: &[f32], dim: usize| -> Vec<f32> {
            let row = |token: &usize| &rows[token * dim..(token + 1) * dim];
            tokens.iter().flat_map(row).copied().collect()
        };
        (
            pick(&self.rows.keys, config.key_dim),
            pick(&self.rows.values, config.value_dim),
        )
    }

    fn recall(&self, state: &MemoryState, keys: Vec<f32>) -> Vec<f32> {
        let key_dim = self.memory.config().key_dim;
        let blocks = keys.chunks(ASKED_AT_ONCE * key_dim);
        let recalled = blocks.flat_map(|block| recall::read(self.memory, state, block.to_vec()));
        recalled.collect()
    }
}

impl Engine {
    /// Serves learners until the queue is closed.
    pub(crate) fn run_learner(&self) {
        // Buffers for copies that were not kept, used again and again.
        let mut spare = Vec::new();
        while let Some(first) = self.learners.pop() {
            let mut chunks = self.next_batch(first, &mut spare);
            let outcomes = self.learn_guarded(&mut chunks);
            for (chunk, outcome) in chunks.iter().zip(outcomes) {
                self.conclude(chunk, outcome);
            }
            let copies = chunks.into_iter().map(|chunk| chunk.copy);
            spare.extend(copies.filter_map(Arc::into_inner));
        }
    }

    /// The chunk of a shard and chunks of the same length on the same device that wait beside
    /// it. Empty if the shard has nothing to learn any more.
    fn next_batch(&self, first: Arc<Shard>, spare: &mut Vec<TokenRows>) -> Vec<Chunk> {
        let NextChunk::Rows(rows) = first.next_chunk(None, &self.bounds) else {
            return Vec::new();
        };
        let length = self.tokens(&rows);
        let place = self.memories.place(first.id);
        let mut chunks = vec![self.chunk(first, rows, spare)];
        let mut passed_over = Vec::new();
        while chunks.len() < self.learn_batch && passed_over.len() < PASSED_OVER {
            let Some(turn) = self.learners.pop_due() else {
                break;
            };
            if self.memories.place(turn.shard.id) != place {
                passed_over.push(turn);
                continue;
            }
            match turn.shard.next_chunk(Some(length), &self.bounds) {
                NextChunk::Rows(rows) => chunks.push(self.chunk(turn.shard, rows, spare)),
                NextChunk::OfOtherLength => passed_over.push(turn),
                NextChunk::Nothing => {}
            }
        }
        self.learners.put_back(passed_over);
        chunks
    }

    fn chunk(&self, shard: Arc<Shard>, rows: TokenRows, spare: &mut Vec<TokenRows>) -> Chunk {
        let mut copy = spare.pop().unwrap_or_default();
        copy.keys.clear();
        copy.values.clear();
        if self.config.recall_watch.is_some() || self.keeps_tokens() {
            copy.keys.extend_from_slice(&rows.keys);
            copy.values.extend_from_slice(&rows.values);
        }
        Chunk {
            shard,
            rows,
            copy: Arc::new(copy),
        }
    }

    /// One outcome per chunk. A failure, a panic included, is that of the chunk that caused
    /// it: if the batch as a whole fails, each chunk is learned alone.
    fn learn_guarded(&self, chunks: &mut [Chunk]) -> Vec<Result<Learned, String>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let learned = guarded(|| {
            let _span = tracing::debug_span!("learn", chunks = chunks.len()).entered();
            self.timers.learn.time(|| self.learn(chunks))
        });
        match learned {
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
    fn learn(&self, chunks: &mut [Chunk]) -> Result<Vec<Result<Learned, String>>, String> {
        let tokens = self.tokens(&chunks[0].rows);
        let memories = chunks.len();
        let (key_dim, value_dim) = self.widths();
        let memory = self.memories.of(chunks[0].shard.id);
        let device = memory.device();
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
        let reports = memory
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
                let snapshot = Snapshot {
                    shard: current.shard,
                    version: current.version + 1,
                    last_chunk_id: state.tokens_seen.div_ceil(self.config.chunk_tokens as u64),
                    history: current.history,
                    lineage: current.lineage,
                    state,
                    ledger: Arc::clone(&current.ledger),
                    watched: None,
                    changed: report.delta,
                };
                Ok(Learned {
                    snapshot,
                    surprise: report.surprise,
                })
            })
            .collect())
    }

    /// Publishes what was learned of a chunk, or goes back where that has done harm, or stops
    /// the user whose chunk failed.
    fn conclude(&self, chunk: &Chunk, learned: Result<Learned, String>) {
        let shard = &chunk.shard;
        let looked = learned.and_then(|mut learned| {
            let outcome = guarded(|| Ok(self.look(chunk, &mut learned)))?;
            Ok((learned.snapshot, outcome))
        });
        let (snapshot, outcome) = match looked {
            Ok(looked) => looked,
            Err(reason) => return self.fail(shard, Step::Learning, reason),
        };
        let alerts = &self.config.alerts;
        match outcome {
            Outcome::Publish => self.publish(chunk, snapshot),
            Outcome::Alert(drop) => {
                self.publish(chunk, snapshot);
                alerts.raise(shard.id, AlertKind::RecallDropped, drop.to_string());
            }
            Outcome::GoBack(drop, good) => {
                let message = self.go_back(shard, &good, drop);
                alerts.raise(shard.id, AlertKind::RolledBack, message);
            }
            Outcome::Freeze(drop, good) => {
                let message = self.go_back(shard, &good, drop);
                let reason = format!("{message}, for the second time within ten looks");
                shard.fail(Step::Learning, reason.as_str().into());
                return alerts.raise(shard.id, AlertKind::Frozen, reason);
            }
        }
        // To the end of the line: other users are served in between.
        self.learners.push(shard, Instant::now());
    }

    /// Lets the watch look at what a chunk has made of the memory.
    fn look(&self, chunk: &Chunk, learned: &mut Learned) -> Outcome {
        let shard = &chunk.shard;
        let mut watch = shard.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watch.as_mut() else {
            return Outcome::Publish;
        };
        let current = shard.published.load();
        let candidate = Candidate {
            current: &current,
            state: &learned.snapshot.state,
            surprise: &learned.surprise,
            threshold: self.config.memory.update.surprise_threshold,
        };
        let ask = AskMemory {
            memory: self.memories.of(shard.id),
            rows: &chunk.copy,
        };
        let (outcome, watched) = watch.look(&candidate, &ask);
        learned.snapshot.watched = match watched {
            None => current.watched.clone(),
            Some(watched) => {
                let ProbeScore { probes, hits } = watched.score;
                if probes > 0 {
                    metrics::histogram!(metric::PROBE_RECALL).record(hits as f64 / probes as f64);
                }
                Some(Arc::new(watched))
            }
        };
        outcome
    }

    fn publish(&self, chunk: &Chunk, snapshot: Snapshot) {
        let rows = self.keeps_tokens().then(|| {
            let tokens = self.tokens(&chunk.copy) as u64;
            PlacedRows {
                start: snapshot.state.tokens_seen - tokens,
                tokens,
                rows: Arc::clone(&chunk.copy),
            }
        });
        let shard = &chunk.shard;
        let due = {
            let _span = tracing::debug_span!("publish", shard = %shard.id).entered();
            shard.publish(snapshot, rows, &self.bounds, &self.timers.publish)
        };
        self.account(shard);
        self.savers.push(shard, due);
    }

    /// Goes back to a snapshot; says what that did.
    fn go_back(&self, shard: &Arc<Shard>, good: &Snapshot, drop: RecallDrop) -> String {
        let _span = tracing::debug_span!("rollback", shard = %shard.id).entered();
        let tokens_dropped = shard.go_back(good);
        self.meters.rollbacks.add(1);
        self.account(shard);
        self.savers.push(shard, Instant::now());
        let tokens = good.state.tokens_seen;
        format!("{drop}; went back to {tokens} tokens, {tokens_dropped} were dropped")
    }

    /// Whether tokens are kept beside the memories as they came.
    fn keeps_tokens(&self) -> bool {
        self.config.ledger.replay_bytes > 0
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
