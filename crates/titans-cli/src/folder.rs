//! What several commands must find out about a folder before they can begin.

use std::path::Path;

use titans_store::{Limits, ShardId, UserKey, verify_dir_with};

use crate::outcome::Failure;

/// The owner of the memory in a folder, by its first file that is whole.
pub(crate) fn owner(dir: &Path, key: Option<&UserKey>) -> Result<ShardId, Failure> {
    let verdicts = verify_dir_with(dir, &Limits::default(), key)?;
    let nothing = || Failure(format!("there is no memory in {}", dir.display()));
    if let Some(shard) = verdicts.iter().find_map(|verdict| verdict.shard) {
        return Ok(shard);
    }
    let problem = verdicts.into_iter().find_map(|verdict| verdict.problem);
    Err(problem.map_or_else(nothing, Failure::from))
}

/// A shard from 32 hexadecimal digits.
pub(crate) fn parse_shard(digits: &str) -> Result<ShardId, Failure> {
    let wrong = || Failure(format!("{digits:?} is not 32 hexadecimal digits"));
    if digits.len() != 32 || !digits.is_ascii() {
        return Err(wrong());
    }
    let number = u128::from_str_radix(digits, 16).map_err(|_| wrong())?;
    Ok(ShardId(number.to_be_bytes()))
}
