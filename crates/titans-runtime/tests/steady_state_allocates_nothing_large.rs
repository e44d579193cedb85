//! A memory that learns on and on does so in the buffers that it has: from one chunk to the
//! next nothing is allocated that is larger than the chunk, and what is learned has the same
//! bits as with fresh buffers.
//!
//! An integration test of its own, because the allocator counts for the whole process.
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Stream;
use titans_runtime::{Durability, Runtime, RuntimeConfig};

/// Counts the allocations of at least [`FLOOR`] bytes.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static FLOOR: AtomicUsize = AtomicUsize::new(usize::MAX);
static LARGE: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    if size >= FLOOR.load(Ordering::Relaxed) {
        LARGE.fetch_add(1, Ordering::Relaxed);
    }
    LARGEST.fetch_max(size, Ordering::Relaxed);
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn chunk_after_chunk_is_learned_in_the_same_buffers() {
    const WARM_UP: usize = 3;
    const MEASURED: usize = 8;

    let config = RuntimeConfig::default()
        // Saving is another matter: it encodes the whole state.
        .with_durability(Durability::Interval(Duration::from_secs(3600)));
    let chunk = config.chunk_tokens;
    let widths = (config.memory.key_dim, config.memory.value_dim);
    // A chunk's own rows are a fresh buffer each; the state is twice as large.
    let rows_bytes = chunk * widths.0.max(widths.1) * size_of::<f32>();
    assert!(config.memory.state_bytes() >= 2 * rows_bytes);
    // Every chunk is new, so that each writes nearly every row.
    let stream = Stream::with_widths((WARM_UP + MEASURED) * chunk + 1, 1, widths);
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let memory = runtime.user("alice").unwrap();
    // Never the whole stream at once: what is measured is learning, not a longer queue. One row
    // ahead, so that the memory never catches up with its user.
    let observe = |tokens| stream.observe(&memory, tokens).unwrap();
    observe(0..1);
    let learn = |chunks: std::ops::Range<usize>| {
        for first in chunks.map(|index| index * chunk) {
            observe(first + 1..first + chunk + 1);
            while memory.progress().visible < (first + chunk) as u64 {
                std::thread::yield_now();
            }
        }
    };
    learn(0..WARM_UP);
    LARGEST.store(0, Ordering::Relaxed);
    FLOOR.store(rows_bytes + 1, Ordering::Relaxed);
    learn(WARM_UP..WARM_UP + MEASURED);
    FLOOR.store(usize::MAX, Ordering::Relaxed);
    let (large, largest) = (
        LARGE.load(Ordering::Relaxed),
        LARGEST.load(Ordering::Relaxed),
    );
    assert!(memory.tokens_written() > (MEASURED * chunk / 2) as u64);
    assert_eq!(
        large, 0,
        "{large} allocations beyond {rows_bytes} bytes in {MEASURED} chunks, the largest of {largest}"
    );

    // The same stream where every chunk is awaited, so that no buffer is used again.
    let root = tempfile::tempdir().unwrap();
    let fresh = Runtime::open(root.path(), RuntimeConfig::default()).unwrap();
    let other = fresh.user("alice").unwrap();
    for first in (0..WARM_UP + MEASURED).map(|index| index * chunk) {
        let ticket = stream.observe(&other, first..first + chunk).unwrap();
        ticket.wait().unwrap();
    }
    let last = stream.tokens() - 1;
    stream
        .observe(&other, last..last + 1)
        .unwrap()
        .wait()
        .unwrap();
    memory.flush().unwrap();
    assert!(stream.recall(&memory) == stream.recall(&other));
}
