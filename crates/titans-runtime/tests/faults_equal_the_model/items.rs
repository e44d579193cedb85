//! Taking items out of a memory: by which tokens, is found out from what the memory tells.

use titans_runtime::{CommandError, ForgottenItem, ObserveError, UserMemory};

use crate::common::CHUNK;
use crate::model::Line;
use crate::world::World;

impl World {
    pub(crate) fn forget_item(&mut self, user: usize, memory: &UserMemory, item: u64, wait: bool) {
        let accepted = memory.progress().accepted as usize;
        let forgotten = match memory.forget(item) {
            Ok(forgotten) => forgotten,
            // The queue may be too full. Nothing was taken.
            Err(CommandError::Observe(ObserveError::Busy { .. })) => return,
            Err(error) => return self.explain(user, "forgetting an item", error),
        };
        let lines = std::mem::take(&mut self.users[user].lines);
        let Some(forgotten) = forgotten else {
            let has_none = |line: &Line| line.pieces_of(item).next().is_none();
            self.users[user].lines = lines.into_iter().filter(has_none).collect();
            assert!(
                !self.users[user].lines.is_empty(),
                "item {item} is not found"
            );
            return;
        };
        assert_eq!(forgotten.exact_by_rebuild, self.keeps_tokens());
        let now = memory.progress().accepted as usize;
        let erased: Vec<Line> = (lines.iter())
            .filter_map(|line| self.erased(user, line, &forgotten, now - accepted))
            .collect();
        assert!(!erased.is_empty(), "{forgotten:?} of {lines:?}");
        self.users[user].lines = erased;
        if wait {
            let waited = forgotten.ticket.wait();
            self.durable_if(user, memory, waited);
        }
    }

    /// A line after an item was taken out of it by so many tokens. What was handed over behind
    /// the item may or may not have been learned by then; what is left of the item tells.
    pub(crate) fn erased(
        &mut self,
        user: usize,
        line: &Line,
        forgotten: &ForgottenItem,
        tokens: usize,
    ) -> Option<Line> {
        let item = forgotten.item.0 as u64;
        let pieces = || line.pieces_of(item);
        let learned = pieces().map(|piece| piece.tokens.end).max()?;
        let of_item: usize = pieces().map(|piece| piece.tokens.len()).sum();
        if of_item as u64 != forgotten.tokens {
            return None;
        }
        let first = learned.max(self.users[user].seen);
        let mut places: Vec<usize> = (first..=line.len()).collect();
        let is_likely = |place: &usize| *place == line.len() || place.is_multiple_of(CHUNK);
        places.sort_by_key(|place| (!is_likely(place), *place));
        places.into_iter().find_map(|place| {
            let erasing = self.oracle.erasing(line, item, place);
            let is_it = erasing.tokens.len() == tokens
                && erasing.remains.to_bits() == forgotten.remains.to_bits();
            is_it.then(|| {
                let mut line = line.clone();
                line.erase(item, &erasing.tokens);
                line
            })
        })
    }

    /// What may become of a memory that was rolled back to before some items were forgotten:
    /// whole chunks of what takes one of them away may be learned before the next one's turn.
    pub(crate) fn erased_again(&mut self, line: Line, items: &[u64]) -> Vec<Line> {
        let pinned = line.len();
        let mut lines = vec![line];
        for item in items {
            let mut next = Vec::new();
            for line in lines {
                let chunks = (pinned + 1..=line.len()).filter(|place| place.is_multiple_of(CHUNK));
                for place in std::iter::once(pinned).chain(chunks) {
                    let mut line = line.clone();
                    let erasing = self.oracle.erasing(&line, *item, place);
                    line.erase(*item, &erasing.tokens);
                    next.push(line);
                }
            }
            lines = next;
        }
        lines
    }

    /// What may become of a line that goes back to a place: of the items that were forgotten
    /// behind it, any may have been forgotten once more by now.
    pub(crate) fn brought_back(&mut self, line: &Line, place: usize) -> Vec<Line> {
        let (line, back) = line.cut(place);
        let mut lines = Vec::new();
        for chosen in 0..1_usize << back.len() {
            let items = back.iter().enumerate();
            let items = items.filter(|(bit, _)| chosen >> bit & 1 == 1);
            let items: Vec<u64> = items.map(|(_, item)| *item).collect();
            lines.extend(self.erased_again(line.clone(), &items));
        }
        lines
    }

    /// The same for a memory that was rolled back to one of its pins.
    pub(crate) fn rolled_back(&mut self, line: &Line) -> Vec<Line> {
        let mut lines = Vec::new();
        for place in line.pins.iter().flatten() {
            let pinned = self.brought_back(line, *place).into_iter();
            lines.extend(pinned.map(|line| Line {
                durable: *place,
                pins: vec![Some(*place)],
                ..line
            }));
        }
        lines
    }
}
