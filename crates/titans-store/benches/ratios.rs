//! What the store costs beside the least that the same bytes could cost, as ratios.
//!
//! `cargo bench -p titans-store`. Absolute times on a shared machine say little, so every row
//! is a median over interleaved pairs: ours and the yardstick in turn, in one process, in the
//! same folder, on the same bytes. Where the disk plays no part, times are those of the CPU. Between brackets the middle half of the ratios. Rows that we
//! lose are printed like the others. `TITANMEM_BENCH_DIR` says where the files go, `_PAIRS` how
//! many pairs (default 15).
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{SHARD, small_image, small_stamp, tensor};
use redb::{Database, ReadableDatabase, TableDefinition};
use safetensors::tensor::{Dtype, TensorView};
use titans_store::{
    Changed, ImageDelta, Limits, MemoryImage, MemoryStore, Precision, SaveMode, StoreConfig,
    TensorDelta, TensorRole, decode, encode, encode_as, read_newest,
};

const MILLION: usize = 1_000_000;
const CHANGED: usize = MILLION / 50;

fn main() {
    // `cargo test --benches` runs this too; then once through is enough.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let pairs = std::env::var("TITANMEM_BENCH_PAIRS").ok();
    let pairs = pairs.and_then(|pairs| pairs.parse().ok());
    let pairs = pairs.unwrap_or(if is_test { 1 } else { 15 });
    let parent = std::env::var_os("TITANMEM_BENCH_DIR").map(PathBuf::from);
    let parent = parent.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let root = tempfile::tempdir_in(parent).unwrap();
    let bench = Bench {
        pairs,
        dir: root.path().to_owned(),
    };
    println!("1 M weights, 1 M momenta, Gaussian; medians of {pairs} interleaved pairs\n");
    bytes();
    println!(
        "\n{:<58}{:>9}{:>9}  ratio [middle half]",
        "", "ours", "theirs"
    );
    bench.encoding();
    bench.loading();
    bench.saving();
    bench.appending();
    bench.redb();
    bench.safetensors();
}

struct Bench {
    pairs: usize,
    dir: PathBuf,
}

/// Milliseconds of the CPU that this thread has used.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

impl Bench {
    /// Runs both in turn and prints the medians of wall time.
    fn row(&self, name: &str, goal: &str, ours: impl FnMut(), theirs: impl FnMut()) {
        let time = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        };
        self.timed_row(name, goal, time, ours, theirs);
    }

    /// Runs both in turn and prints the medians of CPU time.
    fn cpu_row(&self, name: &str, goal: &str, ours: impl FnMut(), theirs: impl FnMut()) {
        let time = |work: &mut dyn FnMut()| {
            let start = cpu();
            work();
            cpu() - start
        };
        self.timed_row(name, goal, time, ours, theirs);
    }

    fn timed_row(
        &self,
        name: &str,
        goal: &str,
        time: impl Fn(&mut dyn FnMut()) -> f64,
        mut ours: impl FnMut(),
        mut theirs: impl FnMut(),
    ) {
        let mut samples = Vec::new();
        for pair in 0..self.pairs {
            // Who goes first takes turns as well.
            let (a, b) = if pair % 2 == 0 {
                let a = time(&mut ours);
                (a, time(&mut theirs))
            } else {
                let b = time(&mut theirs);
                (time(&mut ours), b)
            };
            samples.push((a, b, a / b));
        }
        let sorted = |of: fn(&(f64, f64, f64)) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let middle = |values: &[f64]| values[values.len() / 2];
        let ratios = sorted(|sample| sample.2);
        println!(
            "{name:<58}{:>6.2} ms{:>6.2} ms  {:.2}x [{:.2} to {:.2}]  {goal}",
            middle(&sorted(|sample| sample.0)),
            middle(&sorted(|sample| sample.1)),
            middle(&ratios),
            ratios[ratios.len() / 4],
            ratios[ratios.len() * 3 / 4],
        );
    }

    fn store(&self, name: &str, mode: SaveMode) -> MemoryStore {
        let config = StoreConfig::default()
            .with_mode(mode)
            .with_precision(Precision::ExactWeights);
        MemoryStore::open(&self.dir.join(name), SHARD, config)
            .unwrap()
            .0
    }

    fn encoding(&self) {
        let image = exact();
        let state: Vec<f32> = image
            .tensors
            .iter()
            .flat_map(|t| t.values.clone())
            .collect();
        let mut copy = vec![0.0; state.len()];
        self.cpu_row(
            "encode exact, against memcpy of the floats (CPU)",
            "goal <= 40x, stretch 15x",
            || drop(black_box(encode(&image, &small_stamp()).unwrap())),
            || black_box(&mut copy).copy_from_slice(black_box(&state)),
        );
    }

    fn loading(&self) {
        let file = encode(&exact(), &small_stamp()).unwrap();
        let path = self.dir.join("load");
        fs::write(&path, &file).unwrap();
        let floats = vec![0.5_f32; 2 * MILLION];
        let mut copy = vec![0.0_f32; 2 * MILLION];
        self.cpu_row(
            "read, verify and decode, against read and memcpy (CPU)",
            "goal <= 6x",
            || {
                let bytes = fs::read(&path).unwrap();
                drop(black_box(decode(&bytes, &Limits::default()).unwrap()));
            },
            || {
                black_box(fs::read(&path).unwrap());
                black_box(&mut copy).copy_from_slice(black_box(&floats));
            },
        );
    }

    fn saving(&self) {
        let mut store = self.store("save", SaveMode::Snapshot);
        let images = [exact(), changed().0];
        let bytes = encode_as(&images[0], &small_stamp(), Precision::ExactWeights).unwrap();
        let raw = RawSaver::new(&self.dir.join("raw"));
        let mut turn = 0;
        self.row(
            "save 5 MB (encode, check, write), against raw same bytes",
            "goal <= 1.10x",
            || {
                turn += 1;
                store.save(&images[turn % 2]).unwrap();
            },
            || raw.save(&bytes),
        );
        // The same without what encoding and checking cost: one value, so the file is tiny.
        let mut small = small_image();
        small.tensors = vec![tensor("w", TensorRole::Weights, &[1], vec![0.5])];
        let bytes = encode(&small, &small_stamp()).unwrap();
        let mut store = self.store("small", SaveMode::Snapshot);
        self.row(
            "save 1 kB (the steps alone), against raw same bytes",
            "goal <= 1.10x",
            || drop(store.save(&small).unwrap()),
            || raw.save(&bytes),
        );
    }

    fn appending(&self) {
        let mut store = self.store("append", SaveMode::Journal);
        let images = [exact(), changed().0];
        store.save(&images[0]).unwrap();
        let delta = changed().1;
        let first = store.save_delta(&images[1], &delta).unwrap();
        println!("{:<58}{} bytes", "  (one record)", first.file_bytes);
        let record = vec![7_u8; first.file_bytes as usize];
        let path = self.dir.join("raw-log");
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap()
        };
        let mut raw = open();
        let mut turn = 0;
        self.row(
            "save 2 % to a journal, against raw append and fdatasync",
            "goal <= 1.15x",
            || {
                turn += 1;
                store.save_delta(&images[turn % 2], &delta).unwrap();
            },
            || {
                raw.write_all(&record).unwrap();
                raw.sync_data().unwrap();
            },
        );
    }

    fn redb(&self) {
        const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("memories");
        let mut store = self.store("beside-redb", SaveMode::Snapshot);
        let image = exact();
        let path = self.dir.join("redb");
        let database = Database::create(&path).unwrap();
        let bytes = encode_as(&image, &small_stamp(), Precision::ExactWeights).unwrap();
        let mut number = 0;
        let mut put = |bytes: &[u8]| {
            number += 1;
            let write = database.begin_write().unwrap();
            {
                let mut table = write.open_table(TABLE).unwrap();
                table.insert(number, bytes).unwrap();
                if number > 4 {
                    table.remove(number - 4).unwrap();
                }
            }
            write.commit().unwrap();
        };
        self.row(
            "save, against redb with the encoded blob",
            "goal <= 1.0x",
            || drop(store.save(&image).unwrap()),
            || put(&bytes),
        );
        self.row(
            "save, against encode and redb",
            "goal <= 1.0x",
            || drop(store.save(&image).unwrap()),
            || put(&encode_as(&image, &small_stamp(), Precision::ExactWeights).unwrap()),
        );
        let load = || {
            let read = database.begin_read().unwrap();
            let table = read.open_table(TABLE).unwrap();
            let mut newest = table.range(0..).unwrap();
            let (_, value) = newest.next_back().unwrap().unwrap();
            decode(value.value(), &Limits::default()).unwrap()
        };
        self.row(
            "open the newest, against redb and decode",
            "",
            || {
                drop(read_newest(
                    &self.dir.join("beside-redb"),
                    SHARD,
                    &Limits::default(),
                ))
            },
            || drop(black_box(load())),
        );
        let ours: u64 = sizes(&self.dir.join("beside-redb"));
        let theirs = fs::metadata(&path).unwrap().len();
        println!(
            "{:<58}{:>6.1} MB{:>6.1} MB  {:.2}x  goal <= 1.0x",
            "  (four generations on disk)",
            ours as f64 / 1e6,
            theirs as f64 / 1e6,
            ours as f64 / theirs as f64
        );
    }

    fn safetensors(&self) {
        let mut store = self.store("beside-safetensors", SaveMode::Snapshot);
        let image = exact();
        let path = self.dir.join("memory.safetensors");
        let write = |sync: bool| {
            let raw: Vec<Vec<u8>> = image
                .tensors
                .iter()
                .map(|t| little_endian(&t.values))
                .collect();
            let views = image.tensors.iter().zip(&raw).map(|(t, raw)| {
                let shape = t.shape.iter().map(|&size| size as usize).collect();
                let view = TensorView::new(Dtype::F32, shape, raw).unwrap();
                (format!("{} {}", t.role, t.name), view)
            });
            safetensors::serialize_to_file(views, None, &path).unwrap();
            if sync {
                File::open(&path).unwrap().sync_all().unwrap();
                File::open(&self.dir).unwrap().sync_all().unwrap();
            }
        };
        self.row(
            "save, against safetensors as it is (no flush, no digest)",
            "a row we lose",
            || drop(store.save(&image).unwrap()),
            || write(false),
        );
        self.row(
            "save, against safetensors and the two flushes",
            "",
            || drop(store.save(&image).unwrap()),
            || write(true),
        );
        let read = || {
            let mut bytes = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let floats = |view: TensorView<'_>| {
                let words = view.data().chunks_exact(4);
                words
                    .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
                    .collect::<Vec<_>>()
            };
            tensors
                .tensors()
                .into_iter()
                .map(|(_, view)| floats(view))
                .collect::<Vec<_>>()
        };
        self.row(
            "open the newest, against safetensors",
            "a row we lose",
            || {
                drop(read_newest(
                    &self.dir.join("beside-safetensors"),
                    SHARD,
                    &Limits::default(),
                ))
            },
            || drop(black_box(read())),
        );
        println!(
            "{:<58}{:>6.1} MB{:>6.1} MB",
            "  (one generation on disk)",
            encode_as(&image, &small_stamp(), Precision::ExactWeights)
                .unwrap()
                .len() as f64
                / 1e6,
            fs::metadata(&path).unwrap().len() as f64 / 1e6,
        );
    }
}

/// The least that a durable save of given bytes takes.
struct RawSaver {
    dir: PathBuf,
}

impl RawSaver {
    fn new(dir: &Path) -> Self {
        fs::create_dir(dir).unwrap();
        Self {
            dir: dir.to_owned(),
        }
    }

    fn save(&self, bytes: &[u8]) {
        let (temporary, target) = (self.dir.join("tmp"), self.dir.join("file"));
        let mut file = File::create(&temporary).unwrap();
        file.write_all(bytes).unwrap();
        file.sync_all().unwrap();
        fs::rename(temporary, target).unwrap();
        File::open(&self.dir).unwrap().sync_all().unwrap();
    }
}

fn sizes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Gaussian values from a fixed seed.
fn gaussian(seed: u64, scale: f64) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let value = |_| {
        let radius = (-2.0 * uniform().ln()).sqrt();
        (scale * radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    };
    (0..MILLION).map(value).collect()
}

/// A memory of a million weights whose momenta are 16-bit floats already.
fn exact() -> MemoryImage {
    let image = MemoryImage {
        tensors: vec![
            tensor("w", TensorRole::Weights, &[1000, 1000], gaussian(1, 0.03)),
            tensor("w", TensorRole::Momentum, &[1000, 1000], gaussian(2, 1e-6)),
        ],
        ..small_image()
    };
    Precision::ExactWeights.round(&image).unwrap().into_owned()
}

/// The same memory after a chunk that changed 2 % of it, and what it changed.
fn changed() -> (MemoryImage, ImageDelta) {
    let mut image = exact();
    let mut state = 5_u64;
    let mut coordinates: Vec<u32> = (0..CHANGED * 2)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32 % MILLION as u32
        })
        .collect();
    coordinates.sort_unstable();
    coordinates.dedup();
    coordinates.truncate(CHANGED * 2);
    // Thin out evenly, so that the coordinates reach over all of the tensor.
    let coordinates: Vec<u32> = coordinates.into_iter().step_by(2).take(CHANGED).collect();
    let fresh = [gaussian(3, 0.03), gaussian(4, 1e-6)];
    for (tensor, fresh) in image.tensors.iter_mut().zip(&fresh) {
        for &at in &coordinates {
            tensor.values[at as usize] = fresh[at as usize];
        }
    }
    let tensors = [TensorRole::Weights, TensorRole::Momentum].map(|role| TensorDelta {
        name: "w".to_owned(),
        role,
        changed: Changed::Coordinates(coordinates.clone()),
    });
    (
        image,
        ImageDelta {
            tensors: tensors.into(),
        },
    )
}

/// Bytes of each form; the goals are per million.
fn bytes() {
    let image = exact();
    let size =
        |image: &MemoryImage, precision| encode_as(image, &small_stamp(), precision).unwrap().len();
    let mut noisy = exact();
    noisy.tensors[1].values = gaussian(2, 1e-6);
    let rows = [
        (
            "exact weights, 16-bit momenta",
            size(&image, Precision::ExactWeights),
            "goal <= 5 300 000",
        ),
        (
            "compact",
            size(&image, Precision::Compact),
            "goal <= 3 600 000",
        ),
        (
            "exact weights, exact momenta",
            size(&noisy, Precision::Exact),
            "",
        ),
        ("as they lie in memory", 8 * MILLION, ""),
    ];
    for (name, bytes, goal) in rows {
        println!("{name:<58}{bytes:>10} bytes  {goal}");
    }
    let config = StoreConfig::default()
        .with_mode(SaveMode::Journal)
        .with_precision(Precision::ExactWeights);
    let root = tempfile::tempdir().unwrap();
    let (mut store, _) = MemoryStore::open(&root.path().join("s"), SHARD, config).unwrap();
    store.save(&image).unwrap();
    let (after, delta) = changed();
    let record = store.save_delta(&after, &delta).unwrap().file_bytes;
    println!(
        "{:<58}{record:>10} bytes  goal <= 150 000",
        "2 % changed, a journal record"
    );
    // The entropy of a random 2 % of the coordinates, against what their gaps cost.
    let p: f64 = 0.02;
    let entropy = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2()) * MILLION as f64 / 8.0;
    println!(
        "{:<58}{entropy:>10.0} bytes",
        "  (of which the coordinates cannot take less than)"
    );
}
