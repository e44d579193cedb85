//! How a memory is, and when what failed is tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use titans_store::ShardId;

/// Pause after the first failure, twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How the memory of a user is.
///
/// Readers are served in every state but [`Forgotten`](Self::Forgotten).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It takes tokens, learns and saves.
    Healthy,
    /// It takes tokens and learns as far as there is room, and readers see it; but the last
    /// save failed, for a reason that may pass: the disk is full, no file can be opened. It is
    /// tried again by itself, and at once by
    /// [`flush`](crate::UserMemory::flush) and [`resume`](crate::UserMemory::resume).
    Retrying {
        /// What was refused.
        reason: Arc<str>,
        /// Attempts that failed since the last save.
        attempts: u32,
    },
    /// A step panicked or failed in a way that trying again does not mend.
    /// [`resume`](crate::UserMemory::resume) goes on from the newest durable generation.
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// Recall dropped again soon after a rollback. [`roll_back`](crate::UserMemory::roll_back)
    /// goes back to the pinned generation, [`resume`](crate::UserMemory::resume) goes on with
    /// the memory as it is.
    Frozen {
        /// How recall dropped.
        reason: Arc<str>,
    },
    /// The runtime is closed or closing.
    Closed,
    /// The user was forgotten.
    Forgotten,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        *self == Self::Healthy
    }
}

/// A save that failed and is to be tried again.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    /// Attempts that failed.
    pub(crate) attempts: u32,
    /// Not before this, unless somebody waits for it.
    pub(crate) not_before: Instant,
    pub(crate) reason: Arc<str>,
}

impl Retry {
    /// After a failure; `before` is what was known of earlier ones.
    pub(crate) fn after(before: Option<&Self>, shard: ShardId, reason: Arc<str>) -> Self {
        let attempts = before.map_or(0, |before| before.attempts).saturating_add(1);
        let now = Instant::now();
        Self {
            attempts,
            not_before: now.checked_add(pause(attempts, shard)).unwrap_or(now),
            reason,
        }
    }
}

/// The pause after so many failures: doubled each time up to a bound, and shortened by up to
/// half for each shard differently, so that a thousand of them do not come back at once.
fn pause(attempts: u32, shard: ShardId) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let longest = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let mut hash = blake3::Hasher::new();
    hash.update(&shard.0).update(&attempts.to_le_bytes());
    let [byte, ..] = *hash.finalize().as_bytes();
    longest.mul_f64(0.5 + f64::from(byte) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ_between_shards() {
        let [one, other] = [ShardId([1; 16]), ShardId([2; 16])];
        for attempts in 1..100 {
            let doublings = 2.0_f64.powi(attempts.min(20) - 1);
            let longest = FIRST_PAUSE.mul_f64(doublings).min(LONGEST_PAUSE);
            let pause = pause(attempts as u32, one);
            assert!(pause <= longest && pause >= longest / 2, "{pause:?}");
        }
        let differ = (1..20).filter(|n| pause(*n, one) != pause(*n, other));
        assert!(differ.count() > 15);
        assert!(pause(u32::MAX, one) <= LONGEST_PAUSE);
    }
}
