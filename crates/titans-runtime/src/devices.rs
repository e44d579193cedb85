//! The memory of a runtime on each of its devices, and which user lives on which.

use std::sync::Arc;

use burn::tensor::Device;
use titans_core::{ConfigError, HostOps, MemoryOps, NeuralMemory, Products};
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
            let device = device.open()?;
            let operations = operations(&device, config.products);
            NeuralMemory::with_ops(config.memory, &device, operations)
        });
        memories.collect::<Result<_, _>>().map(Self)
    }

    /// What does not hang on the device.
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
    let _ = (device, products);
    Arc::new(HostOps)
}

#[cfg(test)]
mod tests {
    use super::*;

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
