//! Learning a memory again without what was forgotten.

use std::ops::Range;
use std::sync::Arc;

use titans_store::{Limits, decode};

use super::adopt::Arrival;
use super::desk::Files;
use super::erasure::learn;
use super::order::Rebuilt;
use super::{Shard, ShardFiles, TokenRows, open};
use crate::context::Context;
use crate::error::CommandError;
use crate::ledger::{Entry, ItemId, merged, tokens_before};
use crate::replay::{PlacedRows, Replayed};
use crate::snapshot::{Change, Snapshot};
use crate::watch::Watch;

/// What is to be taken out of a memory.
struct Removal {
    /// Items that go without a trace.
    forgotten: Vec<ItemId>,
    /// Items with a piece before the tokens that are kept.
    approximate: Vec<ItemId>,
    /// Their tokens, and those that had written over them.
    tokens: Vec<Range<u64>>,
}

/// Learns the kept tokens again, without the items that were erased. Everything that was handed
/// over is durable, and the caller keeps others from handing over more.
pub(super) fn rebuild(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
) -> Result<Rebuilt, CommandError> {
    let current = shard.published.load();
    let widths = context.widths();
    let open = open::open_files(shard, files, context)?;
    let kept = open.replay.read(&open.store, current.state.tokens_seen)?;
    let kept = kept.ok_or(CommandError::NoReplay {
        reason: "the tokens that are kept do not reach the memory's last one",
    })?;
    let removal = Removal::of(&current, kept.base_tokens);
    let rebuilt = |tokens_replayed, tokens_removed| Rebuilt {
        forgotten: removal.forgotten.clone(),
        approximate: removal.approximate.clone(),
        tokens_replayed,
        tokens_removed,
    };
    if removal.tokens.is_empty() {
        return Ok(rebuilt(0, 0));
    }

    let (base, _) = decode(&kept.base, &Limits::default())?;
    let memory = context.memories.of(shard.id);
    let mut state = context.identity.state(memory, base)?;
    let replay = Replayed {
        rows: without(&kept.rows, &removal.tokens, widths),
        ..kept
    };
    context.compute.for_a_command(|| {
        let mut rows = replay.rows.iter();
        rows.try_for_each(|placed| learn(memory, &mut state, &placed.rows))
    })?;
    let tokens = state.tokens_seen;
    let ledger = current.ledger.without(&removal.forgotten, &removal.tokens);
    let successor = current.successor(Change::Rebuilt {
        last_chunk_id: tokens.div_ceil(context.config.chunk_tokens as u64),
        ledger: Arc::new(ledger),
        state,
    });
    let done = rebuilt(
        tokens - replay.base_tokens,
        current.state.tokens_seen - tokens,
    );
    let unfinished = make_durable(shard, files, context, &current, &successor, &replay)?;
    // Positions are others now, and probes of the items must go.
    shard.tell_watch(Watch::start_over);
    shard.adopt(successor, Arrival::Durable, context);
    match unfinished {
        None => Ok(done),
        Some(reason) => {
            let reason: Arc<str> = reason.into();
            shard.finish_later(Arc::clone(&reason));
            Err(CommandError::Unfinished { reason })
        }
    }
}

/// Puts the rebuilt memory in the place of everything that holds what was forgotten. An error
/// means that the memory is as it was; a text, that it is the rebuilt one and that something
/// is still to be removed.
fn make_durable(
    shard: &Shard,
    files: &mut Files<Box<ShardFiles>>,
    context: &Context,
    current: &Snapshot,
    successor: &Snapshot,
    replay: &Replayed,
) -> Result<Option<String>, CommandError> {
    let image = context.identity.image(successor);
    let open = open::open_files(shard, files, context)?;
    // The log of the ledger tells both stories until the memory has decided, and until
    // everything is removed that the other one needs.
    let before = (current.history, &*current.ledger);
    let told = open.rewrite_ledger(&[before, (successor.history, &successor.ledger)]);
    if let Err(error) = told {
        *files = Files::Lost;
        return Err(error.into());
    }
    // From here on the disk may hold the rebuilt memory.
    if let Err(error) = open.store.save_as_only_generation(&image) {
        *files = Files::Lost;
        let text = error.to_string();
        return match open::folder(shard.id, context) {
            Ok(opened) if opened.snapshot.history == successor.history => {
                // Opening has finished what was left undone, but for the kept tokens.
                *files = Files::Open(Box::new(opened.files.into_stale()));
                Ok(finish(files, successor, replay))
            }
            Ok(opened) => {
                *files = Files::Open(Box::new(opened.files.into_stale()));
                Err(error.into())
            }
            Err(second) => {
                let reason = format!("{text}; and then the files could not be opened: {second}");
                Err(open::fail(shard, reason, context).into())
            }
        };
    }
    Ok(finish(files, successor, replay))
}

/// Replaces the kept tokens and then the log that says that the rebuild is not finished.
fn finish(
    files: &mut Files<Box<ShardFiles>>,
    successor: &Snapshot,
    replay: &Replayed,
) -> Option<String> {
    let Files::Open(open) = files else {
        return None;
    };
    let finished = (open.replay)
        .restart(&open.store, successor.history, replay)
        .and_then(|()| open.store.remove_replaced_logs())
        .and_then(|()| open.go_back(successor))
        .and_then(|()| open.store.remove_replaced_logs());
    let error = finished.err()?;
    *files = Files::Lost;
    Some(error.to_string())
}

impl Removal {
    fn of(current: &Snapshot, base_tokens: u64) -> Self {
        let is_kept = |entry: &&Arc<Entry>| entry.tokens.start >= base_tokens;
        let (exact, approximate): (Vec<_>, Vec<_>) = current.ledger.erased().partition(is_kept);
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
        Self {
            tokens: merged(removed.collect()),
            forgotten: items(&exact),
            approximate,
        }
    }
}

fn items(entries: &[&Arc<Entry>]) -> Vec<ItemId> {
    let mut items: Vec<_> = entries.iter().map(|entry| entry.item).collect();
    items.sort_unstable();
    items.dedup();
    items
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
