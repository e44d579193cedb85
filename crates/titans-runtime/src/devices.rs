//! The memory of a runtime on each of its devices, and which user lives on which.

use std::sync::Arc;

use burn::tensor::Device;
use titans_core::{ConfigError, MemoryOps, NeuralMemory, Products, RoundedHostOps};
use titans_store::ShardId;

use crate::config::RuntimeConfig;

/// One memory on every device, all of one configuration.
#[derive(Debug)]
pub(crate) struct Memories(Vec<NeuralMemory>);

impl Memories {
    /// Opens every device of the configuration.
    pub(crate) fn open(config: &RuntimeConfig) -> Result<Self, ConfigError> {
        let devices = std::iter::once(&config.device).chain(&config.more_devices);
        let memories = devices.map(|device| {
            let opened = device.open()?;
            let operations = operations(&opened, config.products);
            let memory = NeuralMemory::with_ops(config.memory, &opened, operations)?;
            tracing::info!(%device, plan = %memory.plan(), "how updates are computed");
            Ok(memory)
        });
        memories.collect::<Result<_, ConfigError>>().map(Self)
    }

    /// What does not depend on the device.
    pub(crate) fn any(&self) -> &NeuralMemory {
        &self.0[0]
    }

    /// The memory on the device of a user.
    pub(crate) fn of(&self, shard: ShardId) -> &NeuralMemory {
        &self.0[self.place(shard)]
    }

    /// Which device a user is on. The id is a keyed hash already, so its bytes are spread
    /// evenly.
    pub(crate) fn place(&self, shard: ShardId) -> usize {
        place(shard, self.0.len())
    }
}

fn place(shard: ShardId, devices: usize) -> usize {
    let [bytes @ .., _, _, _, _, _, _, _, _] = shard.0;
    (u64::from_le_bytes(bytes) % devices as u64) as usize
}

/// The operations that are fastest on a device.
fn operations(device: &Device, products: Products) -> Arc<dyn MemoryOps> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if titans_kernels::runs_on(device) {
        return Arc::new(titans_kernels::CubeOps { products });
    }
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    let _ = device;
    Arc::new(RoundedHostOps { products })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tensor};
    use titans_core::Preset;

    use super::*;

    #[test]
    fn products_are_made_in_the_type_of_the_configuration() {
        let mut config = RuntimeConfig::default();
        config.memory = Preset::Titans.config();
        let rows = || {
            let unit = Distribution::Normal(0.0, 0.125);
            Tensor::<2>::random([48, 64], unit, &Device::flex())
        };
        let (keys, values) = (rows(), rows());
        let [in_f32, in_bf16] = [Products::F32, Products::Bf16].map(|products| {
            config.products = products;
            let memories = Memories::open(&config).expect("valid");
            let memory = memories.any();
            let mut state = memory.initial_state();
            memory
                .write(&mut state, keys.clone(), values.clone())
                .expect("finite");
            let answers = memory.read(&state, keys.clone());
            answers.into_data_as::<f32>()
        });
        assert_ne!(in_f32, in_bf16);
    }

    #[test]
    fn a_threshold_that_the_products_cannot_tell_is_refused() {
        let mut config = RuntimeConfig::default();
        config.memory = Preset::Titans.config();
        config.memory.update.surprise_threshold = 0.01;
        assert!(Memories::open(&config).is_ok());
        config.products = Products::Bf16;
        let refused = Memories::open(&config).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("2^-5"), "{refused}");
    }

    #[test]
    fn users_are_spread_evenly_and_each_stays_where_it_is() {
        let id = |user: u32| {
            let hash = blake3::hash(&user.to_le_bytes());
            let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hash.as_bytes();
            ShardId(id)
        };
        let mut users = [0; 3];
        for user in 0..3000 {
            users[place(id(user), 3)] += 1;
            assert_eq!(place(id(user), 3), place(id(user), 3));
        }
        for users in users {
            assert!(
                (900..1100).contains(&users),
                "{users} of 3000 on one of three"
            );
        }
    }
}
