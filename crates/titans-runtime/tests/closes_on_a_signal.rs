//! A process that is told to end closes its runtime while threads are still handing tokens
//! over: what they were told is durable is what the next process finds.
//!
//! `TITANMEM_SIGNALS=1000 cargo test --workspace --test closes_on_a_signal` ends more often
//! than the default of 20.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{CHUNK, Stream, config};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use titans_runtime::{Durability, Runtime, RuntimeConfig, RuntimeError, Stopped, UserMemory};

/// Set for the child: the root folder it works in, and the number of the race.
const ROOT: &str = "TITANMEM_SIGNALLED_ROOT";
const RACE: &str = "TITANMEM_SIGNALLED_RACE";
/// Users, each with a thread of its own.
const USERS: usize = 3;
const SOON: Duration = Duration::from_secs(60);

fn settings(race: u64) -> RuntimeConfig {
    let mut config = config();
    config.durability = match race % 3 {
        0 => Durability::EveryChunk,
        1 => Durability::Async { max_lag: 3 },
        _ => Durability::Interval(Duration::from_millis(20)),
    };
    config
}

/// One line, whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Hands over and waits until the runtime closes. Tells what is durable.
fn learn(user: usize, memory: &UserMemory) {
    let stream = Stream::new(CHUNK + 5, user as u64);
    let mut tokens = 1;
    loop {
        tokens = tokens * 7 % 31 + 1;
        let outcome = || -> Result<(), RuntimeError> {
            let ticket = stream.observe(memory, 0..tokens)?;
            // Every other is not waited for, so that the close finds some in the queue.
            if tokens % 2 == 0 {
                ticket.wait()?;
                say(&format!("durable {user} {}", ticket.position()));
            }
            Ok(())
        };
        if let Err(error) = outcome() {
            assert!(matches!(error.stopped(), Some(Stopped::Closed)), "{error}");
            return;
        }
    }
}

/// What the process does that is told to end.
#[test]
fn child() {
    let (Ok(root), Ok(race)) = (std::env::var(ROOT), std::env::var(RACE)) else {
        return;
    };
    let mut signals = Signals::new([SIGTERM]).unwrap();
    let runtime = Runtime::open(root, settings(race.parse().unwrap())).unwrap();
    let memories: Vec<_> = (0..USERS)
        .map(|user| runtime.user(format!("user {user}")).unwrap())
        .collect();
    // Behind whatever the test harness has begun to write.
    say("\nready");
    std::thread::scope(|scope| {
        for (user, memory) in memories.iter().enumerate() {
            scope.spawn(move || learn(user, memory));
        }
        assert_eq!(signals.forever().next(), Some(SIGTERM));
        let report = runtime.close(SOON);
        assert!(report.is_durable());
        for (user, memory) in memories.iter().enumerate() {
            let told = report
                .users
                .iter()
                .find(|told| told.shard == memory.shard());
            say(&format!("closed {user} {}", told.unwrap().progress.durable));
        }
    });
    say("done");
}

#[test]
fn what_was_acknowledged_before_the_end_is_what_is_recovered() {
    if std::env::var(ROOT).is_ok() {
        return;
    }
    let races: u64 = std::env::var("TITANMEM_SIGNALS").map_or(20, |text| text.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let (mut known, mut acknowledgements) = ([0; USERS], 0);
    for race in 0..races {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(ROOT, root.path())
            .env(RACE, race.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        let listener = std::thread::spawn(move || {
            let mut said: BTreeMap<(String, usize), u64> = BTreeMap::new();
            let mut durable = 0_u64;
            for line in output.lines().map_while(Result::ok) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["ready"] => ready.send(()).unwrap(),
                    [word @ ("durable" | "closed"), user, tokens] => {
                        durable += u64::from(word == "durable");
                        let (user, tokens): (usize, u64) =
                            (user.parse().unwrap(), tokens.parse().unwrap());
                        let most = said.entry((word.to_owned(), user)).or_default();
                        *most = tokens.max(*most);
                    }
                    ["done"] => drop(said.insert(("done".to_owned(), 0), 0)),
                    _ => {}
                }
            }
            (said, durable)
        });
        is_ready.recv_timeout(SOON).unwrap();
        std::thread::sleep(Duration::from_micros(race * 7919 % 60_000));
        let signalled = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", child.id())])
            .status()
            .unwrap();
        assert!(signalled.success());
        let status = child.wait().unwrap();
        assert!(status.success(), "race {race}: {status}");
        let (said, durable) = listener.join().unwrap();
        assert!(said.contains_key(&("done".to_owned(), 0)), "race {race}");
        acknowledgements += durable;

        let runtime = Runtime::open(root.path(), settings(race)).unwrap();
        for (user, known) in known.iter_mut().enumerate() {
            let memory = runtime.user(format!("user {user}")).unwrap();
            assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
            let at = |word: &str| said.get(&(word.to_owned(), user)).copied();
            let recovered = memory.progress().durable;
            let (closed, acknowledged) = (at("closed").unwrap(), at("durable").unwrap_or(0));
            assert_eq!(recovered, closed, "race {race}, user {user}");
            assert!(acknowledged <= recovered && *known <= recovered);
            *known = recovered;
        }
    }
    println!("{races} races, {acknowledgements} acknowledgements, tokens {known:?}");
    assert!(
        acknowledgements > 0,
        "every signal came before the first save"
    );
}
