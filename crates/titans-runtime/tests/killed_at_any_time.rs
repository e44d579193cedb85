//! A process that is killed at any time loses nothing that a ticket had called durable.
//!
//! `TITANMEM_KILLS=1000 cargo test -p titans-runtime --test killed_at_any_time` kills more
//! often than the default of 30.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{CHUNK, Stream, config};
use titans_runtime::{Durability, Runtime, RuntimeConfig};
use titans_store::SaveMode;

/// Set for the child: the root folder it works in.
const ROOT: &str = "TITANMEM_KILLED_ROOT";
const USERS: usize = 3;

fn settings() -> RuntimeConfig {
    let mut config = config();
    // Records and whole files both, so that the kill finds either half written.
    config.store.mode = SaveMode::Journal;
    config.durability = Durability::Async { max_lag: 2 };
    config
}

/// What the killed process does: learns until it is killed, and says what is durable.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let runtime = Runtime::open(root, settings()).unwrap();
    let stream = Stream::new(CHUNK + 5, 1);
    loop {
        for user in 0..USERS {
            let memory = runtime.user(format!("user {user}")).unwrap();
            stream
                .observe(&memory, 0..stream.tokens())
                .unwrap()
                .wait()
                .unwrap();
            println!("durable {user} {}", memory.progress().durable);
        }
    }
}

#[test]
fn what_was_called_durable_survives_a_kill() {
    if std::env::var(ROOT).is_ok() {
        return;
    }
    let kills: u64 = std::env::var("TITANMEM_KILLS").map_or(30, |text| text.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; USERS];
    let mut survived = 0;
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(ROOT, root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = [0; USERS];
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut words = line.split_whitespace();
                // A line that the kill cut short acknowledges nothing.
                let parsed = (words.next(), words.next(), words.next());
                if let (Some("durable"), Some(user), Some(tokens)) = parsed {
                    acknowledged[user.parse::<usize>().unwrap()] = tokens.parse().unwrap();
                }
            }
            acknowledged
        });
        // Spread over the opening and some hundred saves, longer and longer, so that a slow
        // machine gets that far, too.
        std::thread::sleep(Duration::from_millis(5 + kill * 37 % 151 + kill % 30 * 8));
        child.kill().unwrap();
        child.wait().unwrap();
        for (all, now) in acknowledged.iter_mut().zip(reader.join().unwrap()) {
            *all = now.max(*all);
        }

        let runtime = Runtime::open(root.path(), settings()).unwrap();
        for (user, acknowledged) in acknowledged.iter().enumerate() {
            let memory = runtime.user(format!("user {user}")).unwrap();
            let durable = memory.progress().durable;
            assert!(durable >= *acknowledged, "{durable} of {acknowledged}");
            assert_eq!(memory.skipped(), [""; 0]);
        }
        survived += usize::from(acknowledged.iter().all(|tokens| *tokens > 0));
    }
    assert!(survived > 0, "every kill came before the first save");
}
