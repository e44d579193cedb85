//! What the learning threads do: chunks of one or many users to their next snapshots.
//!
//! A learner has a shard from the moment it takes its chunk until it has published what came
//! of it, so the chunks of a user are learned in order. Between two chunks the shard goes to
//! the end of the line.

mod ask;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, StateDelta};

use self::ask::AskMemory;
use crate::alert::AlertKind;
use crate::engine::{Engine, guarded};
use crate::metric;
use crate::replay::PlacedRows;
use crate::shard::{Arrival, Event, NextChunk, Shard, Step, TokenRows};
use crate::snapshot::{Change, Snapshot};
use crate::watch::{Candidate, Outcome, RecallDrop, Watched};

/// Shards with a chunk of another length or on another device that are passed over while a
/// batch is put together. Such a batch is as good as it gets long before the whole line was looked at.
const PASSED_OVER: usize = 64;

/// The next chunk of one user.
struct Chunk {
    shard: Arc<Shard>,
    tokens: usize,
    rows: TokenRows,
    /// The rows once more, for the watch and to be kept beside the memory: learning takes
    /// them for itself. Empty where neither is wanted.
    copy: Arc<TokenRows>,
}

/// What a chunk has made of a memory, not published yet.
struct Learned {
    /// The snapshot that it goes on from.
    current: Arc<Snapshot>,
    state: MemoryState,
    /// What the chunk changed, if that is known.
    changed: Option<StateDelta>,
    /// Surprise of each token.
    surprise: Vec<f32>,
    watched: Option<Arc<Watched>>,
}

/// Why a chunk was not learned.
enum Refusal {
    /// Its numbers left the finite ones; the memory goes on without it.
    Input(String),
    /// A bug.
    Bug(String),
}

impl Engine {
    /// Serves learners until the queue is closed.
    pub(crate) fn run_learner(&self) {
        // Buffers for copies that were not kept, used again and again.
        let mut spare = Vec::new();
        while let Some(first) = self.learners.pop() {
            // Each step is guarded; this is for what stands between them.
            let served = guarded(|| self.serve_learners(&first, &mut spare));
            if let Err(reason) = served {
                self.learning_broke(&first, &reason);
            }
        }
    }

    fn serve_learners(&self, first: &Arc<Shard>, spare: &mut Vec<TokenRows>) {
        let mut chunks = self.next_batch(first, spare);
        let outcomes = self.learn_guarded(&mut chunks);
        for (chunk, outcome) in chunks.iter().zip(outcomes) {
            let concluded = guarded(|| self.conclude(chunk, outcome));
            if let Err(reason) = concluded {
                self.learning_broke(&chunk.shard, &reason);
            }
        }
        let copies = chunks.into_iter().map(|chunk| chunk.copy);
        spare.extend(copies.filter_map(Arc::into_inner));
    }

    /// A learner is done with a shard without having learned its chunk. The shard fails first:
    /// no other learner may take the chunk after it.
    fn learning_broke(&self, shard: &Arc<Shard>, reason: &str) {
        self.fail(shard, Step::Learning, reason);
        if shard.end_learning() {
            self.call_saver(shard, Instant::now());
        }
    }

    /// A shard has nothing to learn now; it may have let go of buffers.
    fn rests(&self, shard: &Arc<Shard>, has_orders: bool) {
        if has_orders {
            self.call_saver(shard, Instant::now());
        }
        self.account(shard);
    }

    /// The chunk of a shard and chunks of the same length on the same device that wait beside
    /// it. Empty if the shard has nothing to learn any more.
    fn next_batch(&self, first: &Arc<Shard>, spare: &mut Vec<TokenRows>) -> Vec<Chunk> {
        let bounds = &self.context.bounds;
        let mut chunks = Vec::new();
        match first.next_chunk(None, bounds) {
            NextChunk::Rows(rows) => chunks.push(self.chunk(first, rows, spare)),
            NextChunk::OfOtherLength => return chunks,
            NextChunk::Nothing { has_orders } => {
                self.rests(first, has_orders);
                return chunks;
            }
        }
        let length = self.tokens(&chunks[0].rows);
        let memories = &self.context.memories;
        let place = memories.place(first.id);
        let mut passed_over = Vec::new();
        while chunks.len() < self.context.learn_batch && passed_over.len() < PASSED_OVER {
            let Some(turn) = self.learners.pop_due() else {
                break;
            };
            if memories.place(turn.shard.id) != place {
                passed_over.push(turn);
                continue;
            }
            match turn.shard.next_chunk(Some(length), bounds) {
                NextChunk::Rows(rows) => chunks.push(self.chunk(&turn.shard, rows, spare)),
                NextChunk::OfOtherLength => passed_over.push(turn),
                NextChunk::Nothing { has_orders } => self.rests(&turn.shard, has_orders),
            }
        }
        self.learners.put_back(passed_over);
        chunks
    }

    fn chunk(&self, shard: &Arc<Shard>, rows: TokenRows, spare: &mut Vec<TokenRows>) -> Chunk {
        let mut copy = spare.pop().unwrap_or_default();
        copy.keys.clear();
        copy.values.clear();
        if self.context.config.recall_watch.is_some() || self.context.keeps_tokens() {
            copy.keys.extend_from_slice(&rows.keys);
            copy.values.extend_from_slice(&rows.values);
        }
        Chunk {
            tokens: self.tokens(&rows),
            shard: Arc::clone(shard),
            rows,
            copy: Arc::new(copy),
        }
    }

    /// One outcome per chunk. A failure, a panic included, is that of the chunk that caused
    /// it: if the batch as a whole fails, each chunk is learned alone.
    fn learn_guarded(&self, chunks: &mut [Chunk]) -> Vec<Result<Learned, Refusal>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let timers = &self.context.timers;
        let learned = guarded(|| {
            let _span = tracing::debug_span!("learn", chunks = chunks.len()).entered();
            timers.learn.time(|| self.learn(chunks))
        });
        match learned {
            Ok(Ok(outcomes)) => {
                timers.count_batch(chunks.len());
                outcomes
            }
            Ok(Err(reason)) if chunks.len() == 1 => vec![Err(Refusal::Input(reason))],
            Err(reason) if chunks.len() == 1 => vec![Err(Refusal::Bug(reason))],
            Ok(Err(_)) | Err(_) => chunks
                .chunks_mut(1)
                .flat_map(|chunk| self.learn_guarded(chunk))
                .collect(),
        }
    }

    /// Learns chunks of equal length at once, each as if it were alone. An error is that of
    /// an unknown one of them.
    fn learn(&self, chunks: &mut [Chunk]) -> Result<Vec<Result<Learned, Refusal>>, String> {
        let tokens = chunks[0].tokens;
        let memories = chunks.len();
        let (key_dim, value_dim) = self.context.widths();
        let memory = self.context.memories.of(chunks[0].shard.id);
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
        let each = current.into_iter().zip(states).zip(reports);
        Ok(each
            .map(|((current, state), report)| {
                // Finite input can still overflow. Such a chunk must not replace a good
                // snapshot.
                if let Some(token) = report.surprise.iter().position(|s| !s.is_finite()) {
                    let seen = current.state.tokens_seen;
                    return Err(Refusal::Input(format!(
                        "token {token} of the chunk at token {seen} left the finite numbers"
                    )));
                }
                Ok(Learned {
                    current,
                    state,
                    changed: report.delta,
                    surprise: report.surprise,
                    watched: None,
                })
            })
            .collect())
    }

    /// Publishes what was learned of a chunk, or goes back where that has done harm, or goes on
    /// without a chunk that could not be learned, or stops a user whose chunk met a bug.
    fn conclude(&self, chunk: &Chunk, learned: Result<Learned, Refusal>) {
        let shard = &chunk.shard;
        let looked = learned.and_then(|mut learned| {
            let outcome = guarded(|| self.look(chunk, &mut learned)).map_err(Refusal::Bug)?;
            Ok((learned, outcome))
        });
        let alerts = &self.context.alerts;
        match looked {
            Ok((learned, Outcome::Publish)) => self.publish(chunk, learned),
            Ok((learned, Outcome::Alert(drop))) => {
                self.publish(chunk, learned);
                alerts.raise(shard.id, AlertKind::RecallDropped, drop.to_string());
            }
            Ok((_, Outcome::GoBack(drop, good))) => {
                let message = self.go_back(shard, good, drop);
                alerts.raise(shard.id, AlertKind::RolledBack, message);
            }
            Ok((_, Outcome::Freeze(drop, good))) => {
                let message = self.go_back(shard, good, drop);
                let reason = format!("{message}, for the second time within ten looks");
                shard.stop(Event::Froze, reason.as_str().into());
                self.account(shard);
                alerts.raise(shard.id, AlertKind::Frozen, reason);
            }
            Err(Refusal::Input(reason)) => {
                shard.drop_chunk(chunk.tokens);
                self.account(shard);
                let message = format!("{} tokens were dropped: {reason}", chunk.tokens);
                alerts.raise(shard.id, AlertKind::ChunkDropped, message);
            }
            Err(Refusal::Bug(reason)) => {
                return self.learning_broke(shard, &reason);
            }
        }
        // To the end of the line: other users are served in between.
        self.learners.push(shard, Instant::now());
    }

    /// Lets the watch look at what a chunk has made of the memory.
    fn look(&self, chunk: &Chunk, learned: &mut Learned) -> Outcome {
        let shard = &chunk.shard;
        let mut watch = shard.watch.lock();
        let Some(watch) = watch.as_mut() else {
            return Outcome::Publish;
        };
        let candidate = Candidate {
            current: &learned.current,
            state: &learned.state,
            surprise: &learned.surprise,
            threshold: self.context.config.memory.update.surprise_threshold,
            is_forgetting: !shard.being_erased().is_empty(),
        };
        let ask = AskMemory {
            memory: self.context.memories.of(shard.id),
            rows: &chunk.copy,
        };
        let (outcome, watched) = watch.look(&candidate, &ask);
        shard.watch_bytes.store(watch.bytes(), Ordering::Relaxed);
        learned.watched = match watched {
            None => learned.current.watched.clone(),
            Some(watched) => Some(Arc::new(watched)),
        };
        outcome
    }

    fn publish(&self, chunk: &Chunk, learned: Learned) {
        let shard = &chunk.shard;
        let context = &self.context;
        let _span = tracing::debug_span!("publish", shard = %shard.id).entered();
        let Learned {
            current,
            state,
            changed,
            watched,
            ..
        } = learned;
        if let Some(score) = watched.as_ref().map(|watched| watched.score)
            && !is_same(&watched, &current.watched)
            && score.probes > 0
        {
            let recall = score.hits as f64 / score.probes as f64;
            metrics::histogram!(metric::PROBE_RECALL).record(recall);
        }
        let tokens = state.tokens_seen;
        let rows = context.keeps_tokens().then(|| PlacedRows {
            start: tokens - chunk.tokens as u64,
            tokens: chunk.tokens as u64,
            rows: Arc::clone(&chunk.copy),
        });
        let (ledger, notes) = shard.ledger_at(tokens, &current.ledger, &context.bounds);
        let successor = current.successor(Change::Learned {
            last_chunk_id: tokens.div_ceil(context.config.chunk_tokens as u64),
            state,
            ledger,
            watched,
            changed,
        });
        drop(current);
        let adopted = shard.adopt(successor, Arrival::Learned { rows, notes }, context);
        self.account(shard);
        if let Some(due) = adopted.due {
            self.call_saver(shard, due);
        }
    }

    /// Goes back to a snapshot; says what that did.
    fn go_back(&self, shard: &Arc<Shard>, good: Arc<Snapshot>, drop: RecallDrop) -> String {
        let _span = tracing::debug_span!("rollback", shard = %shard.id).entered();
        let tokens = good.state.tokens_seen;
        let successor = shard.published.load().successor(Change::WentBack { good });
        let adopted = shard.adopt(successor, Arrival::WentBack, &self.context);
        self.context.meters.rollbacks.add(1);
        self.account(shard);
        self.call_saver(shard, Instant::now());
        let dropped = adopted.tokens_dropped;
        format!("{drop}; went back to {tokens} tokens, {dropped} were dropped")
    }

    fn tokens(&self, rows: &TokenRows) -> usize {
        rows.keys.len() / self.context.config.memory.key_dim
    }
}

/// Whether both are what one look has found out.
fn is_same(one: &Option<Arc<Watched>>, other: &Option<Arc<Watched>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
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
