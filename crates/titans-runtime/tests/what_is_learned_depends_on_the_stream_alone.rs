//! Cutting the stream, restarting and waiting change nothing of what is learned.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use std::path::Path;

use common::{CHUNK, Stream, config, newest_image, only_memory};
use titans_core::Preset;
use titans_runtime::{Runtime, RuntimeConfig};
use titans_store::{DeltaCheck, MemoryImage, SaveMode};

/// Streams the pieces into a fresh root; `restart` closes and reopens after each piece.
fn learn(stream: &Stream, pieces: &[usize], restart: bool) -> MemoryImage {
    learn_with(config(), stream, pieces, restart)
}

fn learn_with(
    config: RuntimeConfig,
    stream: &Stream,
    pieces: &[usize],
    restart: bool,
) -> MemoryImage {
    let root = tempfile::tempdir().unwrap();
    let open = |dir: &Path| Runtime::open(dir, config.clone()).unwrap();
    let mut runtime = open(root.path());
    let mut memory = runtime.user("alice").unwrap();
    let mut start = 0;
    for piece in pieces {
        stream.observe(&memory, start..start + piece).unwrap();
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

#[test]
fn a_journal_of_changes_holds_what_whole_files_hold() {
    let stream = Stream::new(50 * CHUNK, 2);
    let whole = learn(&stream, &[stream.tokens()], false);
    let mut config = config();
    config.store.mode = SaveMode::Journal;
    // Every account of what a chunk changed is compared with the two states.
    config.store.delta_check = DeltaCheck::Compare;
    assert!(learn_with(config.clone(), &stream, &[CHUNK; 50], false) == whole);
    assert!(learn_with(config, &stream, &[5 * CHUNK; 10], true) == whole);
}

#[test]
fn every_preset_learns_alike_in_pieces_and_across_restarts() {
    // Some updates are longer than a piece, so a restart falls into the middle of one.
    for preset in Preset::ALL {
        let mut config = RuntimeConfig::preset(*preset);
        config.chunk_tokens = CHUNK;
        config.queue_tokens = 4 * CHUNK;
        let widths = (config.memory.key_dim, config.memory.value_dim);
        let stream = Stream::with_widths(3 * CHUNK + 11, 9, widths);
        let whole = learn_with(config.clone(), &stream, &[stream.tokens()], false);
        let pieces = [CHUNK, 1, CHUNK - 1, 7, CHUNK + 4];
        assert!(
            learn_with(config, &stream, &pieces, true) == whole,
            "{preset}"
        );
    }
}
