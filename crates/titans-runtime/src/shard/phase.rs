//! What a shard does now, and every way from one phase to another.
//!
//! ARCHITECTURE.md shows the same as a diagram; a test compares the two.

use std::fmt;
use std::sync::Arc;

use crate::error::Stopped;

/// What a shard does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes tokens, learns and saves.
    Open,
    /// As [`Open`](Self::Open), but the last save failed and is tried again after a pause.
    Retrying,
    /// A bug stopped it. Readers keep the newest snapshot.
    Failed,
    /// The watch over its recall stopped it: nothing is taken or learned, what it went back to
    /// is saved.
    Frozen,
    /// It takes nothing more; what it took is still learned and saved.
    Closing,
    /// Nothing is learned or saved any more: the threads are gone.
    Closed,
    /// Its user was forgotten.
    Forgotten,
}

/// What can happen to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A snapshot became durable.
    Saved,
    /// Its folder could not be written, for a reason that may pass.
    SaveFailed,
    /// A step panicked, or failed in a way that trying again does not mend.
    Broke,
    /// Recall dropped again soon after the watch went back.
    Froze,
    /// The memory goes on from a durable generation: it was rolled back or resumed.
    Recovered,
    /// The runtime closes.
    Close,
    /// The threads are gone.
    End,
    /// The user is forgotten.
    Forget,
}

impl Phase {
    #[cfg(test)]
    const ALL: [Self; 7] = [
        Self::Open,
        Self::Retrying,
        Self::Failed,
        Self::Frozen,
        Self::Closing,
        Self::Closed,
        Self::Forgotten,
    ];

    /// The phase after an event. What an event does not change stays as it is.
    pub(crate) fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Forgotten | Self::Closed, _) => self,
            (_, Event::Forget) => Self::Forgotten,
            (_, Event::Broke) => Self::Failed,
            (Self::Open | Self::Retrying | Self::Closing, Event::Froze) => Self::Frozen,
            (Self::Open, Event::SaveFailed) => Self::Retrying,
            (Self::Retrying, Event::Saved) => Self::Open,
            (Self::Retrying | Self::Failed | Self::Frozen, Event::Recovered) => Self::Open,
            (Self::Open | Self::Retrying, Event::Close) => Self::Closing,
            (Self::Open | Self::Retrying | Self::Closing, Event::End) => Self::Closed,
            _ => self,
        }
    }

    /// Whether tokens are taken.
    pub(crate) fn takes(self) -> bool {
        matches!(self, Self::Open | Self::Retrying)
    }

    /// Whether what was taken is learned.
    pub(crate) fn learns(self) -> bool {
        matches!(self, Self::Open | Self::Retrying | Self::Closing)
    }

    /// Whether what was learned is saved.
    pub(crate) fn saves(self) -> bool {
        self.learns() || self == Self::Frozen
    }

    /// Whether it stays as it is until somebody does something about it.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Frozen)
    }

    /// What a caller is told who wants more than it does.
    pub(crate) fn refusal(self, reason: Option<&Arc<str>>) -> Stopped {
        match self {
            Self::Forgotten => Stopped::Forgotten,
            Self::Failed | Self::Frozen => Stopped::Failed {
                reason: reason.map_or_else(|| "unknown".into(), Arc::clone),
            },
            Self::Open | Self::Retrying | Self::Closing | Self::Closed => Stopped::Closed,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Saved => "a save succeeded",
            Self::SaveFailed => "a save failed",
            Self::Broke => "a step panicked",
            Self::Froze => "recall dropped again",
            Self::Recovered => "roll_back or resume",
            Self::Close => "the runtime closes",
            Self::End => "the threads are gone",
            Self::Forget => "forget_user",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EVENTS: [Event; 8] = [
        Event::Saved,
        Event::SaveFailed,
        Event::Broke,
        Event::Froze,
        Event::Recovered,
        Event::Close,
        Event::End,
        Event::Forget,
    ];

    /// The diagram, a line for each way from one phase to another.
    fn diagram() -> String {
        let mut lines = vec!["stateDiagram-v2".to_owned(), "    [*] --> Open".to_owned()];
        for phase in Phase::ALL {
            for event in EVENTS {
                let after = phase.after(event);
                if after != phase {
                    lines.push(format!("    {phase} --> {after}: {event}"));
                }
            }
        }
        lines.join("\n")
    }

    #[test]
    fn the_architecture_shows_every_way_from_one_phase_to_another() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("SKIPPED: no ARCHITECTURE.md beside the crate");
            return;
        };
        let diagram = diagram();
        assert!(
            text.contains(&diagram),
            "ARCHITECTURE.md should show this diagram:\n{diagram}"
        );
    }

    #[test]
    fn whoever_fails_can_come_back_and_nobody_comes_back_from_the_end() {
        for phase in Phase::ALL {
            if phase.is_failure() {
                assert_eq!(phase.after(Event::Recovered), Phase::Open);
                assert!(!phase.takes() && !phase.learns());
            }
            if phase.takes() {
                assert!(phase.learns() && phase.saves());
            }
            for event in EVENTS {
                let after = phase.after(event);
                assert_eq!(after.after(event), after, "{phase}, twice: {event}");
            }
        }
        for event in EVENTS {
            assert_eq!(Phase::Forgotten.after(event), Phase::Forgotten);
            assert_eq!(Phase::Closed.after(event), Phase::Closed);
        }
    }
}
