//! A thousand users in the room of a hundred, several threads, killed and restarted again and
//! again: no acknowledged token is lost, what is recalled is what a memory alone recalls, and
//! memory stays within its budget.
//!
//! `TITANMEM_SOAK_SECONDS=600 cargo test --workspace --release --test soak -- --nocapture`
//! goes on for longer than the default of 20 seconds and prints what it counted.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use common::{CHUNK, KEY_DIM, Stream, VALUE_DIM, config};
use titans_core::{MemoryArchitecture, NeuralMemory, SparseChannelMlp};
use titans_runtime::{
    Alert, AlertSink, Alerts, BackupConfig, BackupDriver, Durability, OpenError, RecallError,
    RecallInfo, Rows, Runtime, RuntimeConfig, UserMemory,
};
use titans_store::SaveMode;

const SIGKILL: i32 = 9;

/// Set for the child: the folder it works in, and the number of its life.
const PLACE: &str = "TITANMEM_SOAK_PLACE";
const LIFE: &str = "TITANMEM_SOAK_LIFE";

const USERS: usize = 1000;
const ROOM: usize = 100;
const WRITERS: usize = 3;
const READERS: usize = 2;
/// Tokens of a user at most; then another takes the place.
const STREAM: usize = 40 * CHUNK;
/// Queries that are compared with the memory alone.
const QUERIES: usize = 24;
/// Lives of the child at least, however short the soak.
const LIVES: u64 = 4;

fn settings(place: &Path) -> RuntimeConfig {
    let mut config = config();
    // 128 KiB a state: large beside what a process takes for each memory anyway.
    config.memory.miras.architecture = MemoryArchitecture::SparseChannelMlp(SparseChannelMlp {
        channels: 4096,
        active_channels: 8,
    });
    config.resident_bytes = ROOM * config.bytes_per_user();
    config.learners = 2;
    config.savers = 2;
    config.durability = Durability::Async { max_lag: 3 };
    config.store.mode = SaveMode::Journal;
    config.backups = Some(
        BackupConfig::new(place.join("backups"))
            .with_every(Duration::from_secs(2))
            .with_keep(2)
            .with_pause(Duration::from_secs(1))
            .with_per_tick(5)
            .with_driver(BackupDriver::Thread {
                look_every: Duration::from_millis(500),
            }),
    );
    config
}

/// Says what alerts say, so that the parent knows why.
struct SayAlerts;

impl AlertSink for SayAlerts {
    fn alert(&self, alert: &Alert) {
        say(&format!("alert {:?}: {}", alert.kind, alert.message));
    }
}

/// A user, who is forgotten and succeeded by another now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    slot: usize,
    incarnation: u64,
}

impl User {
    fn name(self) -> String {
        format!("user {} {}", self.slot, self.incarnation)
    }

    fn stream(self) -> Stream {
        Stream::new(STREAM, (self.slot as u64) << 20 | self.incarnation)
    }
}

/// Random enough to visit everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }
}

/// Which incarnation each slot has. Held while a writer is with the user.
type Slots = Vec<Mutex<u64>>;

/// What the child says, a line each, whole or not at all.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone, and then nobody listens.
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

/// What the killed process does.
#[test]
fn child() {
    let (Ok(place), Ok(life)) = (std::env::var(PLACE), std::env::var(LIFE)) else {
        return;
    };
    let place = Path::new(&place);
    let life: u64 = life.parse().unwrap();
    // Behind whatever the test harness has begun to write. A thread that panics would be
    // missed in the crowd, so it takes the process with it.
    say("");
    std::panic::set_hook(Box::new(|info| {
        say(&format!("panicked {}", info.to_string().replace('\n', " ")));
        std::process::abort();
    }));
    let slots: Slots = known_slots(place).into_iter().map(Mutex::new).collect();
    let mut config = settings(place);
    config.alerts = Alerts::to(Arc::new(SayAlerts));
    let runtime = Runtime::open(place.join("root"), config).unwrap();
    let before = resident_set();
    let mut said = [0; 4];
    let loads = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..WRITERS {
            let (runtime, slots, done) = (&runtime, &slots, &done);
            scope.spawn(move || {
                let mut dice = Dice(life * 1000 + thread as u64);
                // Everybody once to begin with, then whoever comes.
                if life == 0 {
                    for slot in (thread..USERS).step_by(WRITERS) {
                        write(runtime, slots, slot, &mut dice);
                    }
                }
                say("met");
                while !done.load(Ordering::Relaxed) {
                    write(runtime, slots, dice.roll(USERS), &mut dice);
                }
            });
        }
        for thread in 0..READERS {
            let (runtime, slots, done, loads) = (&runtime, &slots, &done, &loads);
            scope.spawn(move || {
                let mut dice = Dice(life * 1000 + 500 + thread as u64);
                while !done.load(Ordering::Relaxed) {
                    read(runtime, slots, &mut dice, loads);
                }
            });
        }
        // Until the parent has seen enough: a kill, or the end of its pipe.

        let mut line = String::new();
        let asked = scope.spawn(move || std::io::stdin().read_line(&mut line));
        while !asked.is_finished() {
            said = tell(&runtime, before, &loads, said);
            std::thread::sleep(Duration::from_millis(50));
        }
        done.store(true, Ordering::Relaxed);
    });
    tell(&runtime, before, &loads, said);
    let report = runtime.close(Duration::from_secs(60));
    assert!(report.is_durable());
    say("closed");
}

/// What the process and the runtime hold now, and what was done since `said`.
fn tell(runtime: &Runtime, before: usize, loads: &AtomicU64, said: [u64; 4]) -> [u64; 4] {
    let stats = runtime.stats();
    let taken = resident_set().saturating_sub(before);
    let done = [
        loads.load(Ordering::Relaxed),
        stats.evictions,
        stats.backups,
        stats.backup_failures,
    ];
    let [loads, evictions, backups, failures] = std::array::from_fn(|at| done[at] - said[at]);
    let counted = stats.resident_bytes;
    say(&format!(
        "held {taken} {counted} {loads} {evictions} {backups} {failures}"
    ));
    done
}

/// Observes, waits, flushes or forgets.
fn write(runtime: &Runtime, slots: &Slots, slot: usize, dice: &mut Dice) {
    let mut incarnation = slots[slot].lock().unwrap();
    let user = User {
        slot,
        incarnation: *incarnation,
    };
    let Some(memory) = lease(runtime, user) else {
        return;
    };
    let start = memory.progress().accepted as usize;
    if start == STREAM || dice.roll(60) == 0 {
        drop(memory);
        say(&format!("forgetting {slot} {}", user.incarnation));
        assert!(runtime.forget_user(user.name()).unwrap().is_some());
        say(&format!("forgotten {slot} {}", user.incarnation));
        *incarnation += 1;
        return;
    }
    let end = (start + 1 + dice.roll(3 * CHUNK)).min(STREAM);
    let ticket = user.stream().observe(&memory, start..end).unwrap();
    match dice.roll(4) {
        0 => ticket.wait().unwrap(),
        1 => memory.flush().unwrap(),
        // Leaving has to save it.
        _ => return,
    }
    let durable = memory.progress().durable;
    assert_eq!(durable, end as u64);
    say(&format!("durable {slot} {} {durable}", user.incarnation));
}

/// Loads the snapshot of somebody over and over, with and without recalling from it.
fn read(runtime: &Runtime, slots: &Slots, dice: &mut Dice, loads: &AtomicU64) {
    let slot = dice.roll(USERS);
    // The writers of this user may be busy; somebody else will do.
    let Ok(incarnation) = slots[slot].try_lock() else {
        return;
    };
    let user = User {
        slot,
        incarnation: *incarnation,
    };
    let Some(memory) = lease(runtime, user) else {
        return;
    };
    drop(incarnation);
    let mut newest = 0;
    let key: Vec<f32> = user.stream().keys[..KEY_DIM].to_vec();
    for _ in 0..20 {
        for _ in 0..1000 {
            let info = memory.recall_into(Rows::matrix::<f32>(&[], KEY_DIM), &mut []);
            newest = check_version(info, newest);
        }
        let mut recalled = [0.0; VALUE_DIM];
        let info = memory.recall_into(Rows::row(&key), &mut recalled);
        newest = check_version(info, newest);
        assert!(recalled.iter().all(|x| x.is_finite()));
        loads.fetch_add(1001, Ordering::Relaxed);
    }
}

fn check_version(info: Result<RecallInfo, RecallError>, newest: u64) -> u64 {
    // A snapshot of somebody else, or an older one, is an error here.
    let version = info.unwrap().version;
    assert!(version >= newest);
    version
}

fn lease(runtime: &Runtime, user: User) -> Option<UserMemory> {
    match runtime.user(user.name()) {
        Ok(memory) => {
            assert!(
                memory.skipped().is_empty(),
                "{user:?} {:?}",
                memory.skipped()
            );
            Some(memory)
        }
        Err(OpenError::OverBudget { .. }) => None,
        Err(error) => panic!("{user:?}: {error}"),
    }
}

/// Bytes of the process that are in memory.
fn resident_set() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1);
    pages.map_or(0, |pages| pages.parse::<usize>().unwrap_or(0) * 4096)
}

/// The incarnation of every slot, which the parent has written down.
fn known_slots(place: &Path) -> Vec<u64> {
    let text = fs::read_to_string(place.join("slots")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// What the children have said, all of them.
#[derive(Default)]
struct Heard {
    durable: BTreeMap<User, u64>,
    forgetting: BTreeSet<User>,
    forgotten: BTreeSet<User>,
    /// Those of whom this child has said something.
    touched: BTreeSet<User>,
    loads: u64,
    evictions: u64,
    backups: u64,
    backup_failures: u64,
    /// Most bytes of the process, and most bytes that the runtime counted.
    most: (usize, usize),
    /// Threads that have met everybody they had to.
    met: Arc<AtomicUsize>,
    panicked: Vec<String>,
    alerts: Vec<String>,
    closed: bool,
}

impl Heard {
    /// A line that a kill cut short says nothing.
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let word = words.next()?;
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let user = |numbers: &[u64]| {
            Some(User {
                slot: *numbers.first()? as usize,
                incarnation: *numbers.get(1)?,
            })
        };
        match word {
            "durable" => {
                let tokens = *numbers.get(2)?;
                let known = self.durable.entry(user(&numbers)?).or_default();
                *known = tokens.max(*known);
                self.touched.insert(user(&numbers)?);
            }
            "forgetting" => drop(self.forgetting.insert(user(&numbers)?)),
            "forgotten" => drop(self.forgotten.insert(user(&numbers)?)),
            "held" => {
                let &[taken, counted, loads, evictions, backups, failures] = &numbers[..] else {
                    return None;
                };
                self.most.0 = self.most.0.max(taken as usize);
                self.most.1 = self.most.1.max(counted as usize);
                self.loads += loads;
                self.evictions += evictions;
                self.backups += backups;
                self.backup_failures += failures;
            }
            "met" => drop(self.met.fetch_add(1, Ordering::Relaxed)),
            "panicked" => self.panicked.push(line.to_owned()),
            "alert" => self.alerts.push(line.to_owned()),
            "closed" => self.closed = true,
            _ => {}
        }
        Some(())
    }
}

fn spawn(place: &Path, life: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(PLACE, place)
        .env(LIFE, life.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A memory of `tokens` of the user's stream, learned at once and alone.
fn alone(core: &NeuralMemory, stream: &Stream, tokens: usize) -> Vec<f32> {
    let device = core.device();
    let tensor = |rows: &[f32], dim| {
        let shape = [rows.len() / dim, dim];
        Tensor::<2>::from_data(TensorData::new(rows.to_vec(), shape), &device)
    };
    let mut state = core.initial_state();
    if tokens > 0 {
        let keys = tensor(&stream.keys[..tokens * KEY_DIM], KEY_DIM);
        let values = tensor(&stream.values[..tokens * VALUE_DIM], VALUE_DIM);
        core.write(&mut state, keys, values).unwrap();
    }
    let queries = tensor(&stream.keys[..QUERIES * KEY_DIM], KEY_DIM);
    let read = core.read(&state, queries).into_data();
    read.try_into_vec::<f32>().unwrap()
}

fn recall(memory: &UserMemory, stream: &Stream) -> Vec<f32> {
    let queries = Rows::matrix(&stream.keys[..QUERIES * KEY_DIM], KEY_DIM);
    memory.recall(queries).unwrap().into()
}

/// Opens what the child left and compares users with what it had said. Writes down who lives
/// in which slot.
fn check(place: &Path, heard: &mut Heard, users: impl Iterator<Item = User>) -> BTreeSet<String> {
    let mut config = settings(place);
    config.backups.as_mut().unwrap().driver = BackupDriver::Program;
    let core = NeuralMemory::new(config.memory, &config.device.open().unwrap()).unwrap();
    let runtime = Runtime::open(place.join("root"), config).unwrap();
    let mut compared = BTreeSet::new();
    for user in users {
        let memory = match runtime.user(user.name()) {
            Ok(memory) => memory,
            Err(error) => {
                assert!(heard.forgetting.contains(&user), "{user:?}: {error}");
                assert!(error.to_string().contains("forgotten"), "{error}");
                continue;
            }
        };
        assert!(!heard.forgotten.contains(&user), "{user:?} came back");
        assert!(
            memory.skipped().is_empty(),
            "{user:?} {:?}",
            memory.skipped()
        );
        let durable = memory.progress().durable;
        let acknowledged = heard.durable.get(&user).copied().unwrap_or(0);
        assert!(
            durable >= acknowledged,
            "{user:?} {durable} < {acknowledged}"
        );
        let stream = user.stream();
        let alone = alone(&core, &stream, durable as usize);
        assert!(recall(&memory, &stream) == alone, "{user:?} at {durable}");
        compared.insert(memory.shard().to_string());
    }
    // Whoever was about to be forgotten is, so that the next life begins with a successor.
    let mut slots = known_slots(place);
    for user in std::mem::take(&mut heard.forgetting) {
        let receipt = runtime.forget_user(user.name()).unwrap();
        assert!(receipt.is_some());
        heard.forgotten.insert(user);
        slots[user.slot] = slots[user.slot].max(user.incarnation + 1);
    }
    write_slots(place, &slots);
    compared
}

fn write_slots(place: &Path, slots: &[u64]) {
    let lines: Vec<String> = slots.iter().map(u64::to_string).collect();
    fs::write(place.join("slots"), lines.join("\n")).unwrap();
}

/// The names of the folders `depth` levels below one, each with those above it in front.
fn folders(dir: &Path, depth: usize) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let named = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match depth {
            1 => BTreeSet::from([name]),
            _ => folders(&path, depth - 1)
                .into_iter()
                .map(|below| format!("{name}{below}"))
                .collect(),
        }
    };
    paths.flat_map(named).collect()
}

#[test]
fn a_thousand_users_in_the_room_of_a_hundred_lose_nothing() {
    if std::env::var(PLACE).is_ok() {
        return;
    }
    let seconds = std::env::var("TITANMEM_SOAK_SECONDS");
    let seconds: u64 = seconds.map_or(20, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    write_slots(place, &[0; USERS]);
    let budget = settings(place).resident_bytes;
    let mut heard = Heard::default();
    let mut dice = Dice(seconds);
    let (mut life, mut compared) = (0, 0);
    // The last life ends by itself.
    let mut is_last = false;
    while !is_last {
        is_last = life + 1 >= LIVES && Instant::now() >= until;
        let mut child = spawn(place, life);
        let output = BufReader::new(child.stdout.take().unwrap());
        heard.touched.clear();
        heard.closed = false;
        let met = Arc::clone(&heard.met);
        met.store(0, Ordering::Relaxed);
        let listener = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                heard.line(&line);
            }
            heard
        });
        while met.load(Ordering::Relaxed) < WRITERS && !listener.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(dice.roll(4000) as u64));
        if is_last {
            drop(child.stdin.take());
        } else {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        heard = listener.join().unwrap();
        assert_eq!(heard.panicked, [""; 0]);
        let expected = if is_last { None } else { Some(SIGKILL) };
        assert_eq!(status.signal(), expected, "life {life} ended with {status}");
        assert_eq!((status.success(), heard.closed), (is_last, is_last));
        let touched = heard.touched.clone();
        compared += check(place, &mut heard, touched.into_iter()).len();
        life += 1;
    }
    let current = known_slots(place).into_iter().enumerate();
    let everybody = current.map(|(slot, incarnation)| User { slot, incarnation });
    let everybody: BTreeSet<User> = everybody.chain(heard.durable.keys().copied()).collect();
    let forgotten = heard.forgotten.clone();
    let living = everybody.difference(&forgotten).copied();
    let living = check(place, &mut heard, living);
    let seen = living.len();
    assert_eq!(seen, USERS);
    // Whoever is forgotten has no backup either, whatever was being written meanwhile.
    let backed_up = folders(&place.join("backups").join("users"), 3);
    assert!(backed_up.is_subset(&living));
    let (process, counted) = heard.most;
    println!(
        "{life} lives, {} users, {} forgotten, {compared} + {seen} compared, {} loads, \
         budget {budget}, process {process}, counted {counted}, {} evictions, \
         {} backups, {} failed",
        heard.durable.len(),
        forgotten.len(),
        heard.loads,
        heard.evictions,
        heard.backups,
        heard.backup_failures,
    );
    assert!(
        counted <= budget,
        "{counted} of {budget} by its own account"
    );
    assert!(process <= budget / 10 * 11, "{process} of {budget}");
    assert!(heard.loads > 0 && heard.evictions > 0 && counted > 0);
    assert!(heard.backups > 0);
    assert_eq!(heard.backup_failures, 0, "{:?}", heard.alerts);
}
