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
    /// The best that is compiled in and answers: the first CUDA device, else a wgpu adapter
    /// that is a card and no software renderer, else the CPU.
    Auto,
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
        match self.resolve() {
            Self::Auto | Self::Cpu => Ok(Device::flex()),
            Self::Cuda(index) => open_cuda(index),
            Self::Wgpu => open_wgpu(),
        }
    }
}

impl ComputeDevice {
    /// The device that [`Auto`](Self::Auto) stands for on this machine; every other is itself.
    pub fn resolve(self) -> Self {
        if self != Self::Auto {
            return self;
        }
        if open_cuda(0).is_ok() {
            Self::Cuda(0)
        } else if open_wgpu().is_ok_and(|device| is_card(&device)) {
            Self::Wgpu
        } else {
            Self::Cpu
        }
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = ConfigError;

    /// Reads `auto`, `cpu`, `wgpu`, `cuda` or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ConfigError::UnknownChoice {
            choice: "device",
            name: text.to_owned(),
            known: "auto, cpu, cuda, cuda:N, wgpu".to_owned(),
        };
        match text {
            "auto" => Ok(Self::Auto),
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

/// A software renderer answers too, slower than the CPU backend.
#[cfg(feature = "wgpu")]
fn is_card(device: &Device) -> bool {
    let identity = device.identity();
    identity.is_some_and(|identity| identity.physical.is_some())
}

#[cfg(not(feature = "wgpu"))]
fn is_card(_device: &Device) -> bool {
    false
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
            ComputeDevice::Auto,
            ComputeDevice::Cpu,
            ComputeDevice::Wgpu,
            ComputeDevice::Cuda(3),
        ] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn auto_stands_for_a_device_that_opens() {
        let device = ComputeDevice::Auto.resolve();
        assert_ne!(device, ComputeDevice::Auto);
        assert!(device.open().is_ok(), "{device}");
        assert!(ComputeDevice::Auto.open().is_ok());
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    fn auto_is_the_cpu_where_nothing_else_is_compiled_in() {
        assert_eq!(ComputeDevice::Auto.resolve(), ComputeDevice::Cpu);
    }

    #[test]
    fn unknown_name_lists_the_known_ones() {
        let error = "tpu".parse::<ComputeDevice>().expect_err("unknown");
        assert!(error.to_string().contains("cpu, cuda"), "{error}");
    }
}
