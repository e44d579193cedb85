//! Taking one item back, and forgetting a whole user.

use std::sync::Arc;

use titans_store::{ForgetReceipt, Place, PlaceReport};

use crate::engine::Engine;
use crate::error::CommandError;
use crate::ledger::ItemId;
use crate::rows::Rows;
use crate::shard::{About, Command, Erasure, Lease, Patience, Rebuilt, Watermark};
use crate::ticket::Ticket;
use crate::user::shard_dir;
use crate::user_id::UserId;

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

impl Engine {
    /// Hands over tokens that take away what the keys of an item recall.
    pub(crate) fn forget_item(
        self: &Arc<Self>,
        lease: &Lease,
        item: ItemId,
    ) -> Result<Option<ForgottenItem>, CommandError> {
        let shard = lease.value();
        let mut turn = shard.take_turn(&self.context);
        let pieces = shard.pieces(item);
        let Some(last) = pieces.last() else {
            return Ok(None);
        };
        // What they recall is known once they are learned.
        let position = shard.position(last.tokens.end);
        let patience = Patience::OneAttempt;
        self.reach(shard, position, Watermark::Visible, patience, None)?;
        let keys: Vec<f32> = pieces.iter().flat_map(|piece| piece.keys_f32()).collect();
        let (key_dim, value_dim) = self.context.widths();
        let tokens = (keys.len() / key_dim) as u64;
        // Not on this thread: in a pool of the caller's, computing may begin another of the
        // caller's tasks, and that one may wait for the turn.
        let plan = |reply| Command::PlanErasure(keys, reply);
        let Erasure { rows, remains } = self.order(shard, plan)?;
        let line_up = || self.line_up(shard);
        let rows = (
            Rows::matrix(&rows.keys, key_dim),
            Rows::matrix(&rows.values, value_dim),
        );
        let end = shard.push_in_turn(&mut turn, rows, About::Erases(item), line_up)?;
        drop(turn);
        Ok(Some(ForgottenItem {
            item,
            tokens,
            remains,
            ticket: Ticket::new(self, lease, end),
            exact_by_rebuild: self.context.keeps_tokens(),
        }))
    }

    /// Learns a memory again without the items that were forgotten.
    pub(crate) fn rebuild(&self, lease: &Lease) -> Result<Rebuilt, CommandError> {
        if !self.context.keeps_tokens() {
            return Err(CommandError::NoReplay {
                reason: "LedgerConfig::replay_bytes is 0, so no tokens are kept",
            });
        }
        let shard = lease.value();
        // Nobody hands anything over from here on, so once all is durable, all is known.
        let _turn = shard.take_turn(&self.context);
        let end = shard.accepted();
        self.reach(shard, end, Watermark::Durable, Patience::OneAttempt, None)?;
        self.order(shard, Command::Rebuild)
    }

    /// Removes everything that is known of a user; `None` when nothing is.
    pub(crate) fn forget(&self, user: &UserId) -> Result<Option<ForgetReceipt>, CommandError> {
        let _inside = self.enter()?;
        let id = self.key.shard(user)?;
        // A backup that is being taken must not appear after everything was removed.
        let _no_backup = self.backups.pause();
        self.shards.take_out(id, &self.context, |resident| {
            let mut in_memory = PlaceReport::new(Place::Snapshots);
            if let Some(shard) = resident {
                in_memory.found = shard.states_in_memory();
                self.order(shard, Command::Empty)?;
                // Another shard of this name may come, and must not find its place taken.
                self.savers.remove(id);
                self.learners.remove(id);
                let held = shard.states_in_memory();
                in_memory.removed = in_memory.found.saturating_sub(held);
                if held > 0 {
                    let reason = format!("{held} snapshots in RAM are held by readers");
                    in_memory.leave(shard_dir(&self.context.root, id), reason);
                }
            }
            let mut receipt = self.forget_files(&self.context.root, id)?;
            if let Some(receipt) = &mut receipt {
                receipt.add(in_memory);
            }
            Ok(receipt)
        })
    }
}
