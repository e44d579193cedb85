//! Cutting the stream, restarting and waiting change nothing of what is learned.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{CHUNK, Stream, newest_image, only_memory, open};
use titans_store::MemoryImage;

/// Streams the pieces into a fresh root; `restart` closes and reopens after each piece.
fn learn(stream: &Stream, pieces: &[usize], restart: bool) -> MemoryImage {
    let root = tempfile::tempdir().unwrap();
    let mut runtime = open(root.path());
    let mut memory = runtime.user("alice").unwrap();
    let mut start = 0;
    for piece in pieces {
        let _ = stream.observe(&memory, start..start + piece).unwrap();
        start += piece;
        if restart {
            drop(memory);
            assert!(runtime.close(Duration::from_secs(60)).is_durable());
            runtime = open(root.path());
            memory = runtime.user("alice").unwrap();
        }
    }
    assert_eq!(start, stream.tokens());
    memory.flush().unwrap();
    newest_image(&only_memory(root.path()), memory.shard())
}

#[test]
fn any_cut_of_the_stream_gives_the_same_bits() {
    let stream = Stream::new(5 * CHUNK + 7, 1);
    let whole = learn(&stream, &[stream.tokens()], false);
    assert!(whole.tokens_written > 0);
    for pieces in [
        vec![1, stream.tokens() - 1],
        vec![0, 31, 2, 97, 0, 37],
        vec![CHUNK - 1, CHUNK + 1, CHUNK, 2 * CHUNK, 7],
    ] {
        assert!(learn(&stream, &pieces, false) == whole, "{pieces:?}");
    }
}

#[test]
fn restarting_after_every_chunk_equals_never_restarting() {
    let stream = Stream::new(50 * CHUNK, 2);
    let whole = learn(&stream, &[stream.tokens()], false);
    assert!(learn(&stream, &[CHUNK; 50], true) == whole);
}
