//! `titanmem backup` and `titanmem restore`.

use std::path::Path;

use titans_store::{
    BackupRequest, BackupSummary, FolderMode, Generation, Limits, ModelPart, RestoreRequest,
    UserKey, create_backup, restore_backup, verify_backup,
};

use crate::folder;
use crate::outcome::{Failure, Format, Outcome};

/// What `backup` was asked for.
pub(crate) struct Request<'a> {
    pub(crate) target: &'a Path,
    pub(crate) model: Option<&'a Path>,
    pub(crate) reference: Option<&'a Path>,
    pub(crate) config: Option<&'a Path>,
    pub(crate) generation: Option<u64>,
    pub(crate) folders: FolderMode,
}

/// Where `restore` puts things.
pub(crate) struct Targets<'a> {
    pub(crate) dir: Option<&'a Path>,
    pub(crate) model: Option<&'a Path>,
    pub(crate) config: Option<&'a Path>,
    pub(crate) folders: FolderMode,
}

pub(crate) fn create(
    dir: &Path,
    asked: &Request<'_>,
    key: Option<&UserKey>,
    format: Format,
) -> Result<Outcome, Failure> {
    let shard = folder::owner(dir, key)?;
    let config = match asked.config {
        None => Vec::new(),
        Some(path) => std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?,
    };
    let request = BackupRequest {
        model: match (asked.model, asked.reference) {
            (Some(model), _) => ModelPart::Embed(model),
            (None, Some(model)) => ModelPart::Reference(model),
            (None, None) => ModelPart::Absent,
        },
        config: &config,
        generation: asked.generation.map(Generation::new),
        key,
        taken_at: None,
        folders: asked.folders,
    };
    let summary = create_backup(dir, shard, asked.target, &request)?;
    Ok(Outcome::of(&summary, format, |summary| {
        describe("backed up and verified", summary)
    }))
}

pub(crate) fn restore(
    backup: &Path,
    targets: &Targets<'_>,
    key: Option<&UserKey>,
    format: Format,
) -> Result<Outcome, Failure> {
    let limits = Limits::default();
    let verified = verify_backup(backup, &limits, key)?;
    let Some(dir) = targets.dir else {
        return Ok(Outcome::of(&verified, format, |summary| {
            describe("verified", summary)
        }));
    };
    let request = RestoreRequest {
        shard: folder::parse_shard(&verified.shard)?,
        model_to: targets.model,
        config_to: targets.config,
        key,
        limits,
        folders: targets.folders,
    };
    let summary = restore_backup(backup, dir, &request)?;
    Ok(Outcome::of(&summary, format, |summary| {
        describe("verified and restored", summary)
    }))
}

fn describe(done: &str, summary: &BackupSummary) -> String {
    let model = match &summary.model {
        None => "no model".to_owned(),
        Some(model) if model.embedded => format!("model of {} bytes", model.bytes),
        Some(model) => format!("model {} by digest only", &model.sha256[..12]),
    };
    let decoded = match summary.decoded {
        true => "",
        false => ", encrypted and not unpacked without its key",
    };
    format!(
        "{done}: generation {} of shard {}, {} bytes, {model}{decoded}\nmemory sha256 {}\n",
        summary.generation, summary.shard, summary.bytes, summary.memory_sha256
    )
}
