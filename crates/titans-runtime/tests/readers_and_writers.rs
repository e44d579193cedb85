//! Readers never wait for a writer, never see half a chunk and never go back; writers take
//! turns and are told when there is no room.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config, open};
use titans_runtime::{ObserveError, Rows, Runtime, WhenFull};

#[test]
fn versions_rise_by_whole_chunks_while_reading() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(40 * CHUNK, 3);
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let memory = memory.clone();
                let (done, stream) = (&done, &stream);
                scope.spawn(move || {
                    let (mut reads, mut newest) = (0, 0);
                    let mut recalled = vec![0.0; VALUE_DIM];
                    while !done.load(Ordering::Acquire) {
                        let query = Rows::row(&stream.keys[..KEY_DIM]);
                        let info = memory.recall_into(query, &mut recalled).unwrap();
                        assert!(info.version >= newest);
                        newest = info.version;
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let ticket = stream.observe(&memory, 0..stream.tokens()).unwrap();
        ticket.wait().unwrap();
        assert!(ticket.is_visible() && ticket.is_durable());
        done.store(true, Ordering::Release);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<usize>()
    });
    assert!(reads > 0);
    let mut recalled = vec![0.0; VALUE_DIM];
    let query = Rows::row(&stream.keys[..KEY_DIM]);
    let info = memory.recall_into(query, &mut recalled).unwrap();
    assert_eq!((info.version, info.lag), (40, 0));
    // The answer that its caller keeps is the same one.
    let owned = memory.recall(query).unwrap();
    assert_eq!((owned.row(0), owned.info()), (&*recalled, &info));
    assert_eq!(memory.snapshot().unwrap().recall(query).unwrap(), owned);
    assert_eq!(Vec::from(owned), recalled);
}

#[test]
fn two_writers_of_one_user_do_not_mix_their_rows() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    // Longer than the queue, so that every call is taken in parts.
    let streams = [Stream::new(9 * CHUNK, 4), Stream::new(9 * CHUNK, 5)];
    std::thread::scope(|scope| {
        for stream in &streams {
            let memory = memory.clone();
            scope.spawn(move || {
                stream.observe(&memory, 0..stream.tokens()).unwrap();
            });
        }
    });
    memory.flush().unwrap();
    let both = streams.each_ref().map(|stream| stream.recall(&memory));

    let one_way = [[0, 1], [1, 0]].map(|order| {
        let root = tempfile::tempdir().unwrap();
        let runtime = open(root.path());
        let memory = runtime.user("alice").unwrap();
        for index in order {
            streams[index].observe(&memory, 0..9 * CHUNK).unwrap();
        }
        memory.flush().unwrap();
        streams.each_ref().map(|stream| stream.recall(&memory))
    });
    assert!(one_way.contains(&both), "the rows were mixed");
}

#[test]
fn a_full_queue_is_busy_and_takes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.when_full = WhenFull::Busy;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(5 * CHUNK, 6);
    let error = stream.observe(&memory, 0..5 * CHUNK).unwrap_err();
    assert!(
        matches!(error, ObserveError::Busy { queued: 0, offered, limit } if (offered, limit) == (160, 128)),
        "{error}"
    );
    assert_eq!(memory.progress().accepted, 0);
    stream
        .observe(&memory, 0..4 * CHUNK)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(memory.progress().durable, 128);
}

#[test]
fn rows_that_do_not_fit_are_refused_and_nothing_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let runtime = open(root.path());
    let memory = runtime.user("alice").unwrap();
    let (key, value) = ([0.5; KEY_DIM], [0.5; VALUE_DIM]);
    let mut bad = value;
    bad[3] = f32::INFINITY;
    let keys = Rows::row(&key);
    for (error, part) in [
        (
            memory.observe(keys, Rows::matrix::<f32>(&[], VALUE_DIM)),
            "number of value rows is 0, expected 1",
        ),
        (
            memory.observe(Rows::matrix(&key, 8), Rows::matrix(&value, 4)),
            "width of the keys is 8, expected 16",
        ),
        (
            memory.observe(Rows::matrix(&key[1..], KEY_DIM), Rows::row(&value)),
            "keys end within a row: 15 numbers, but a row has 16 and begins every 16",
        ),
        (
            memory.observe(keys, Rows::matrix(&value, 0)),
            "width of the values is 0, expected 8",
        ),
        (
            memory.observe(keys, Rows::row(&bad)),
            "values hold inf at row 0, column 3",
        ),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = memory.recall_into(keys, &mut [0.0; 3]).unwrap_err();
    assert!(error.to_string().contains("is 3, expected 8"), "{error}");
    assert_eq!(memory.progress().accepted, 0);
    memory
        .recall_into(Rows::matrix::<f32>(&[], KEY_DIM), &mut [])
        .unwrap();
}

#[test]
fn a_user_who_streams_a_book_does_not_hold_up_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.queue_tokens = 200 * CHUNK;
    let runtime = Runtime::open(root.path(), config).unwrap();
    let (book, note) = (Stream::new(200 * CHUNK, 7), Stream::new(3, 8));
    let reader = runtime.user("reader").unwrap();
    let long = book.observe(&reader, 0..book.tokens()).unwrap();
    let other = runtime.user("other").unwrap();
    let short = note.observe(&other, 0..3).unwrap();
    short.wait_timeout(Duration::from_secs(60)).unwrap();
    assert!(!long.is_durable(), "the short note waited for the book");
    long.wait().unwrap();
}

#[test]
fn a_flush_of_everybody_does_not_wait_for_what_came_after_it() {
    const ROUNDS: usize = 400;
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config()).unwrap();
    let memory = runtime.user("alice").unwrap();
    let stream = Stream::new(1, 11);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            // Single rows that never make a chunk whole, at whatever moment of the flush.
            std::thread::scope(|scope| {
                let caller = scope.spawn(|| {
                    for _ in 0..3 {
                        stream.observe(&memory, 0..1).unwrap();
                    }
                });
                runtime.flush().unwrap();
                caller.join().unwrap();
            });
        }
        done.send(memory.progress()).unwrap();
    });
    let progress = is_done.recv_timeout(std::time::Duration::from_secs(120));
    let progress = progress.expect("a flush waits for rows that nobody hurries");
    assert_eq!(progress.accepted, 3 * ROUNDS as u64);
}
