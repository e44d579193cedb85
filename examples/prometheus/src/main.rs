//! Serves the metrics of a running memory to Prometheus.
//!
//! ```sh
//! cargo run --release -p example-prometheus            # until ctrl-c; http://127.0.0.1:9464
//! cargo run --release -p example-prometheus -- --once  # prints one page and ends
//! ```
//!
//! Four users stream made-up rows, more than one memory is asked for than fits, and one user
//! is rolled back now and then, so that most series move. The recorder is installed before
//! the runtime is opened, so that every metric arrives with its description.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use titanmem::{BackupConfig, OpenError, Rows, Runtime, RuntimeConfig, RuntimeError};

/// Upper bounds of a histogram's buckets in seconds, from a pointer swap to a slow disk.
const BUCKETS: [f64; 13] = [
    1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 1.0, 10.0,
];
const USERS: usize = 4;
const DIM: usize = 64;
const TOKENS: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    let dir = std::env::temp_dir().join(format!("titanmem-prometheus-{}", std::process::id()));
    let mut config = RuntimeConfig::default();
    config.chunk_tokens = TOKENS;
    // Room for all but one, so that memories come and go.
    config.resident_bytes = config.bytes_per_user() * (USERS - 1);
    config.backups = Some(BackupConfig::new(dir.join("backups")));
    let runtime = Runtime::open(dir.join("memories"), config)?;

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for user in 0..USERS {
            let (runtime, done) = (&runtime, &done);
            scope.spawn(move || learn(runtime, user, done));
        }
        let served = match std::env::args().any(|arg| arg == "--once") {
            true => {
                thread::sleep(Duration::from_secs(1));
                io::stdout().write_all(metrics.render().as_bytes())
            }
            false => serve(&metrics),
        };
        done.store(true, Ordering::Relaxed);
        served
    })?;
    assert!(runtime.close(Duration::from_secs(30)).is_durable());
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Streams rows until it is over. Whoever finds no room comes again later.
fn learn(runtime: &Runtime, user: usize, done: &AtomicBool) {
    for turn in (1_usize..).take_while(|_| !done.load(Ordering::Relaxed)) {
        match visit(runtime, user, turn) {
            Ok(()) | Err(RuntimeError::Open(OpenError::OverBudget { .. })) => {}
            Err(error) => eprintln!("user {user}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn visit(runtime: &Runtime, user: usize, turn: usize) -> Result<(), RuntimeError> {
    let memory = runtime.user(user)?;
    let row = |scale: f32| {
        let number = move |i: usize| ((i + turn * TOKENS + user) as f32 * scale).sin();
        (0..TOKENS * DIM).map(number).collect::<Vec<f32>>()
    };
    let (keys, values) = (row(0.37), row(0.11));
    let rows = |data| Rows::matrix(data, DIM);
    memory.observe(rows(&keys), rows(&values))?.wait()?;
    memory.recall(rows(&keys))?;
    match (user, turn % 10) {
        (0, 1) => drop(memory.pin()?),
        (0, 5) => drop(memory.roll_back()?),
        _ => {}
    }
    Ok(())
}

/// Answers every request with the page, without a web server: the exporter has one if wanted.
fn serve(metrics: &PrometheusHandle) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9464")?;
    eprintln!("http://{}/metrics, ctrl-c ends", listener.local_addr()?);
    // Moves recorded durations into their buckets, which pile up while nobody asks.
    let upkeep = metrics.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(5));
            upkeep.run_upkeep();
        }
    });
    for stream in listener.incoming() {
        // A client that went away is its own business.
        let _ = stream.and_then(|stream| answer(stream, &metrics.render()));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, page: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let is_head = |line: &io::Result<String>| line.as_ref().is_ok_and(|line| !line.is_empty());
    let _head = BufReader::new(&stream).lines().take_while(is_head).count();
    // In HTTP/1.0 a page ends with its connection.
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n{page}"
    )
}
