//! `titanmem forget`: every trace of a memory goes.

use std::path::Path;

use titans_store::{Erasure, ForgetReceipt, ShardId, UserKey, forget};

use crate::folder;
use crate::outcome::{Failure, Format, Outcome};

pub(crate) fn run(
    dir: &Path,
    shard: Option<&str>,
    key_file: Option<&Path>,
    format: Format,
) -> Result<Outcome, Failure> {
    let shard: ShardId = match shard {
        Some(digits) => folder::parse_shard(digits)?,
        None => {
            let key = key_file.map(UserKey::read).transpose()?;
            folder::owner(dir, key.as_ref())?
        }
    };
    let receipt = forget(dir, shard, key_file)?;
    let left = receipt.left();
    let left: Vec<_> = left
        .map(|left| format!("{} {}", left.path.display(), left.reason))
        .collect();
    let mut outcome = Outcome::of(&receipt, format, in_words);
    outcome.errors.extend(left);
    Ok(outcome)
}

fn in_words(receipt: &ForgetReceipt) -> String {
    let erasure = match receipt.erasure {
        Erasure::Unlinked => "unlinked; the device may keep the bytes until it reuses them",
        Erasure::KeyDestroyed => "unlinked, and the key is destroyed",
    };
    let done = match receipt.is_complete() {
        true => "forgot",
        false => "forgot a part of",
    };
    let mut text = format!(
        "{done} shard {}: {} bytes\n",
        receipt.shard,
        receipt.bytes()
    );
    for place in receipt.places.iter().filter(|place| place.found > 0) {
        let (removed, found) = (place.removed, place.found);
        text.push_str(&format!(
            "{:<14} {removed} of {found} removed\n",
            place.place.to_string()
        ));
    }
    for missing in &receipt.backups_missing {
        text.push_str(&format!("not there any more: {}\n", missing.display()));
    }
    text.push_str(erasure);
    text.push('\n');
    text
}
