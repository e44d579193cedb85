//! Memories that nobody uses leave when others need their room, after they are saved, and
//! come back with everything they had learned.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CHUNK, Stream, config};
use titans_runtime::{Durability, OpenError, Runtime, RuntimeConfig};

fn room_for(users: usize) -> RuntimeConfig {
    let mut config = config();
    config.resident_bytes = users * config.bytes_per_user();
    config
}

#[test]
fn forty_users_take_turns_in_the_room_of_four() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), room_for(4)).unwrap();
    let user = |index: usize| format!("user {index}");
    let stream = |index: usize| Stream::new(CHUNK + 3, index as u64);
    // Nobody waits for a save: leaving has to.
    for index in 0..40 {
        let memory = runtime.user(user(index)).unwrap();
        stream(index).observe(&memory, 0..CHUNK + 3).unwrap();
        assert!(runtime.resident_users() <= 4);
    }
    for index in 0..40 {
        let memory = runtime.user(user(index)).unwrap();
        // Those that are still loaded may have an unfinished chunk.
        memory.flush().unwrap();
        assert_eq!(memory.progress().durable, CHUNK as u64 + 3, "user {index}");
        let alone = {
            let root = tempfile::tempdir().unwrap();
            let runtime = Runtime::open(root.path(), config()).unwrap();
            let memory = runtime.user("alone").unwrap();
            stream(index).observe(&memory, 0..CHUNK + 3).unwrap();
            memory.flush().unwrap();
            stream(index).recall(&memory)
        };
        assert_eq!(stream(index).recall(&memory), alone, "user {index}");
    }
}

#[test]
fn a_memory_in_use_never_leaves() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), room_for(2)).unwrap();
    let alice = runtime.user("alice").unwrap();
    let stream = Stream::new(CHUNK, 1);
    let ticket = {
        let bob = runtime.user("bob").unwrap();
        stream.observe(&bob, 0..CHUNK).unwrap()
    };
    let error = runtime.user("carol").unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::OverBudget {
                resident: 2,
                limit: 2
            }
        ),
        "{error}"
    );
    ticket.wait().unwrap();
    drop(ticket);
    runtime.user("carol").unwrap();
    stream.observe(&alice, 0..CHUNK).unwrap().wait().unwrap();
    assert_eq!(runtime.resident_users(), 2);
}

#[test]
fn many_threads_asking_for_many_users_open_each_once_and_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut config = room_for(6);
    config.durability = Durability::Async { max_lag: 4 };
    let runtime = Runtime::open(root.path(), config).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let runtime = &runtime;
            scope.spawn(move || {
                let stream = Stream::new(5, thread);
                for turn in 0..60 {
                    let user = format!("user {}", (turn * 7 + thread as usize) % 12);
                    let memory = runtime.user(&user).unwrap();
                    stream.observe(&memory, 0..5).unwrap();
                }
            });
        }
    });
    let total: u64 = (0..12)
        .map(|user| {
            let memory = runtime.user(format!("user {user}")).unwrap();
            memory.flush().unwrap();
            memory.progress().durable
        })
        .sum();
    assert_eq!(total, 4 * 60 * 5);
}
