//! What forgetting did, place by place.

use std::path::PathBuf;

use serde::Serialize;

use super::inventory::{Left, Place};
use crate::image::ShardId;

/// What was removed and what remains, for whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ForgetReceipt {
    /// Whose memory, as 32 hexadecimal digits.
    pub shard: String,
    /// Every place that was looked at.
    pub places: Vec<PlaceReport>,
    /// Backups that the folder knew of and that were there.
    pub backups: Vec<PathBuf>,
    /// Backups that the folder knew of and that were not there. Copies elsewhere are beyond
    /// this program unless the key is destroyed.
    pub backups_missing: Vec<PathBuf>,
    /// What the removal is worth.
    pub erasure: Erasure,
}

/// What was found in a place, and what remains of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlaceReport {
    /// The place.
    pub place: Place,
    /// Files that were there.
    pub found: usize,
    /// Files that are removed.
    pub removed: usize,
    /// Bytes of the removed files.
    pub bytes: u64,
    /// What remains, or may come back, and why.
    pub left: Vec<Left>,
}

/// What the removal is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Erasure {
    /// The names are gone and the blocks are free. The device may keep what stood in them
    /// until it writes over them, and copies elsewhere stay.
    Unlinked,
    /// The key is destroyed as well, so every copy anywhere is noise.
    KeyDestroyed,
}

/// The places of which every receipt tells, in this order.
const ALWAYS: [Place; 10] = [
    Place::Generations,
    Place::Pinned,
    Place::Journals,
    Place::Quarantine,
    Place::Temporary,
    Place::Copies,
    Place::Backups,
    Place::Schedule,
    Place::Unknown,
    Place::Folder,
];

impl ForgetReceipt {
    /// A receipt of a memory of which nothing was found yet: for a host that adds the places
    /// that only it knows.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard: shard.to_string(),
            places: ALWAYS.map(PlaceReport::new).into(),
            backups: Vec::new(),
            backups_missing: Vec::new(),
            erasure: Erasure::Unlinked,
        }
    }

    /// Adds a place that was looked at, with what came of it.
    pub fn add(&mut self, report: PlaceReport) {
        let place = self.place(&report.place);
        place.found += report.found;
        place.removed += report.removed;
        place.bytes += report.bytes;
        place.left.extend(report.left);
    }

    /// Whether nothing remains in any place. If not, remove what is in the way and forget again.
    pub fn is_complete(&self) -> bool {
        self.left().next().is_none()
    }

    /// Whether anything was there at all.
    pub fn found_something(&self) -> bool {
        self.places.iter().any(|place| place.found > 0) || !self.is_complete()
    }

    /// Everything that remains.
    pub fn left(&self) -> impl Iterator<Item = &Left> {
        self.places.iter().flat_map(|place| &place.left)
    }

    /// Files that are removed from a place.
    pub fn removed(&self, place: &Place) -> usize {
        let reports = self.places.iter();
        reports
            .filter(|report| report.place == *place)
            .map(|report| report.removed)
            .sum()
    }

    /// Files of logs that are removed.
    pub fn removed_logs(&self) -> usize {
        let is_log = |report: &&PlaceReport| matches!(report.place, Place::Log(_));
        let logs = self.places.iter().filter(is_log);
        logs.map(|report| report.removed).sum()
    }

    /// Bytes of all files that are removed.
    pub fn bytes(&self) -> u64 {
        self.places.iter().map(|place| place.bytes).sum()
    }

    /// The report of a place, begun if there is none.
    pub(super) fn place(&mut self, place: &Place) -> &mut PlaceReport {
        let known = self.places.iter().position(|known| known.place == *place);
        let at = known.unwrap_or_else(|| {
            self.places.push(PlaceReport::new(place.clone()));
            self.places.len() - 1
        });
        &mut self.places[at]
    }

    pub(super) fn leave(&mut self, place: Place, path: PathBuf, reason: String) {
        self.place(&place).leave(path, reason);
    }
}

impl PlaceReport {
    /// A place in which nothing was found yet.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            found: 0,
            removed: 0,
            bytes: 0,
            left: Vec::new(),
        }
    }

    /// Notes something that remains.
    pub fn leave(&mut self, path: impl Into<PathBuf>, reason: impl Into<String>) {
        self.left.push(Left::new(path, reason));
    }
}
