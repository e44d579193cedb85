//! For people who run it: sizing, backups, alarms, a restore drill, upgrades.
//!
//! # Sizing
//!
//! | what | how much | where it comes from |
//! | --- | --- | --- |
//! | RAM of a memory that is busy | [`bytes_per_user`](crate::RuntimeConfig::bytes_per_user), 17.3 MiB by default | four states, a full queue, a full ledger, the probes |
//! | RAM of a memory that is idle | one state, its ledger and probes; 2.34 MiB measured by default | |
//! | RAM of each saver while it saves | about twelve states, 25 MiB by default | |
//! | memories that are open at once | [`resident_bytes`](crate::RuntimeConfig::resident_bytes)` / bytes_per_user`, at least one, and no more than the file handles allow | others leave and come back on demand |
//! | file handles | 4 for each open memory; 256 are left to the program | the usual limit of 1024 allows 192 open memories: raise `ulimit -n` before the process starts |
//! | threads | `learners` and `compute_threads` share a pool as large as the larger of the two; as many as `compute_threads` again for commands; `savers`; one for alerts if there is a sink, one for backups if the runtime drives them | with the defaults twice the cores, and one |
//! | disk of a memory | newest generation, [`keep_old`](crate::StoreConfig::keep_old) before it, the pinned one, at most two damaged ones, the ledger and probes; room for one more generation while it saves | a generation of the default memory took 1.4 to 1.7 MiB |
//! | disk of its backups | [`keep`](crate::BackupConfig::keep) times a generation | |
//!
//! ```
//! use titanmem::RuntimeConfig;
//!
//! let config = RuntimeConfig::default();
//! assert_eq!(config.memory.state_bytes(), 2_097_156);
//! assert_eq!(config.bytes_per_user(), 18_087_952);
//! // Memories that can be open at once, if the file handles suffice.
//! assert_eq!(config.resident_bytes / config.bytes_per_user(), 237);
//! ```
//!
//! Less for each user: a shorter `queue_tokens`, a smaller ledger, fewer channels. One process
//! owns a folder; a second one is refused with [`RootLocked`](crate::OpenError::RootLocked).
//!
//! Who takes how much of the disk is told by [`Runtime::users`](crate::Runtime::users), and by
//! `titanmem users FOLDER` without your program: bytes, the last save, and what is known
//! to be damaged. Users are named there by their folders; ids are in no file.
//!
//! # Backups
//!
//! [`RuntimeConfig::backups`](crate::RuntimeConfig::backups) backs every memory up once a day,
//! loaded or not: its newest generation as one tar file, flushed, read back and verified before
//! it counts, the newest seven kept. Put them on another disk.
//!
//! ```
//! use std::time::Duration;
//! use titanmem::{BackupConfig, BackupDriver, RuntimeConfig};
//!
//! let backups = BackupConfig::new("/backups/titanmem")
//!     .with_driver(BackupDriver::Thread { look_every: Duration::from_secs(300) });
//! let config = RuntimeConfig::default().with_backups(backups);
//! ```
//!
//! Without a driver your program calls [`Runtime::tick`](crate::Runtime::tick) every few minutes.
//! **Keep a copy of `root.key` as well**, apart from the backups: it turns the ids of users into
//! names of folders, and without it nobody can tell whose a memory is.
//!
//! A copy of the folder made by other means while it is in use is no backup: it may hold files of
//! different moments. A snapshot of the whole file system is one, as a power loss would leave it.
//!
//! # Alarms
//!
//! Metrics go to the recorder of the [`metrics`](https://docs.rs/metrics) facade that your program
//! installs; [`Runtime::stats`](crate::Runtime::stats) has the same numbers without one.
//!
//! | alarm | means | do |
//! | --- | --- | --- |
//! | `titanmem_unhealthy_users` above 0 for over a minute | saves are refused, or memories are read-only | read the alerts; free the disk; [`resume`](crate::UserMemory::resume) those that failed, after their cause is known |
//! | `titanmem_damaged_files_total` rises | a damaged file was passed over: something was lost | keep `quarantine/`, look at the disk, run `titanmem verify`, restore if too much is lost |
//! | `titanmem_fsync_errors_total` rises | the device refused a flush | take it for failing: move the folder |
//! | `titanmem_alerts_total{kind="recall_dropped"}` rises | a memory answers fewer of its probes than before | look at what it was fed; [`roll_back`](crate::UserMemory::roll_back) if the rows were bad |
//! | `titanmem_alerts_total{kind="frozen"}` rises | that happened again soon after a rollback: the memory is read-only | stop the bad stream, then `roll_back` or `resume` |
//! | `titanmem_alerts_total{kind="chunk_dropped"}` rises | rows made numbers that are not finite | look at the rows, take a smaller step |
//! | `titanmem_backup_failures_total` rises, or `titanmem_backups_total` stands still for two days | there is no backup | look at the folder of backups, and at whether anybody calls `tick` |
//! | `titanmem_queued_tokens` only rises | learning is slower than the stream | more `learners` or cores, or hand over less |
//! | `titanmem_dirty_bytes` only rises | saves fall behind learning; this is what a crash would take | look at `titanmem_fsync_seconds`: if it is most of `titanmem_save_seconds` the disk is slow, else a second saver helps |
//! | `titanmem_evictions_total` rises fast | more users are active than fit | a larger `resident_bytes`, more file handles, a smaller memory |
//! | `titanmem_live_snapshots` well above three for each busy memory | readers hold [snapshots](crate::MemorySnapshot) for long | drop them |
//!
//! All of them, the spans of a trace and the kinds of alerts: [docs/observability.md].
//!
//! # A restore drill
//!
//! A backup that nobody has restored is a hope. Once a month, on a machine that is not the
//! server:
//!
//! 1. Copy one backup, and `root.key` from where you keep it.
//! 2. `titanmem restore FILE.tar` without a folder verifies every digest and says whose memory it
//!    is: a shard of 32 hexadecimal digits.
//! 3. Make an empty folder of mode 0700 and put `root.key` into it, mode 0600.
//! 4. `titanmem restore FILE.tar drill/users/AB/CD/REST` where `AB`, `CD` and `REST` are the first
//!    two, the next two and the other 28 digits.
//! 5. Open `drill` with the configuration of the server, ask for the user, and recall something
//!    that you know. [`skipped`](crate::UserMemory::skipped) must be empty.
//! 6. Write down how long it took, and remove `drill`.
//!
//! On the server itself the runtime is closed first, and the damaged memory's folder is moved
//! away: restoring into a folder that holds a memory is refused. What was learned since the
//! backup is lost; so is the ledger of items, which is not in a backup. The same in calls:
//!
//! ```
//! use std::fs;
//! use std::os::unix::fs::DirBuilderExt;
//! use std::time::{Duration, SystemTime};
//! use titanmem::store::{Limits, RestoreRequest, restore_backup, verify_backup};
//! use titanmem::{BackupConfig, FolderMode, Rows, Runtime, RuntimeConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # let (server, backups) = (root.path().join("server"), root.path().join("backups"));
//! # let drill = root.path().join("drill");
//! let row: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! let row = Rows::row(&row);
//! let mut config = RuntimeConfig::default();
//! // Every second, so that this example need not wait for a day.
//! let every = Duration::from_secs(1);
//! config.backups = Some(BackupConfig::new(backups).with_every(every));
//! let runtime = Runtime::open(&server, config)?;
//! runtime.user("ada")?.observe(row, row)?.wait()?;
//! let taken = runtime.tick(SystemTime::now())?.backed_up;
//!
//! let backup = &taken[0].path; // 1
//! let summary = verify_backup(backup, &Limits::default(), None)?; // 2
//! fs::DirBuilder::new().mode(0o700).create(&drill)?; // 3
//! fs::copy(server.join("root.key"), drill.join("root.key"))?;
//! let (first, rest) = summary.shard.split_at(2); // 4
//! let (second, rest) = rest.split_at(2);
//! let folder = drill.join("users").join(first).join(second).join(rest);
//! let shard = runtime.user("ada")?.shard();
//! let request = RestoreRequest {
//!     shard,
//!     model_to: None,
//!     config_to: None,
//!     key: None,
//!     limits: Limits::default(),
//!     folders: FolderMode::OwnerOnly,
//! };
//! restore_backup(backup, &folder, &request)?;
//! let ada = Runtime::open(&drill, RuntimeConfig::default())?.user("ada")?; // 5
//! assert!(ada.skipped().is_empty());
//! let recalled = ada.recall(row)?;
//! # let expected: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! # assert!(recalled.values().iter().zip(&expected).all(|(r, e)| (r - e).abs() < 1e-3));
//! # Ok(())
//! # }
//! ```
//!
//! # Upgrade
//!
//! 1. Read the changelog. A change of the format or of the numerics is marked there.
//! 2. Take a backup of every memory, and keep the old program.
//! 3. [`close`](crate::Runtime::close) the runtime;
//!    [`is_durable`](crate::CloseReport::is_durable) says that nothing is lost.
//! 4. Install, and run `titanmem verify FOLDER` with the new command.
//! 5. Open, and recall something that you know before you let the stream in.
//!
//! The way back: a file that is too new for a program is refused, not taken for damage, so
//! nothing falls back to older generations without a word; the old program opens what it wrote
//! itself, from the backup. While the version is 0.1 the file format is not promised yet.
//!
//! A folder may move to another processor: it opens, and goes on from the same bits. Whether it
//! then learns with the same bits depends on the preset: [docs/platforms.md].
//!
//! [docs/observability.md]: https://github.com/titanmem/titanmem/blob/main/docs/observability.md
//! [docs/platforms.md]: https://github.com/titanmem/titanmem/blob/main/docs/platforms.md
