//! Many users: two hundred memories in room for twenty-four. Everybody learns their own answers
//! to the same questions. Two threads bring a half of each user's facts each, so that memories
//! are saved, leave and come back all the time. In the end everybody is asked everything.
//!
//! The control compares what a user recalls with the answers of the next user: if memories
//! mixed, some of them would fit.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::thread;

use titanmem::titans_core::{MemoryArchitecture, SparseChannelMlp};
use titanmem::{RecallError, Rows, Runtime, RuntimeConfig, RuntimeError, UserMemory};

const USERS: usize = 200;
const ROOM: usize = 24;
const THREADS: usize = 2;
const FACTS: usize = 8;
const DIM: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("many-users-{}", std::process::id()));
    let mut config = RuntimeConfig::default();
    // Few facts need little memory: 64 KiB for each user in place of 2 MiB.
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 256,
        active_channels: 16,
    });
    (config.chunk_tokens, config.queue_tokens) = (64, 256);
    // Saving waits for the disk, so several may wait at once.
    config.savers = 4;
    // What the environment says goes over that: `TITANMEM_SAVERS=1`, `TITANMEM_CHUNK_TOKENS=32`.
    let mut config = config.overridden_by_environment()?;
    config.resident_bytes = ROOM * config.bytes_per_user();
    let runtime = Runtime::open(&dir, config)?;

    thread::scope(|scope| {
        let runtime = &runtime;
        let learn = |part| scope.spawn(move || learn(runtime, part));
        let threads: Vec<_> = (0..THREADS).map(learn).collect();
        let mut learned = threads.into_iter().map(|thread| thread.join());
        learned.try_for_each(|learned| learned.expect("no thread panics"))
    })?;

    // Nobody has waited for a save: the memories that left were saved before they went.
    let (mut own, mut of_the_next) = (0, 0);
    for user in 0..USERS {
        let memory = runtime.user(user)?;
        memory.flush()?;
        own += recalled(&memory, user)?;
        of_the_next += recalled(&memory, (user + 1) % USERS)?;
    }
    let (stats, asked) = (runtime.stats(), USERS * FACTS);
    say(format!(
        "{USERS} users in room for {ROOM}: loaded {} times, made to leave {} times",
        stats.load.count, stats.evictions
    ))?;
    say(format!("recalled their own answers:     {own} of {asked}"))?;
    say(format!("recalled somebody else's (control): {of_the_next}"))?;
    assert!(own * 100 >= asked * 99, "facts were lost");
    assert_eq!(of_the_next, 0, "memories are mixed");
    assert!(stats.evictions > USERS as u64, "nobody came back");
    assert!(stats.resident_users <= ROOM, "more memories than room");
    drop(runtime);
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Visits every user with a part of the facts; each thread begins with another user. A memory
/// may leave as soon as nobody has a handle or a ticket of it.
fn learn(runtime: &Runtime, part: usize) -> Result<(), RuntimeError> {
    let facts = FACTS / THREADS;
    let numbers = part * facts * DIM..(part + 1) * facts * DIM;
    for turn in 0..USERS {
        let user = (turn + part * USERS / THREADS) % USERS;
        let keys = &questions()[numbers.clone()];
        let values = &answers(user)[numbers.clone()];
        let memory = runtime.user(user)?;
        memory.observe(rows(keys), rows(values))?;
    }
    Ok(())
}

/// How many answers of a user the memory gives: closer than half of their length.
fn recalled(memory: &UserMemory, user: usize) -> Result<usize, RecallError> {
    let mut surprise = [0.0; FACTS];
    memory.surprise_into(rows(&questions()), rows(&answers(user)), &mut surprise)?;
    Ok(surprise.iter().filter(|error| **error < 0.5).count())
}

/// The same for everybody. A real program would have them from an embedder.
fn questions() -> Vec<f32> {
    made_up(0, FACTS * DIM)
}

fn answers(user: usize) -> Vec<f32> {
    made_up(1 + user, FACTS * DIM)
}

/// Made-up numbers, the same for the same seed.
fn made_up(seed: usize, count: usize) -> Vec<f32> {
    let mix = |word: u64| (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = |i| (mix(mix(((seed << 32) | i) as u64)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..count).map(number).collect()
}

/// Rows as a memory takes them, brought to length one at the door.
fn rows(data: &[f32]) -> Rows<'_> {
    Rows::matrix(data, DIM).unit()
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
