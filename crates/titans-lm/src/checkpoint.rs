//! Parameters in a safetensors file.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use thiserror::Error;
use titans_core::{ConfigError, GateKind, Wiring};

use crate::model::{ModelConfig, NeedleModel};

/// Why a checkpoint was not written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system says no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The sizes in the file are not those of a model.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are, to go on training.
    Single,
    /// Rounded to half precision, to ship.
    Half,
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes the parameters and sizes of a model, and `notes` beside them.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn save(
    model: &NeedleModel,
    path: &Path,
    precision: Precision,
    notes: &[(&str, String)],
) -> Result<(), CheckpointError> {
    let mut collected = Collect {
        precision,
        path: Vec::new(),
        tensors: Vec::new(),
    };
    model.valid().visit(&mut collected);
    let config = model.config();
    let mut metadata: HashMap<String, String> = [
        ("wiring", config.wiring.name().to_owned()),
        ("rows", config.rows.to_string()),
        ("active", config.active.to_string()),
        ("step_size", config.step_size.to_string()),
        ("window", config.window.to_string()),
        (
            "gate",
            match config.gate {
                GateKind::Hard => "hard",
                GateKind::Soft => "soft",
            }
            .to_owned(),
        ),
        ("seed", config.seed.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    metadata.extend(
        notes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    let malformed = |error: safetensors::SafeTensorError| CheckpointError::Malformed {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let bytes = safetensors::serialize(collected.tensors, Some(metadata)).map_err(malformed)?;
    // A reader never sees half a file.
    let temporary = path.with_extension("part");
    let io = |action| {
        move |source| CheckpointError::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    };
    fs::write(&temporary, bytes).map_err(io("write"))?;
    fs::rename(&temporary, path).map_err(io("write"))
}

/// Reads a model back, and the notes beside it.
///
/// # Errors
/// [`CheckpointError`] when the file cannot be read, is no checkpoint of this model, or
/// holds numbers that are not finite.
pub fn load(
    path: &Path,
    device: &Device,
) -> Result<(NeedleModel, HashMap<String, String>), CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io {
        action: "read",
        path: path.display().to_string(),
        source,
    })?;
    read(&bytes, device).map_err(|error| match error {
        CheckpointError::Malformed { reason, .. } => CheckpointError::Malformed {
            path: path.display().to_string(),
            reason,
        },
        other => other,
    })
}

/// Reads a model from the bytes of a file.
///
/// # Errors
/// As [`load`].
pub fn read(
    bytes: &[u8],
    device: &Device,
) -> Result<(NeedleModel, HashMap<String, String>), CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed {
        path: "checkpoint".to_owned(),
        reason,
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
    let notes = header.metadata().clone().unwrap_or_default();
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
    let text = |name: &str| {
        let text = notes.get(name).cloned();
        text.ok_or_else(|| malformed(format!("there is no {name:?} among the metadata")))
    };
    let number = |name: &str| {
        let text = text(name)?;
        let number = text.parse::<u64>();
        number.map_err(|_| malformed(format!("{name} is {text:?}, not a number")))
    };
    let step = text("step_size")?;
    let config = ModelConfig {
        wiring: text("wiring")?.parse::<Wiring>()?,
        rows: bounded(number("rows")?, "rows")?,
        active: bounded(number("active")?, "active")?,
        step_size: (step.parse()).map_err(|_| malformed(format!("step_size is {step:?}")))?,
        window: bounded(number("window")?, "window")?,
        // Files from before there was a choice do not say.
        gate: match notes.get("gate").map_or("hard", String::as_str) {
            "hard" => GateKind::Hard,
            "soft" => GateKind::Soft,
            other => return Err(malformed(format!("gate is {other:?}, not hard or soft"))),
        },
        seed: number("seed")?,
    };
    let model = NeedleModel::new(config, &[], device)?;
    let mut placed = Place {
        tensors: &tensors,
        path: Vec::new(),
        used: 0,
        problem: None,
    };
    let model = model.map(&mut placed);
    if let Some(problem) = placed.problem {
        return Err(malformed(problem));
    }
    if placed.used != tensors.len() {
        return Err(malformed(
            "there are tensors that the model does not have".to_owned(),
        ));
    }
    Ok((model, notes))
}

/// A size from a file is not to make a reader allocate without bound.
fn bounded(number: u64, name: &str) -> Result<usize, CheckpointError> {
    match usize::try_from(number) {
        Ok(size) if size <= 1 << 20 => Ok(size),
        _ => Err(CheckpointError::Malformed {
            path: "checkpoint".to_owned(),
            reason: format!("{name} is {number}, more than 1048576"),
        }),
    }
}

/// Gives every parameter an id that follows from its place, so that an optimiser's state
/// fits the model in another process.
pub(crate) fn with_named_ids(model: NeedleModel) -> NeedleModel {
    model.map(&mut NameIds { path: Vec::new() })
}

/// Copies into `model` every parameter of `from` that it has under the same name and shape;
/// a model of another wiring begins so from what is common.
pub fn transfer(model: NeedleModel, from: &NeedleModel) -> NeedleModel {
    let mut collected = Collect {
        precision: Precision::Single,
        path: Vec::new(),
        tensors: Vec::new(),
    };
    from.valid().visit(&mut collected);
    model.map(&mut Transfer {
        tensors: collected.tensors.into_iter().collect(),
        path: Vec::new(),
    })
}

struct Collect {
    precision: Precision,
    path: Vec<String>,
    tensors: Vec<(String, Stored)>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let dtype = match self.precision {
            Precision::Single => (DType::F32, Dtype::F32),
            Precision::Half => (DType::F16, Dtype::F16),
        };
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        let data = tensor.cast(dtype.0).into_data();
        let stored = Stored {
            dtype: dtype.1,
            shape,
            bytes: data.bytes().to_vec(),
        };
        self.tensors.push((self.path.join("."), stored));
    }
}

struct Place<'a> {
    tensors: &'a SafeTensors<'a>,
    path: Vec<String>,
    used: usize,
    problem: Option<String>,
}

impl ModuleMapper for Place<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let shape = param.val().dims();
        match floats(self.tensors, &name, &shape) {
            Ok(values) => {
                self.used += 1;
                let device = param.val().device();
                param.map(|_| Tensor::from_data(TensorData::new(values, shape), &device))
            }
            Err(problem) => {
                self.problem.get_or_insert(problem);
                param
            }
        }
    }
}

fn floats(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let view = tensors
        .tensor(name)
        .map_err(|_| format!("there is no tensor {name:?}"))?;
    if view.shape() != shape {
        return Err(format!(
            "tensor {name:?} is {:?}, expected {shape:?}",
            view.shape()
        ));
    }
    let bytes = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => (bytes.chunks_exact(4))
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => (bytes.chunks_exact(2))
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => {
            return Err(format!(
                "tensor {name:?} is of type {other:?}, not F32 or F16"
            ));
        }
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(format!("tensor {name:?} is not finite at index {index}")),
        None => Ok(values),
    }
}

struct NameIds {
    path: Vec<String>,
}

impl ModuleMapper for NameIds {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.path.join(".").bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Param::initialized(
            ParamId::from(hash),
            param.val().inner().autodiff().require_grad(),
        )
    }
}

struct Transfer {
    tensors: HashMap<String, Stored>,
    path: Vec<String>,
}

impl ModuleMapper for Transfer {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().dims();
        let Some(stored) = self.tensors.get(&self.path.join(".")) else {
            return param;
        };
        if stored.shape != shape {
            return param;
        }
        let values: Vec<f32> = (stored.bytes.chunks_exact(4))
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let device = param.val().device();
        param.map(|_| Tensor::from_data(TensorData::new(values, shape), &device))
    }
}
