//! What a memory has learned can be durable before its learner has let go of it. Who needs its
//! room then waits for the learner and is not refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{CHUNK, Stream, config};
use titans_runtime::Runtime;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Holds the learner up when it has published a chunk.
#[derive(Default)]
struct LateAfterPublishing {
    spans: AtomicU64,
    published: AtomicUsize,
}

impl Subscriber for LateAfterPublishing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "publish"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1 + self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn exit(&self, _: &Id) {
        self.published.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(100));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
}

#[test]
fn a_memory_leaves_although_its_learner_is_late() {
    tracing::subscriber::set_global_default(LateAfterPublishing::default()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.resident_bytes = config.bytes_per_user();
    let runtime = Runtime::open(root.path(), config).unwrap();
    let stream = Stream::new(CHUNK, 1);
    for user in ["alice", "bob", "alice"] {
        let memory = runtime.user(user).unwrap();
        stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    }
    let memory = runtime.user("alice").unwrap();
    assert_eq!(memory.progress().durable, 2 * CHUNK as u64);
    tracing::dispatcher::get_default(|held_up| {
        let held_up = held_up.downcast_ref::<LateAfterPublishing>().unwrap();
        assert_eq!(held_up.published.load(Ordering::Relaxed), 3);
    });
}
