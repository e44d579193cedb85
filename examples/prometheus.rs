//! Serves the metrics of a running memory to Prometheus.
//!
//! ```sh
//! cargo run --release --example prometheus            # until ctrl-c; http://127.0.0.1:9464
//! cargo run --release --example prometheus -- --once  # prints one page and ends
//! ```
//!
//! Four users stream made-up rows, more than one memory is asked for than fits, and one user
//! is rolled back now and then, so that most series move. The recorder is installed before
//! the runtime is opened, so that every metric arrives with its description.

#[macro_use]
#[path = "shared/out.rs"]
mod out;

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use titanmem::{BackupConfig, Device, Rows, Runtime, RuntimeConfig, RuntimeError};

/// Upper bounds of a histogram's buckets in seconds, from a pointer swap to a slow disk.
const BUCKETS: [f64; 13] = [
    1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 1.0, 10.0,
];
const DIM: usize = 64;
const TOKENS: usize = 512;

#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9464")]
    listen: String,
    /// Where to compute: auto, cpu, cuda, cuda:N or wgpu.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Users that learn, each on a thread.
    #[arg(long, default_value_t = 4)]
    users: usize,
    /// Learn for a second, print one page as Prometheus would get it, and end.
    #[arg(long)]
    once: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    let listener = match args.once {
        true => TcpListener::bind("127.0.0.1:0")?,
        false => TcpListener::bind(&args.listen)?,
    };
    let address = listener.local_addr()?;

    let dir = std::env::temp_dir().join(format!("titanmem-prometheus-{}", std::process::id()));
    let mut config = RuntimeConfig::default();
    config.device = args.device;
    config.chunk_tokens = TOKENS;
    // Room for all but one, so that memories come and go.
    config.resident_bytes = config.bytes_per_user() * args.users.saturating_sub(1).max(1);
    config.backups = Some(BackupConfig::new(dir.join("backups")));
    let runtime = Runtime::open(dir.join("memories"), config)?;

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for user in 0..args.users {
            let (runtime, done) = (&runtime, &done);
            scope.spawn(move || learn(runtime, user, done));
        }
        scope.spawn(|| serve(&listener, &metrics, &done));
        if args.once {
            std::thread::sleep(Duration::from_secs(1));
            let page = scrape(&address.to_string());
            done.store(true, Ordering::Relaxed);
            // Lets the listener see that it is over.
            drop(TcpStream::connect(address));
            out!("{}", page?);
        } else {
            eprintln!("http://{address}/metrics, ctrl-c ends");
        }
        Ok::<(), std::io::Error>(())
    })?;
    let report = runtime.close(Duration::from_secs(30));
    assert!(report.is_durable());
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Streams rows until it is over. Whoever finds no room comes again later.
fn learn(runtime: &Runtime, user: usize, done: &AtomicBool) {
    let mut turn = 0_usize;
    while !done.load(Ordering::Relaxed) {
        turn += 1;
        match visit(runtime, user, turn) {
            Ok(()) | Err(RuntimeError::OverBudget { .. }) => {}
            Err(error) => eprintln!("user {user}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn visit(runtime: &Runtime, user: usize, turn: usize) -> Result<(), RuntimeError> {
    let memory = runtime.user(&format!("user {user}"))?;
    let row = |scale: f32| {
        let number = move |i: usize| ((i + turn * TOKENS + user) as f32 * scale).sin();
        (0..TOKENS * DIM).map(number).collect::<Vec<f32>>()
    };
    let (keys, values) = (row(0.37), row(0.11));
    let rows = |data| Rows::f32(data, TOKENS, DIM);
    memory.observe(rows(&keys), rows(&values))?.wait()?;
    let mut recalled = vec![0.0; TOKENS * DIM];
    memory.recall_into(rows(&keys), &mut recalled)?;
    match (user, turn % 10) {
        (0, 1) => memory.pin().map(drop),
        (0, 5) => memory.roll_back().map(drop),
        _ => Ok(()),
    }
}

/// Answers every request with the page. A library with a web server has one; this example
/// shows that none is needed.
fn serve(listener: &TcpListener, metrics: &PrometheusHandle, done: &AtomicBool) {
    let mut upkeep = Instant::now();
    for stream in listener.incoming() {
        if done.load(Ordering::Relaxed) {
            return;
        }
        // Moves recorded durations into their buckets, which otherwise pile up.
        if upkeep.elapsed() > Duration::from_secs(5) {
            metrics.run_upkeep();
            upkeep = Instant::now();
        }
        // A client that went away is its own business.
        let _ = stream.and_then(|stream| answer(stream, &metrics.render()));
    }
}

fn answer(mut stream: TcpStream, page: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut lines = BufReader::new(&stream).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    )
}

/// The page as a client gets it.
fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let page = response.split_once("\r\n\r\n").map(|(_, page)| page);
    Ok(page.unwrap_or_default().to_owned())
}
