//! What the operating system refuses, and how it interrupts: threads, files, system calls.
//! Each case runs in a process of its own, because limits and signals are for the whole process.
//!
//! Memory that cannot be had is not tried: a Rust process that asks for it ends.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/patience.rs"]
mod patience;

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{CHUNK, Stream, config};
use patience::{PATIENCE, eventually};
use titans_runtime::{
    Alert, AlertSink, Alerts, BackupConfig, BackupDriver, Runtime, RuntimeConfig, WaitError,
};

/// Set for the child: the folder it works in.
const ROOT: &str = "TITANMEM_LIMITED_ROOT";
/// The user "nobody".
const NOBODY: u32 = 65534;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl AlertSink for Heard {
    fn alert(&self, alert: &Alert) {
        self.0.lock().unwrap().push(alert.message.clone());
    }
}

/// Runs this test again in a process of its own; the closure is what happens there.
fn in_a_process_of_its_own(test: &str, prepare: impl FnOnce(&Path), work: impl FnOnce(&Path)) {
    if let Ok(root) = std::env::var(ROOT) {
        return work(Path::new(&root));
    }
    let root = tempfile::tempdir().unwrap();
    prepare(root.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ROOT, root.path().join("root"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    println!("{text}");
    assert!(child.status.success(), "{}: {errors}", child.status);
    assert!(text.contains("1 passed"), "it did not run");
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: pointers to a local variable.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &raw mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(resource, &raw const limit), 0);
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn four_threads() -> RuntimeConfig {
    let mut config = config();
    config.compute_threads = Some(2);
    config.savers = 2;
    config
}

#[test]
fn a_thread_that_cannot_be_started_is_an_error_and_leaves_nothing() {
    // SAFETY: it has no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return println!("SKIPPED: only root can become a user without other threads");
    }
    let test = "a_thread_that_cannot_be_started_is_an_error_and_leaves_nothing";
    let prepare = |dir: &Path| chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let work = |root: &Path| {
        // Of root the system refuses no thread.
        // SAFETY: plain numbers.
        unsafe {
            assert_eq!(libc::setgid(NOBODY), 0);
            assert_eq!(libc::setuid(NOBODY), 0);
        }
        let before = threads();
        let mut refused = 0;
        loop {
            limit(libc::RLIMIT_NPROC, (before + refused) as u64);
            let opened = Runtime::open(root, four_threads());
            limit(libc::RLIMIT_NPROC, u64::MAX);
            let error = match opened {
                Ok(runtime) => {
                    assert!(runtime.close(PATIENCE).is_durable());
                    break;
                }
                Err(error) => error,
            };
            println!("{refused} threads: {error}");
            assert!(
                error.to_string().contains("cannot start the thread"),
                "{error}"
            );
            assert!(error.is_retryable());
            eventually("its threads have ended", || threads() == before);
            // The folder is free.
            let runtime = Runtime::open(root, four_threads()).unwrap();
            assert!(runtime.close(PATIENCE).is_durable());
            eventually("its threads have ended", || threads() == before);
            refused += 1;
        }
        // Two that compute, one of which learns, two for commands, two that save.
        assert_eq!(refused, 6);
    };
    in_a_process_of_its_own(test, prepare, work);
}

/// A configuration that starts every thread that there is.
fn every_thread(root: &Path) -> RuntimeConfig {
    let mut config = config();
    config.learners = 2;
    config.savers = 2;
    config.compute_threads = Some(3);
    config.alerts = Alerts::to(Arc::new(Heard::default()));
    let mut backups = BackupConfig::new(root.join("backups"));
    backups.driver = BackupDriver::Thread {
        look_every: Duration::from_secs(3600),
    };
    config.backups = Some(backups);
    config
}

/// The threads of a runtime, by name.
fn threads_of_ours() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // One that has ended meanwhile has no name.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("titanmem-")).collect()
}

#[test]
fn whichever_thread_is_refused_opening_is_undone_and_the_next_one_works() {
    // SAFETY: it has no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return println!("SKIPPED: only root can become a user without other threads");
    }
    let test = "whichever_thread_is_refused_opening_is_undone_and_the_next_one_works";
    let prepare = |dir: &Path| chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let work = |root: &Path| {
        // Of root the system refuses no thread.
        // SAFETY: plain numbers.
        unsafe {
            assert_eq!(libc::setgid(NOBODY), 0);
            assert_eq!(libc::setuid(NOBODY), 0);
        }
        let memories = root.join("memories");
        let stream = Stream::new(CHUNK, 1);
        let works = || {
            let runtime = Runtime::open(&memories, every_thread(root)).unwrap();
            let memory = runtime.user("alice").unwrap();
            stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
            let started = threads();
            assert!(runtime.close(PATIENCE).is_durable());
            drop(memory);
            eventually("its threads have ended", || threads_of_ours().is_empty());
            started
        };
        // Libraries below may start threads of their own on first use, which stay.
        works();
        let before = threads();
        let takes = works() - before;
        assert!(takes >= 3 + 2 + 2, "{takes}");
        for granted in 0..takes {
            limit(libc::RLIMIT_NPROC, (before + granted) as u64);
            let opened = Runtime::open(&memories, every_thread(root));
            limit(libc::RLIMIT_NPROC, u64::MAX);
            let error = opened.expect_err("a thread was refused");
            println!("{granted} threads: {error}");
            assert!(
                error.to_string().contains("cannot start the thread"),
                "{error}"
            );
            assert!(error.is_retryable(), "{error}");
            eventually("its threads have ended", || threads_of_ours().is_empty());
            assert_eq!(works(), before + takes);
            eventually("it is as before", || threads() == before);
        }
        limit(libc::RLIMIT_NPROC, (before + takes) as u64);
        let opened = Runtime::open(&memories, every_thread(root));
        limit(libc::RLIMIT_NPROC, u64::MAX);
        assert!(opened.unwrap().close(PATIENCE).is_durable());
        // Each of them has learned and saved.
        let runtime = Runtime::open(&memories, every_thread(root)).unwrap();
        let learned = runtime.user("alice").unwrap().progress().durable;
        assert_eq!(learned, ((takes + 2) * CHUNK) as u64);
    };
    in_a_process_of_its_own(test, prepare, work);
}

#[test]
fn few_files_are_enough_for_many_users() {
    let test = "few_files_are_enough_for_many_users";
    let work = |root: &Path| {
        limit(libc::RLIMIT_NOFILE, 64);
        let runtime = Runtime::open(root, config()).unwrap();
        let stream = Stream::new(CHUNK, 1);
        for user in 0..100 {
            let memory = runtime.user(format!("user {user}")).unwrap();
            stream.observe(&memory, 0..CHUNK).unwrap();
        }
        let memory = runtime.user("user 0").unwrap();
        memory.flush().unwrap();
        // The rest of the program takes every file that is left.
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        let ticket = stream.observe(&memory, 0..5).unwrap();
        let error = ticket.wait().unwrap_err();
        let is_told = matches!(error, WaitError::Unavailable { .. });
        assert!(
            is_told && error.to_string().contains("os error 24"),
            "{error}"
        );
        let error = runtime.user("somebody else").unwrap_err();
        assert!(error.is_retryable(), "{error}");
        drop(taken);
        eventually("it comes back by itself", || memory.health().is_healthy());
        ticket.wait().unwrap();
        drop((memory, ticket));
        let error = runtime.user("somebody else").map(drop);
        assert!(error.is_ok(), "{error:?}");
        for user in 0..100 {
            let memory = runtime.user(format!("user {user}")).unwrap();
            let tokens = CHUNK as u64 + if user == 0 { 5 } else { 0 };
            assert_eq!(memory.progress().durable, tokens, "user {user}");
            assert!(memory.skipped().is_empty());
        }
        assert!(runtime.close(PATIENCE).is_durable());
    };
    in_a_process_of_its_own(test, |_| {}, work);
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Sends a signal to every thread, again and again.
fn interrupt_everybody(until: &AtomicBool) {
    // SAFETY: plain numbers.
    let process = unsafe { libc::getpid() };
    while !until.load(Ordering::Relaxed) {
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let task: libc::pid_t = task.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: plain numbers; a thread that has ended is an error that does not matter.
            unsafe { libc::syscall(libc::SYS_tgkill, process, task, libc::SIGUSR1) };
        }
        thread::sleep(Duration::from_micros(50));
    }
}

#[test]
fn interrupted_system_calls_are_no_failures() {
    let test = "interrupted_system_calls_are_no_failures";
    let work = |root: &Path| {
        // SAFETY: the handler only counts. Without SA_RESTART a call that waits is interrupted.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            let set = libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
            assert_eq!(set, 0);
        }
        let heard = Arc::new(Heard::default());
        let mut settings = config();
        settings.alerts = Alerts::to(Arc::clone(&heard) as _);
        settings.ledger.replay_bytes = 1 << 20;
        settings.resident_bytes = settings.bytes_per_user();
        let stream = Stream::new(CHUNK, 1);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| interrupt_everybody(&is_over));
            let work = scope.spawn(|| {
                for round in 1..=20 {
                    let runtime = Runtime::open(root, settings.clone()).unwrap();
                    // There is room for one: each is opened again.
                    for user in ["alice", "bob"] {
                        let memory = runtime.user(user).unwrap();
                        assert!(memory.skipped().is_empty(), "{:?}", memory.skipped());
                        for _ in 0..4 {
                            stream.observe(&memory, 0..CHUNK).unwrap().wait().unwrap();
                        }
                        memory.pin().unwrap();
                        let progress = memory.progress();
                        assert_eq!(progress.durable, round * 4 * CHUNK as u64);
                    }
                    assert_eq!(runtime.stats().fsync_errors, 0);
                    assert!(runtime.close(PATIENCE).is_durable());
                }
            });
            let outcome = work.join();
            is_over.store(true, Ordering::Relaxed);
            outcome.unwrap();
        });
        let signals = SIGNALS.load(Ordering::Relaxed);
        println!("{signals} signals");
        assert!(signals > 1000);
        assert_eq!(*heard.0.lock().unwrap(), Vec::<String>::new());
    };
    in_a_process_of_its_own(test, |_| {}, work);
}
