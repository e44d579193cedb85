//! Every memory is backed up once a day, loaded or not, each at a moment of its own; a clock
//! that jumps, a folder that refuses and a user who is forgotten change nothing of that.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{CHUNK, Stream, config};
use tempfile::TempDir;
use titans_runtime::{
    Alert, AlertKind, AlertSink, Alerts, BackupConfig, BackupDriver, Runtime, RuntimeConfig,
    ShardId, TickReport,
};
use titans_store::{
    BackupRequest, FolderMode, Limits, RestoreRequest, create_backup, restore_backup, verify_backup,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// A midnight.
fn midnight() -> SystemTime {
    UNIX_EPOCH + 20_000 * DAY
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("memories")
    }

    fn backups(&self) -> PathBuf {
        self.0.path().join("backups")
    }

    /// Room for one memory, so that the others are on disk only, and no pause between
    /// attempts, since the monotonic clock stands still in a test of days.
    fn config(&self) -> RuntimeConfig {
        let mut config = config();
        config.resident_bytes = config.bytes_per_user();
        config.backups = Some(
            BackupConfig::new(self.backups())
                .with_pause(Duration::ZERO)
                .with_attachment(b"{\"width\":16}".to_vec()),
        );
        config
    }

    /// The folder of a memory.
    fn dir_of(&self, shard: ShardId) -> PathBuf {
        dir_below(&self.root(), shard)
    }

    /// A runtime whose three users have each learned a chunk.
    fn learned(&self, config: RuntimeConfig) -> Runtime {
        let runtime = Runtime::open(self.root(), config).unwrap();
        for (seed, user) in USERS.iter().enumerate() {
            learn(&runtime, user, seed as u64);
        }
        runtime
    }

    /// Everything below the folder of backups, in order.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = files_below(&self.backups());
        found.sort();
        found
    }
}

fn dir_below(root: &Path, shard: ShardId) -> PathBuf {
    let name = shard.to_string();
    let dir = root.join("users").join(&name[..2]).join(&name[2..4]);
    dir.join(&name[4..])
}

fn learn(runtime: &Runtime, user: &str, seed: u64) -> ShardId {
    let memory = runtime.user(user).unwrap();
    let stream = Stream::new(CHUNK, seed);
    stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
    memory.shard()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

fn shards(report: &TickReport) -> BTreeSet<String> {
    let backed_up = report.backed_up.iter();
    backed_up.map(|backup| backup.shard.clone()).collect()
}

#[test]
fn ten_days_of_ticks_give_ten_backups_each_and_keep_seven() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    assert_eq!(runtime.resident_users(), 1);
    let (mut taken, mut removed, mut moments) = (0, 0, BTreeSet::new());
    for day in 0..10 {
        let mut today = BTreeSet::new();
        for tick in 0..24 * 4 {
            let now = midnight() + day * DAY + tick * HOUR / 4;
            let report = runtime.tick(now).unwrap();
            assert!(report.failed.is_empty(), "{:?}", report.failed);
            assert_eq!(report.left, 0);
            for shard in shards(&report) {
                assert!(today.insert(shard.clone()), "twice in a day");
                moments.insert((shard, tick));
            }
            taken += report.backed_up.len();
            removed += report.removed.len();
        }
        assert_eq!(today.len(), 3, "day {day}");
        // What changes between backups is what the next one holds.
        learn(&runtime, "bob", 100 + u64::from(day));
    }
    assert_eq!((taken, removed), (30, 9));
    // Each has a moment of its own and keeps it.
    assert_eq!(moments.len(), 3);
    let ticks: BTreeSet<_> = moments.iter().map(|(_, tick)| tick).collect();
    assert!(ticks.len() > 1, "all at once");
    let files = place.files();
    assert_eq!(files.len(), 3 * 7);
    let limits = Limits::default();
    for file in &files {
        verify_backup(file, &limits, None).unwrap();
    }
    let stats = runtime.stats();
    assert_eq!((stats.backups, stats.backup_failures), (30, 0));
    assert_eq!(stats.backup.count, 30);
}

#[test]
fn a_restart_neither_forgets_nor_repeats_a_backup() {
    let place = Place::new();
    let evening = midnight() + 20 * HOUR;
    let runtime = place.learned(place.config());
    assert_eq!(runtime.tick(evening).unwrap().backed_up.len(), 3);
    drop(runtime);
    let runtime = Runtime::open(place.root(), place.config()).unwrap();
    // Nobody is loaded, and nobody has to be.
    assert_eq!(runtime.resident_users(), 0);
    assert!(
        runtime
            .tick(evening + 23 * HOUR)
            .unwrap()
            .backed_up
            .is_empty()
    );
    assert_eq!(runtime.tick(evening + DAY).unwrap().backed_up.len(), 3);
    assert_eq!(runtime.resident_users(), 0);
}

#[test]
fn a_restored_backup_recalls_the_same_bits() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let stream = Stream::new(CHUNK, 1);
    let bob = runtime.user("bob").unwrap();
    let before = stream.recall(&bob);
    let shard = bob.shard();
    let report = runtime.tick(midnight() + 20 * HOUR).unwrap();
    let backup = report
        .backed_up
        .iter()
        .find(|backup| backup.shard == shard.to_string())
        .unwrap();
    // Learning goes on; the backup holds what was durable when it was taken.
    stream.observe(&bob, 0..CHUNK).unwrap().wait().unwrap();
    assert!(stream.recall(&bob) != before);
    drop((bob, runtime));

    // A new root with the old key, as after the loss of a disk.
    let new = place.0.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::copy(place.root().join("root.key"), new.join("root.key")).unwrap();
    let attachment = place.0.path().join("attachment");
    let request = RestoreRequest {
        shard,
        model_to: None,
        config_to: Some(&attachment),
        key: None,
        limits: Limits::default(),
        folders: FolderMode::OwnerOnly,
    };
    let restored = restore_backup(&backup.path, &dir_below(&new, shard), &request).unwrap();
    assert_eq!(restored.memory_sha256, backup.memory_sha256);
    assert!(fs::read(attachment).unwrap() == b"{\"width\":16}");
    let runtime = Runtime::open(&new, config()).unwrap();
    let bob = runtime.user("bob").unwrap();
    assert!(stream.recall(&bob) == before);
}

#[test]
fn a_clock_that_goes_back_costs_no_backup_and_removes_none() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let far = midnight() + 3000 * DAY + 20 * HOUR;
    assert_eq!(runtime.tick(far).unwrap().backed_up.len(), 3);
    // Eight years back: the last backup lies in the future and counts as none.
    for day in 0..9 {
        let now = midnight() + day * DAY + 20 * HOUR;
        assert_eq!(runtime.tick(now).unwrap().backed_up.len(), 3, "day {day}");
        assert!(runtime.tick(now + HOUR).unwrap().backed_up.is_empty());
    }
    // The newest seven by the order in which they were taken, whatever they are called.
    let files = place.files();
    assert_eq!(files.len(), 3 * 7);
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let newest = format!("{:012}.tar", seconds(midnight() + 8 * DAY + 20 * HOUR));
    assert_eq!(
        files.iter().filter(|file| file.ends_with(&newest)).count(),
        3
    );
    let oldest = format!("{:012}.tar", seconds(far));
    assert!(files.iter().all(|file| !file.ends_with(&oldest)));
}

#[test]
fn a_clock_that_leaps_gives_one_backup_and_not_many() {
    let place = Place::new();
    let mut config = place.config();
    config.backups.as_mut().unwrap().pause = HOUR;
    let runtime = place.learned(config);
    assert_eq!(
        runtime
            .tick(midnight() + 20 * HOUR)
            .unwrap()
            .backed_up
            .len(),
        3
    );
    for day in 1..100 {
        let report = runtime.tick(midnight() + day * DAY + 20 * HOUR).unwrap();
        assert!(report.backed_up.is_empty(), "no hour has passed");
    }
}

#[test]
fn a_tick_takes_as_many_as_it_may_and_the_next_goes_on() {
    let place = Place::new();
    let mut config = place.config();
    config.backups.as_mut().unwrap().per_tick = 2;
    let runtime = place.learned(config);
    let evening = midnight() + 20 * HOUR;
    let first = runtime.tick(evening).unwrap();
    assert_eq!((first.backed_up.len(), first.left), (2, 1));
    let second = runtime.tick(evening).unwrap();
    assert_eq!((second.backed_up.len(), second.left), (1, 0));
    assert!(shards(&first).is_disjoint(&shards(&second)));
    assert!(runtime.tick(evening).unwrap() == TickReport::default());
}

/// Collects alerts.
#[derive(Default)]
struct Collected(Mutex<Vec<Alert>>);

impl AlertSink for Collected {
    fn alert(&self, alert: &Alert) {
        self.0.lock().unwrap().push(alert.clone());
    }
}

#[test]
fn a_folder_that_takes_nothing_is_told_once_per_tick_and_tried_again() {
    let place = Place::new();
    let collected = Arc::new(Collected::default());
    let mut config = place.config();
    config.alerts = Alerts::to(collected.clone());
    let runtime = place.learned(config);
    // A file in the place of the folder refuses even an administrator.
    fs::write(place.backups(), b"no folder").unwrap();
    let evening = midnight() + 20 * HOUR;
    let report = runtime.tick(evening).unwrap();
    assert!(report.backed_up.is_empty());
    assert_eq!((report.failed.len(), report.left), (1, 2));
    assert!(
        report.failed[0]
            .reason
            .contains("cannot write backups below")
    );
    {
        // A thread of the runtime delivers it.
        while collected.0.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        let alerts = collected.0.lock().unwrap();
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].kind, AlertKind::BackupFailed);
        assert_eq!(alerts[0].shard, report.failed[0].shard);
    }
    assert_eq!(runtime.stats().backup_failures, 1);
    // Learning is not concerned, and the backups come once the folder takes them.
    learn(&runtime, "alice", 7);
    fs::remove_file(place.backups()).unwrap();
    assert_eq!(runtime.tick(evening).unwrap().backed_up.len(), 3);
}

#[test]
fn a_backup_that_cannot_be_written_ends_the_tick_and_is_last_in_the_next() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let shards = USERS.map(|user| runtime.user(user).unwrap().shard());
    let first = *shards.iter().min().unwrap();
    let evening = midnight() + 20 * HOUR;
    let seconds = evening.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let name = dir_below(&place.backups(), first).join(format!("{seconds:012}.tar"));
    fs::create_dir_all(&name).unwrap();
    // The disk may be full, so the others are not even tried.
    let report = runtime.tick(evening).unwrap();
    assert_eq!((report.backed_up.len(), report.left), (0, 2));
    assert_eq!(report.failed[0].shard, first);
    let report = runtime.tick(evening).unwrap();
    assert_eq!((report.backed_up.len(), report.left), (2, 0));
    assert_eq!(report.failed[0].shard, first);
}

#[test]
fn a_memory_that_cannot_be_backed_up_does_not_keep_the_others_out() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let alice = learn(&runtime, "alice", 0);
    learn(&runtime, "bob", 1);
    let name = alice.to_string();
    let dir = place
        .root()
        .join("users")
        .join(&name[..2])
        .join(&name[2..4]);
    for file in files_below(&dir.join(&name[4..])) {
        if file
            .extension()
            .is_some_and(|extension| extension == "titanmem")
        {
            fs::write(file, b"damaged").unwrap();
        }
    }
    let report = runtime.tick(midnight() + 20 * HOUR).unwrap();
    assert_eq!((report.backed_up.len(), report.left), (2, 0));
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].shard, alice);
}

#[test]
fn forgetting_removes_backups_and_none_is_taken_after_it() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let evening = midnight() + 20 * HOUR;
    runtime.tick(evening).unwrap();
    runtime.tick(evening + DAY).unwrap();
    assert_eq!(place.files().len(), 6);
    // One that a killed process has written and not noted, and half of one.
    let alice = runtime.user("alice").unwrap().shard();
    let folder = dir_below(&place.backups(), alice);
    fs::write(folder.join("000000000001.tar"), b"whole").unwrap();
    fs::write(folder.join(".tmp-1-000000000002.tar"), b"half").unwrap();
    let receipt = runtime.forget_user("alice").unwrap().unwrap();
    assert_eq!(receipt.backups.len(), 2);
    assert_eq!(place.files().len(), 4);
    let report = runtime.tick(evening + 2 * DAY).unwrap();
    assert_eq!((report.backed_up.len(), report.failed.len()), (2, 0));
    assert!(!folder.exists());
}

#[test]
fn what_a_killed_process_left_is_swept_and_a_backup_by_hand_stays() {
    let place = Place::new();
    let runtime = place.learned(place.config());
    let evening = midnight() + 20 * HOUR;
    let report = runtime.tick(evening).unwrap();
    let first = &report.backed_up[0];
    fs::write(
        first.path.with_file_name(".tmp-1-000000000001.tar"),
        b"half",
    )
    .unwrap();
    let by_hand = place.0.path().join("by-hand.tar");
    let carol = learn(&runtime, "carol", 2);
    let request = BackupRequest {
        taken_at: Some(evening),
        ..BackupRequest::default()
    };
    create_backup(&place.dir_of(carol), carol, &by_hand, &request).unwrap();
    for day in 1..9 {
        runtime.tick(evening + day * DAY).unwrap();
    }
    let files = place.files();
    assert_eq!(files.len(), 3 * 7, "nothing half written is left");
    assert!(by_hand.exists());
    // Nor is it forgotten that it is there.
    let receipt = runtime.forget_user("carol").unwrap().unwrap();
    assert_eq!(receipt.backups.len(), 8);
    assert!(!by_hand.exists());
}

#[test]
fn a_thread_of_the_runtime_ticks_and_goes_home_at_once() {
    let place = Place::new();
    let mut config = place.config();
    let backups = config.backups.as_mut().unwrap();
    // Every second of the real clock, so that the moment of day does not matter.
    backups.every = Duration::from_secs(1);
    backups.driver = BackupDriver::Thread {
        look_every: Duration::from_millis(20),
    };
    let runtime = place.learned(config);
    let deadline = Instant::now() + Duration::from_secs(60);
    while runtime.stats().backups < 3 {
        assert!(Instant::now() < deadline, "nobody ticks");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(runtime.close(Duration::from_secs(60)).is_durable());
    let files = place.files();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(place.files() == files, "a thread outlived its runtime");
}

#[test]
fn nothing_is_backed_up_unless_asked_for() {
    let place = Place::new();
    let mut config = place.config();
    config.backups = None;
    let runtime = place.learned(config);
    let report = runtime.tick(midnight() + 20 * HOUR).unwrap();
    assert!(report == TickReport::default());
    assert!(!place.backups().exists());

    let mut config = place.config();
    config.backups.as_mut().unwrap().keep = 0;
    let error = Runtime::open(place.0.path().join("other"), config).unwrap_err();
    assert!(error.to_string().contains("backups.keep is 0"), "{error}");
}
