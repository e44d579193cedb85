//! `titanmem forget`: every trace of a memory goes.

use std::path::Path;

use titans_store::{Erasure, ForgetReceipt, ShardId, UserKey, forget};

use crate::{Failure, Format, Outcome, folder};

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
    let left = receipt.left.iter();
    let left: Vec<_> = left
        .map(|name| format!("{name} is not of a memory and was left"))
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
    format!(
        "forgot shard {}: {} files, {} journals, {} logs, {} quarantined, {} temporary, {} backups, {} bytes\n{erasure}\n",
        receipt.shard,
        receipt.generations,
        receipt.journals,
        receipt.logs,
        receipt.quarantined,
        receipt.temporaries,
        receipt.backups.len(),
        receipt.bytes
    )
}
