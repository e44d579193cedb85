//! Taking one item back out of a memory: approximately at once, exactly by learning again.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use burn::tensor::{Tensor, TensorData};
use titans_core::{MemoryState, NeuralMemory};
use titans_store::{Limits, decode};

use super::{About, Lease, Shard, TokenRows, Watermark};
use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::ledger::{Entry, ItemId, merged, tokens_before};
use crate::recall;
use crate::replay::{PlacedRows, Replayed};
use crate::rows::Rows;
use crate::snapshot::Snapshot;
use crate::ticket::Ticket;
use crate::watch::Watch;

/// What was done about an item that is to be forgotten.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForgottenItem {
    /// The item.
    pub item: ItemId,
    /// Tokens of it.
    pub tokens: u64,
    /// What its keys still recall once `ticket` is done, as a fraction of what they recalled
    /// before. Other items that shared features with it may carry a trace beside that.
    pub remains: f32,
    /// When that is visible and durable.
    pub ticket: Ticket,
    /// Whether [`rebuild`](crate::UserMemory::rebuild) can take it out exactly.
    pub exact_by_rebuild: bool,
}

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Items of which the memory is now as if they had never been handed over.
    pub forgotten: Vec<ItemId>,
    /// Items that were handed over before the tokens that are kept: they stay forgotten
    /// approximately.
    pub approximate: Vec<ItemId>,
    /// Tokens that were learned again.
    pub tokens_replayed: u64,
    /// Tokens that the memory has not seen any more: those of the items, and those that had
    /// written over them.
    pub tokens_removed: u64,
}

impl Shard {
    /// Hands over tokens that take away what the keys of an item recall.
    pub(crate) fn forget_item(
        lease: &Lease,
        engine: &Arc<Engine>,
        item: ItemId,
    ) -> Result<Option<ForgottenItem>, RuntimeError> {
        let shard = lease.value();
        let turn = shard
            .producer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pieces = shard.pieces(item);
        let Some(last) = pieces.last() else {
            return Ok(None);
        };
        // What they recall is known once they are learned.
        let position = shard.position(last.tokens.end);
        engine.reach(shard, position, Watermark::Visible, None)?;
        let keys: Vec<f32> = pieces.iter().flat_map(|piece| piece.keys_f32()).collect();
        let erasure = plan_erasure(engine, &shard.published.load(), &keys)?;
        let about = About::Erases(item);
        let wake = || engine.wake_learner(shard);
        let (key_dim, value_dim) = engine.widths();
        let erasing = erasure.rows.keys.len() / key_dim;
        let rows = (
            Rows::f32(&erasure.rows.keys, erasing, key_dim),
            Rows::f32(&erasure.rows.values, erasing, value_dim),
        );
        let end = shard.push_in_turn(&turn, rows, about, &engine.bounds, wake)?;
        drop(turn);
        Ok(Some(ForgottenItem {
            item,
            tokens: (keys.len() / key_dim) as u64,
            remains: erasure.remains,
            ticket: Ticket::new(engine, lease, end),
            exact_by_rebuild: engine.config.ledger.replay_bytes > 0,
        }))
    }

    /// The pieces of an item that are in the memory or on their way.
    fn pieces(&self, item: ItemId) -> Vec<Arc<Entry>> {
        // The notes first: one leaves the list after the snapshot that has it is published,
        // so a piece can be found twice and not be missed.
        let mut pieces = self.lock().noted_pieces(item);
        let published = self.published.load();
        pieces.extend(published.ledger.pieces(item).cloned());
        pieces.sort_by_key(|piece| piece.tokens.start);
        pieces.dedup_by_key(|piece| piece.tokens.start);
        pieces
    }

    /// Learns the kept tokens again, without the items that were erased.
    pub(crate) fn rebuild(self: &Arc<Self>, engine: &Engine) -> Result<Rebuilt, RuntimeError> {
        if engine.config.ledger.replay_bytes == 0 {
            return Err(RuntimeError::NoReplay {
                reason: "LedgerConfig::replay_bytes is 0, so no tokens are kept",
            });
        }
        // Nobody hands anything over from here on, so once all is durable, all is known.
        let turn = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.accepted();
        engine.reach(self, end, Watermark::Durable, None)?;
        let _paused = self.pause_in_turn(turn);
        let current = self.published.load();
        let mut files = self.files();
        let files = files.as_mut().ok_or(RuntimeError::Closed)?;

        let kept = files.replay.read(&files.store, current.state.tokens_seen)?;
        let kept = kept.ok_or(RuntimeError::NoReplay {
            reason: "the tokens that are kept do not reach the memory's last one",
        })?;
        let is_kept = |entry: &&Arc<Entry>| entry.tokens.start >= kept.base_tokens;
        let (exact, approximate): (Vec<_>, Vec<_>) = current.ledger.erased().partition(is_kept);
        let items = |entries: &[&Arc<Entry>]| {
            let mut items: Vec<_> = entries.iter().map(|entry| entry.item).collect();
            items.sort_unstable();
            items.dedup();
            items
        };
        // An item with a piece before the base is not gone whatever becomes of the rest.
        let approximate = items(&approximate);
        let exact: Vec<_> = exact
            .into_iter()
            .filter(|entry| !approximate.contains(&entry.item))
            .collect();
        let removed = exact.iter().flat_map(|entry| {
            let erased = entry.erased.clone();
            std::iter::once(entry.tokens.clone()).chain(erased)
        });
        let removed = merged(removed.collect());
        let forgotten = items(&exact);
        if removed.is_empty() {
            return Ok(Rebuilt {
                forgotten,
                approximate,
                tokens_replayed: 0,
                tokens_removed: 0,
            });
        }

        let (base, _) = decode(&kept.base, &Limits::default())?;
        let mut state = engine.identity.state(engine.memories.of(self.id), base)?;
        let replay = Replayed {
            rows: without(&kept.rows, &removed, engine.widths()),
            ..kept
        };
        for placed in &replay.rows {
            learn(engine.memories.of(self.id), &mut state, &placed.rows)?;
        }
        let tokens = state.tokens_seen;
        let snapshot = Snapshot {
            shard: self.id,
            version: current.version + 1,
            last_chunk_id: tokens.div_ceil(engine.config.chunk_tokens as u64),
            history: current.history + 1,
            lineage: current.lineage,
            state,
            ledger: Arc::new(current.ledger.without(&forgotten, &removed)),
            watched: None,
            changed: None,
        };
        // The log of the ledger tells both stories until the memory has decided.
        let before = (current.history, &*current.ledger);
        files.rewrite_ledger(&[before, (snapshot.history, &snapshot.ledger)])?;
        let image = engine.identity.image(&snapshot);
        files.store.save_as_only_generation(&image)?;
        files.go_back(&snapshot)?;
        files
            .replay
            .restart(&files.store, snapshot.history, &replay)?;
        self.go_on_from(snapshot);
        // Positions are others now, and probes of the items must go.
        self.tell_watch(Watch::start_over);
        Ok(Rebuilt {
            forgotten,
            approximate,
            tokens_replayed: tokens - replay.base_tokens,
            tokens_removed: current.state.tokens_seen - tokens,
        })
    }
}

/// Tokens that take away what some keys recall.
struct Erasure {
    rows: TokenRows,
    /// What the keys recall after them, as a fraction of what they recall now.
    remains: f32,
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
fn plan_erasure(
    engine: &Engine,
    snapshot: &Snapshot,
    keys: &[f32],
) -> Result<Erasure, RuntimeError> {
    let (key_dim, value_dim) = engine.widths();
    let tokens = keys.len() / key_dim;
    let energy = |recalled: &[f32]| recalled.iter().map(|x| x * x).sum::<f32>();
    let memory = engine.memories.of(snapshot.shard);
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

/// The rows without those in `removed`, where they then stand.
fn without(
    rows: &[PlacedRows],
    removed: &[Range<u64>],
    (key_dim, value_dim): (usize, usize),
) -> Vec<PlacedRows> {
    let left = rows.iter().map(|placed| {
        let stays = |token: &u64| !removed.iter().any(|range| range.contains(token));
        let kept: Vec<usize> = (placed.start..placed.end())
            .filter(stays)
            .map(|token| (token - placed.start) as usize)
            .collect();
        let pick = |numbers: &[f32], dim: usize| -> Vec<f32> {
            let row = |row: &usize| &numbers[row * dim..(row + 1) * dim];
            kept.iter().flat_map(row).copied().collect()
        };
        PlacedRows {
            start: placed.start - tokens_before(removed, placed.start),
            tokens: kept.len() as u64,
            rows: Arc::new(TokenRows {
                keys: pick(&placed.rows.keys, key_dim),
                values: pick(&placed.rows.values, value_dim),
            }),
        }
    });
    left.filter(|placed| placed.tokens > 0).collect()
}

/// Learns rows outside the stream.
fn learn(
    memory: &NeuralMemory,
    state: &mut MemoryState,
    rows: &TokenRows,
) -> Result<(), RuntimeError> {
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

fn failed(reason: impl ToString) -> RuntimeError {
    RuntimeError::CannotLearn {
        reason: reason.to_string(),
    }
}
