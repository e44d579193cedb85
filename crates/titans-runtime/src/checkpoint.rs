//! A snapshot to an image for the disk and back: the one file that knows both sides.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use titans_core::{
    ChoiceDescriptor, ConfigError, HostState, MemoryConfig, MemoryDescriptor, MemoryState,
    NeuralMemory, Params, Preset, SparseDelta, StateDelta, StateRole, StateTensor,
};
use titans_store::{
    Changed, ChoiceRecord, ImageDelta, MemoryImage, ModelRecord, RecallRecord, TensorDelta,
    TensorRecord, TensorRole,
};

use crate::error::OpenError;
use crate::snapshot::Snapshot;
use crate::watch::{ProbeScore, Watched};

/// Name of a configuration that is no preset.
const CUSTOM: &str = "custom";
/// Keys of the sizes and of the update schedule among an image's texts.
const KEY_DIM: &str = "key_dim";
const VALUE_DIM: &str = "value_dim";
const SEED: &str = "seed";
const UPDATE: &str = "update";
/// Which questions the recall in an image is about.
const PROBES: &str = "written pairs";
/// Key of the number of rebuilds among an image's texts.
const HISTORY: &str = "rebuilds";

/// What every image of a runtime's memories says alike.
#[derive(Clone, Debug)]
pub(crate) struct MemoryIdentity {
    model: ModelRecord,
    base_digest: [u8; 32],
    extra: BTreeMap<String, String>,
}

impl MemoryIdentity {
    pub(crate) fn new(memory: &NeuralMemory) -> Self {
        let config = memory.config();
        let mut digest = blake3::Hasher::new();
        for size in [config.key_dim, config.value_dim] {
            digest.update(&(size as u64).to_le_bytes());
        }
        for value in memory.frozen_parameters() {
            digest.update(&value.to_le_bytes());
        }
        let extra = [
            (KEY_DIM, config.key_dim.to_string()),
            (VALUE_DIM, config.value_dim.to_string()),
            (SEED, config.seed.to_string()),
            (UPDATE, update_text(config)),
        ];
        Self {
            model: model_record(config),
            base_digest: digest.finalize().into(),
            extra: extra.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// The image of a snapshot.
    pub(crate) fn image(&self, snapshot: &Snapshot) -> MemoryImage {
        self.image_of(&snapshot.state, snapshot)
    }

    /// The image of a snapshot but for the values of its tensors.
    pub(crate) fn outline(&self, snapshot: &Snapshot) -> MemoryImage {
        self.image_at(snapshot.state.outline(), snapshot)
    }

    /// The image of a state that is not published, with the counters of `place`.
    pub(crate) fn image_of(&self, state: &MemoryState, place: &Snapshot) -> MemoryImage {
        self.image_at(state.to_host(), place)
    }

    fn image_at(&self, host: HostState, place: &Snapshot) -> MemoryImage {
        let mut extra = self.extra.clone();
        if place.history > 0 {
            extra.insert(HISTORY.to_owned(), place.history.to_string());
        }
        MemoryImage {
            shard: place.shard,
            model: self.model.clone(),
            base_digest: self.base_digest,
            model_digest: None,
            last_chunk_id: place.last_chunk_id,
            tokens_seen: host.tokens_seen,
            tokens_written: host.tokens_written,
            scalars: host.scalars,
            tensors: host.tensors.into_iter().map(tensor_record).collect(),
            recall: place
                .watched
                .as_ref()
                .and_then(|watched| recall_record(watched)),
            created_unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            rolled_back_from: None,
            extra,
        }
    }

    /// How often the memory in an image was rebuilt.
    pub(crate) fn history(image: &MemoryImage) -> u64 {
        let text = image.extra.get(HISTORY);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The state in an image, if it is a state of this memory.
    pub(crate) fn state(
        &self,
        memory: &NeuralMemory,
        image: MemoryImage,
    ) -> Result<MemoryState, OpenError> {
        self.check(&image)?;
        let host = HostState {
            tensors: image.tensors.into_iter().map(state_tensor).collect(),
            scalars: image.scalars,
            tokens_seen: image.tokens_seen,
            tokens_written: image.tokens_written,
        };
        Ok(memory.state_from_host(host)?)
    }

    fn check(&self, image: &MemoryImage) -> Result<(), OpenError> {
        let other = |field, expected, found| OpenError::OtherMemory {
            field,
            expected,
            found,
        };
        let (expected, found) = (&self.model, &image.model);
        let choices = [
            ("architecture", &expected.architecture, &found.architecture),
            (
                "attentional bias",
                &expected.attentional_bias,
                &found.attentional_bias,
            ),
            (
                "retention gate",
                &expected.retention_gate,
                &found.retention_gate,
            ),
            (
                "learning algorithm",
                &expected.learning_algorithm,
                &found.learning_algorithm,
            ),
        ];
        for (field, expected, found) in choices {
            if expected != found {
                return Err(other(field, choice_text(expected), choice_text(found)));
            }
        }
        let (expected, found) = (self.extra.get(UPDATE), image.extra.get(UPDATE));
        if expected != found {
            let text = |update: Option<&String>| update.cloned().unwrap_or_default();
            return Err(other("update schedule", text(expected), text(found)));
        }
        if self.base_digest != image.base_digest {
            let sizes = |extra: &BTreeMap<String, String>| format!("{extra:?}");
            return Err(other(
                "frozen parameters",
                sizes(&self.extra),
                sizes(&image.extra),
            ));
        }
        Ok(())
    }
}

/// Why the configuration of a memory cannot be told from its file.
pub(crate) enum Undescribed {
    /// The file does not say this, or not as a runtime does.
    Unsaid(&'static str),
    /// This build has no such memory.
    Unknown(ConfigError),
}

/// The configuration of the memory in a file, by what its header says.
pub(crate) fn described(
    model: &ModelRecord,
    extra: &BTreeMap<String, String>,
) -> Result<MemoryConfig, Undescribed> {
    fn said<T: FromStr>(
        extra: &BTreeMap<String, String>,
        key: &'static str,
    ) -> Result<T, Undescribed> {
        let text = extra.get(key);
        text.and_then(|text| text.parse().ok())
            .ok_or(Undescribed::Unsaid(key))
    }
    let params = extra.get(UPDATE).and_then(|text| update_params(text));
    let params = params.ok_or(Undescribed::Unsaid(UPDATE))?;
    let descriptor = MemoryDescriptor {
        key_dim: said(extra, KEY_DIM)?,
        value_dim: said(extra, VALUE_DIM)?,
        seed: said(extra, SEED)?,
        architecture: descriptor(&model.architecture),
        attentional_bias: descriptor(&model.attentional_bias),
        retention_gate: descriptor(&model.retention_gate),
        learning_algorithm: descriptor(&model.learning_algorithm),
        update: ChoiceDescriptor {
            name: UPDATE.to_owned(),
            params,
        },
    };
    MemoryConfig::from_descriptor(&descriptor).map_err(Undescribed::Unknown)
}

/// What the file says of recall.
fn recall_record(watched: &Watched) -> Option<RecallRecord> {
    let ProbeScore { probes, hits } = watched.score;
    (probes > 0).then(|| RecallRecord {
        probe_id: PROBES.to_owned(),
        score: hits as f64 / probes as f64,
        n: probes,
    })
}

/// Whether the images before and after a write have the same tensors; if not, only a whole
/// image will do.
pub(crate) fn has_same_tensors(delta: &StateDelta) -> bool {
    delta.removed.is_empty() && delta.tensors.iter().all(|t| t.role != StateRole::Pending)
}

/// Where an image of the state after a write differs from one before it, if both
/// [have the same tensors](has_same_tensors).
pub(crate) fn image_delta(delta: &StateDelta) -> ImageDelta {
    ImageDelta {
        tensors: delta.tensors.iter().map(tensor_delta).collect(),
    }
}

fn tensor_delta(delta: &SparseDelta) -> TensorDelta {
    let is_rows = delta.width > 1 && delta.shape.last() == Some(&delta.width);
    TensorDelta {
        name: delta.name.clone(),
        role: tensor_role(delta.role),
        changed: match &delta.values {
            Some(values) => Changed::Values {
                coordinates: coordinates(delta),
                values: values.clone(),
            },
            None if is_rows => Changed::Rows(delta.indices.clone()),
            None => Changed::Coordinates(delta.indices.clone()),
        },
    }
}

/// What a delta lists, number by number.
fn coordinates(delta: &SparseDelta) -> Vec<u32> {
    // A state has no more numbers than a 32-bit index reaches.
    let width = delta.width as u32;
    let rows = delta.indices.iter();
    rows.flat_map(|row| row * width..(row + 1) * width)
        .collect()
}

fn model_record(config: &MemoryConfig) -> ModelRecord {
    let preset = Preset::ALL.iter().find(|preset| {
        let known = preset.config();
        (known.miras, known.update) == (config.miras, config.update)
    });
    let miras = &config.miras;
    ModelRecord {
        preset: preset.map_or(CUSTOM, |preset| preset.name()).to_owned(),
        architecture: choice_record(miras.architecture.descriptor()),
        attentional_bias: choice_record(miras.attentional_bias.descriptor()),
        retention_gate: choice_record(miras.retention_gate.descriptor()),
        learning_algorithm: choice_record(miras.learning_algorithm.descriptor()),
    }
}

/// The update schedule as `name=value` words, in the order of their names.
fn update_text(config: &MemoryConfig) -> String {
    let params = config.update.descriptor().params;
    let words: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

/// What [`update_text`] has written.
fn update_params(text: &str) -> Option<Params> {
    let words = text.split_whitespace().map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    words.collect()
}

fn descriptor(record: &ChoiceRecord) -> ChoiceDescriptor {
    ChoiceDescriptor {
        name: record.name.clone(),
        params: record.params.clone(),
    }
}

fn choice_record(descriptor: ChoiceDescriptor) -> ChoiceRecord {
    ChoiceRecord {
        name: descriptor.name,
        params: descriptor.params,
    }
}

fn choice_text(choice: &ChoiceRecord) -> String {
    format!("{} {:?}", choice.name, choice.params)
}

fn tensor_record(tensor: StateTensor) -> TensorRecord {
    TensorRecord {
        name: tensor.name,
        role: tensor_role(tensor.role),
        shape: tensor.shape.into_iter().map(|size| size as u64).collect(),
        values: tensor.values,
    }
}

fn state_tensor(record: TensorRecord) -> StateTensor {
    StateTensor {
        name: record.name,
        role: match record.role {
            TensorRole::Weights => StateRole::Weights,
            TensorRole::Momentum => StateRole::Momentum,
            _ => StateRole::Pending,
        },
        shape: record
            .shape
            .into_iter()
            // The store has checked that the shape has as many coordinates as values.
            .map(|size| usize::try_from(size).unwrap_or(usize::MAX))
            .collect(),
        values: record.values,
    }
}

fn tensor_role(role: StateRole) -> TensorRole {
    match role {
        StateRole::Weights => TensorRole::Weights,
        StateRole::Momentum => TensorRole::Momentum,
        // What is neither learned nor momentum is carried from one write to the next.
        _ => TensorRole::Pending,
    }
}
