//! A snapshot to an image for the disk and back: the one file that knows both sides.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use titans_core::{
    ChoiceDescriptor, HostState, MemoryConfig, MemoryState, NeuralMemory, Preset, StateRole,
    StateTensor,
};
use titans_store::{ChoiceRecord, MemoryImage, ModelRecord, ShardId, TensorRecord, TensorRole};

use crate::error::RuntimeError;
use crate::snapshot::Snapshot;

/// Name of a configuration that is no preset.
const CUSTOM: &str = "custom";

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
            ("key_dim", config.key_dim as u64),
            ("value_dim", config.value_dim as u64),
            ("seed", config.seed),
        ];
        Self {
            model: model_record(config),
            base_digest: digest.finalize().into(),
            extra: extra
                .map(|(name, value)| (name.to_owned(), value.to_string()))
                .into(),
        }
    }

    /// The image of a snapshot.
    pub(crate) fn image(&self, snapshot: &Snapshot) -> MemoryImage {
        let host = snapshot.state.to_host();
        MemoryImage {
            shard: snapshot.shard,
            model: self.model.clone(),
            base_digest: self.base_digest,
            model_digest: None,
            last_chunk_id: snapshot.last_chunk_id,
            tokens_seen: host.tokens_seen,
            tokens_written: host.tokens_written,
            scalars: host.scalars,
            tensors: host.tensors.into_iter().map(tensor_record).collect(),
            recall: None,
            created_unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            rolled_back_from: None,
            extra: self.extra.clone(),
        }
    }

    /// The state in an image, if it is a state of this memory.
    pub(crate) fn state(
        &self,
        memory: &NeuralMemory,
        image: MemoryImage,
    ) -> Result<MemoryState, RuntimeError> {
        self.check(&image)?;
        let host = HostState {
            tensors: image.tensors.into_iter().map(state_tensor).collect(),
            scalars: image.scalars,
            tokens_seen: image.tokens_seen,
            tokens_written: image.tokens_written,
        };
        Ok(memory.state_from_host(host)?)
    }

    fn check(&self, image: &MemoryImage) -> Result<(), RuntimeError> {
        let other = |field, expected, found| RuntimeError::OtherMemory {
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

/// The state and the counters of a shard that has nothing on disk.
pub(crate) fn empty_snapshot(memory: &NeuralMemory, shard: ShardId) -> Snapshot {
    Snapshot {
        shard,
        version: 0,
        last_chunk_id: 0,
        state: memory.initial_state(),
    }
}

fn model_record(config: &MemoryConfig) -> ModelRecord {
    let preset = Preset::ALL
        .iter()
        .find(|preset| preset.config().miras == config.miras);
    let miras = &config.miras;
    ModelRecord {
        preset: preset.map_or(CUSTOM, |preset| preset.name()).to_owned(),
        architecture: choice_record(miras.architecture.descriptor()),
        attentional_bias: choice_record(miras.attentional_bias.descriptor()),
        retention_gate: choice_record(miras.retention_gate.descriptor()),
        learning_algorithm: choice_record(miras.learning_algorithm.descriptor()),
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
        role: match tensor.role {
            StateRole::Momentum => TensorRole::Momentum,
            _ => TensorRole::Weights,
        },
        shape: tensor.shape.into_iter().map(|size| size as u64).collect(),
        values: tensor.values,
    }
}

fn state_tensor(record: TensorRecord) -> StateTensor {
    StateTensor {
        name: record.name,
        role: match record.role {
            TensorRole::Momentum => StateRole::Momentum,
            _ => StateRole::Weights,
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
