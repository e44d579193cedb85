//! Where a memory computes, chosen at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::ConfigError;

/// A compute device by name.
///
/// Burn's own default takes the highest-ranked backend that was *compiled in*, without
/// asking whether the machine has one, and panics later. So the choice is explicit
/// here, and a GPU is probed before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComputeDevice {
    /// The embedded CPU backend. Always there.
    #[default]
    Cpu,
    /// The n-th CUDA device; needs the feature `cuda`.
    Cuda(usize),
    /// The default wgpu adapter; needs the feature `wgpu`.
    Wgpu,
}

impl ComputeDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`ConfigError::NoDevice`] when the backend is not compiled in or finds no hardware.
    pub fn open(self) -> Result<Device, ConfigError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Cuda(index) => open_cuda(index),
            Self::Wgpu => open_wgpu(),
        }
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = ConfigError;

    /// Reads `cpu`, `wgpu`, `cuda` or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ConfigError::UnknownChoice {
            choice: "device",
            name: text.to_owned(),
            known: "cpu, cuda, cuda:N, wgpu".to_owned(),
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => {
                let index = other.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, ConfigError> {
    let found = Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
    if index < found.len() {
        return Ok(Device::cuda(index));
    }
    Err(ConfigError::NoDevice {
        device: format!("cuda:{index}"),
        reason: format!("the driver lists {} CUDA devices", found.len()),
    })
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device, ConfigError> {
    Err(not_compiled_in(format!("cuda:{index}"), "cuda"))
}

#[cfg(feature = "wgpu")]
fn open_wgpu() -> Result<Device, ConfigError> {
    let found = Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec();
    if found.is_empty() {
        return Err(ConfigError::NoDevice {
            device: "wgpu".to_owned(),
            reason: "no adapter was found".to_owned(),
        });
    }
    Ok(Device::wgpu(Default::default()))
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu() -> Result<Device, ConfigError> {
    Err(not_compiled_in("wgpu".to_owned(), "wgpu"))
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn not_compiled_in(device: String, feature: &str) -> ConfigError {
    ConfigError::NoDevice {
        device,
        reason: format!("this build lacks the feature `{feature}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for device in [
            ComputeDevice::Cpu,
            ComputeDevice::Wgpu,
            ComputeDevice::Cuda(3),
        ] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn unknown_name_lists_the_known_ones() {
        let error = "tpu".parse::<ComputeDevice>().expect_err("unknown");
        assert!(error.to_string().contains("cpu, cuda"), "{error}");
    }
}
