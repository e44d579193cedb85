//! The names that the article has for settings.

use std::collections::BTreeSet;

use titans_core::MemoryDescriptor;

use super::choices::Choice;
use super::error::{SettingName, SettingsError};
use super::fields::MEMORY;
use super::reader::{Reader, Source};
use super::value::Value;

/// Keys of the table of the memory, beside our own; `docs/parameters.md` says what each is.
pub(super) const NAMES: [&str; 7] = [
    "surprise_threshold",
    "top_k_ratio",
    "alpha_lambda",
    "alpha_gamma",
    "chunk_size",
    "eta",
    "beta",
];

/// What was given under the names of the article.
#[derive(Debug, Default)]
pub(super) struct Given {
    surprise_threshold: Option<f32>,
    top_k_ratio: Option<f32>,
    alpha_lambda: Option<f32>,
    alpha_gamma: Option<f32>,
    pub(super) chunk_size: Option<usize>,
    eta: Option<f32>,
    beta: Option<f32>,
}

impl Given {
    /// Takes them out of the table of the memory.
    pub(super) fn take(reader: &mut Reader) -> Result<Self, SettingsError> {
        Ok(Self {
            surprise_threshold: reader.read("surprise_threshold")?,
            top_k_ratio: reader.read("top_k_ratio")?,
            alpha_lambda: reader.read("alpha_lambda")?,
            alpha_gamma: reader.read("alpha_gamma")?,
            chunk_size: reader.read("chunk_size")?,
            eta: reader.read("eta")?,
            beta: reader.read("beta")?,
        })
    }

    /// Sets what they stand for in `memory`; `own` are the parameters that were given under
    /// our names.
    pub(super) fn apply(
        &self,
        source: Source,
        memory: &mut MemoryDescriptor,
        own: &BTreeSet<(&'static str, String)>,
    ) -> Result<(), SettingsError> {
        let plain = [
            (
                "surprise_threshold",
                self.surprise_threshold,
                Choice::Update,
                "surprise_threshold",
            ),
            (
                "alpha_lambda",
                self.alpha_lambda,
                Choice::RetentionGate,
                "gain",
            ),
            (
                "alpha_gamma",
                self.alpha_gamma,
                Choice::RetentionGate,
                "offset",
            ),
            ("beta", self.beta, Choice::RetentionGate, "smoothing"),
            ("eta", self.eta, Choice::LearningAlgorithm, "step_size"),
        ];
        for (name, number, choice, key) in plain {
            let Some(number) = number else { continue };
            let table = choice.table();
            if own.contains(&(choice.key(), key.to_owned())) {
                return Err(two_names(source, name, source.name(&table, key)));
            }
            let chosen = choice.of_mut(memory);
            let Some(param) = chosen.params.get_mut(key) else {
                return Err(SettingsError::Meaningless {
                    name: source.name(MEMORY, name),
                    reason: format!("it is `{key}` of [{table}], which {:?} lacks", chosen.name),
                });
            };
            *param = f64::from(number);
        }
        match self.top_k_ratio {
            Some(ratio) => set_ratio(source, memory, own, ratio),
            None => Ok(()),
        }
    }
}

/// The share of the memory that a write may touch: of the channels where they are sparse, of the
/// gradient's elements otherwise.
fn set_ratio(
    source: Source,
    memory: &mut MemoryDescriptor,
    own: &BTreeSet<(&'static str, String)>,
    ratio: f32,
) -> Result<(), SettingsError> {
    let name = "top_k_ratio";
    if !(ratio > 0.0 && ratio <= 1.0) {
        let found = Value::Number(ratio.into());
        return Err(source.wrong((MEMORY, name), &found, "over 0 and at most 1"));
    }
    let channels = memory.architecture.params.get("channels").copied();
    let is_sparse = channels.filter(|_| memory.architecture.params.contains_key(ACTIVE));
    let is_by_rows = memory.update.params.contains_key(TOP_CHANNELS);
    let (choice, key, number) = match is_sparse {
        Some(channels) => {
            let active = (channels * f64::from(ratio)).round().max(1.0);
            (Choice::Architecture, ACTIVE, active)
        }
        None if is_by_rows => (Choice::Update, TOP_CHANNELS, f64::from(ratio)),
        None => (Choice::Update, "top_elements", f64::from(ratio)),
    };
    if own.contains(&(choice.key(), key.to_owned())) {
        return Err(two_names(source, name, source.name(&choice.table(), key)));
    }
    choice.of_mut(memory).params.insert(key.to_owned(), number);
    Ok(())
}

const ACTIVE: &str = "active_channels";
const TOP_CHANNELS: &str = "top_channels";

/// The error for a setting that was given by both of its names.
pub(super) fn two_names(source: Source, article: &str, own: SettingName) -> SettingsError {
    SettingsError::TwoNames {
        first: source.name(MEMORY, article),
        second: own,
    }
}
