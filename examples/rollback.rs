//! A poisoned stream: somebody writes other values under keys that the memory knows. The watch
//! over recall notices. Twice: once it only tells, and a person goes back to the pinned
//! generation; once it takes the poison back by itself.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use titanmem::{
    Alert, AlertKind, AlertSink, Alerts, OnDrop, RecallError, RecallWatch, Rows, Runtime,
    RuntimeConfig, UserMemory, WaitError,
};

const DIM: usize = 64;
/// Facts that the memory holds, and a chunk of them that is poisoned.
const FACTS: usize = 1024;
const POISONED: usize = 256;

/// Alerts on their way to whoever is on duty.
struct Pager(mpsc::Sender<Alert>);

impl AlertSink for Pager {
    fn alert(&self, alert: &Alert) {
        // Nobody listens any more once the program ends.
        let _ = self.0.send(alert.clone());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    for on_drop in [OnDrop::Alert, OnDrop::RollBack] {
        let dir = std::env::temp_dir().join(format!("rollback-{}", std::process::id()));
        let (pager, alerts) = mpsc::channel();
        let runtime = Runtime::open(
            &dir,
            RuntimeConfig::default()
                .with_chunk_tokens(POISONED)
                .with_recall_watch(
                    RecallWatch::default()
                        .with_look_every(POISONED)
                        .with_on_drop(on_drop),
                )
                .with_alerts(Alerts::to(Arc::new(Pager(pager)))),
        )?;
        let memory = runtime.user("alice")?;
        let (keys, values) = (made_up(1, FACTS * DIM), made_up(2, FACTS * DIM));
        memory.observe(rows(&keys), rows(&values))?;
        // The last known good: no pruning removes it.
        memory.pin()?;
        let before = recall(&memory, &keys, &values)?;

        let (known, poison) = (&keys[..POISONED * DIM], made_up(3, POISONED * DIM));
        let learned = memory.observe(rows(known), rows(&poison))?.wait();
        let alert = alerts.recv_timeout(Duration::from_secs(30))?;
        let poisoned = recall(&memory, &keys, &values)?;
        match on_drop {
            OnDrop::Alert => {
                learned?;
                memory.roll_back()?;
                assert_eq!(alert.kind, AlertKind::RecallDropped);
                assert!(poisoned + 10.0 < before, "the poison did no harm");
            }
            // The chunk was dropped before anybody could read it.
            _ => {
                assert!(matches!(learned, Err(WaitError::RolledBack)));
                assert_eq!(alert.kind, AlertKind::RolledBack);
                assert_eq!(poisoned, before);
            }
        }
        let after = recall(&memory, &keys, &values)?;
        say(format!("{on_drop:?}: \"{}\"", alert.message))?;
        say(format!(
            "  old facts recalled: before {before:.1} %, poisoned {poisoned:.1} %, after {after:.1} %"
        ))?;
        assert!(before > 95.0 && after == before);

        // And it goes on learning.
        memory
            .observe(rows(&made_up(4, DIM)), rows(&made_up(5, DIM)))?
            .wait()?;
        drop((memory, runtime));
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// The percentage of the facts that come back closer than half of their length.
fn recall(memory: &UserMemory, keys: &[f32], values: &[f32]) -> Result<f64, RecallError> {
    let mut surprise = vec![0.0; FACTS];
    memory.surprise_into(rows(keys), rows(values), &mut surprise)?;
    let known = surprise.iter().filter(|error| **error < 0.5).count();
    Ok(100.0 * known as f64 / FACTS as f64)
}

/// Rows as a memory takes them, brought to length one at the door.
fn rows(data: &[f32]) -> Rows<'_> {
    Rows::matrix(data, DIM).unit()
}

/// Made-up numbers, the same for the same seed.
fn made_up(seed: usize, count: usize) -> Vec<f32> {
    let mix = |word: u64| (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = |i| (mix(mix(((seed << 32) | i) as u64)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..count).map(number).collect()
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
