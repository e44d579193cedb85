//! A server on tokio: a line in, a line out, a memory for each user.
//!
//! ```sh
//! cargo run -p example-tokio-server             # eight clients come, ask and go
//! cargo run -p example-tokio-server -- --serve  # until ctrl-c or SIGTERM; ask it with `nc`
//! ```
//! `ann learn 7 my red bike` hands over a text under a number, `ann ask which bike` gives the
//! number of Ann's nearest text. Told to end, the server saves what was handed over.

use std::io::{self, ErrorKind, Write};
use std::{net::SocketAddr, sync::Arc, time::Duration};

use titanmem::{Rows, Runtime, RuntimeConfig, UserMemory};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::{self, unix::SignalKind};
use tokio::task::{JoinSet, spawn_blocking};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let dir = std::env::temp_dir().join(format!("tokio-server-{}", std::process::id()));
    let runtime = Arc::new(Runtime::open(&dir, RuntimeConfig::default())?);
    let mut terminated = signal::unix::signal(SignalKind::terminate())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    eprintln!("{address}");
    let is_for_others = std::env::args().any(|arg| arg == "--serve");
    let numbers = if is_for_others { 0..0 } else { 1..9 };
    let mut clients: JoinSet<_> = numbers.map(|number| client(address, number)).collect();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => drop(tokio::spawn(serve(stream, Arc::clone(&runtime)))),
            Some(told) = clients.join_next() => {
                say(told??)?;
                if clients.is_empty() { break }
            }
            _ = signal::ctrl_c() => break,
            _ = terminated.recv() => break,
        }
    }
    let report = spawn_blocking(move || runtime.close(Duration::from_secs(30))).await?;
    assert!(report.is_durable(), "{report:?}");
    say(format!("closed, {} memories durable", report.users.len()))?;
    Ok(std::fs::remove_dir_all(dir)?)
}

async fn serve(stream: TcpStream, runtime: Arc<Runtime>) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = answer(&line, &runtime).await;
        let answer = answer.unwrap_or_else(|error| format!("error: {error}"));
        output.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

/// Blocks while it reads files, if the memory is not loaded, so it has a thread for that.
async fn memory_of(user: &str, runtime: &Arc<Runtime>) -> Result<UserMemory, AnyError> {
    let (user, runtime) = (user.to_owned(), Arc::clone(runtime));
    Ok(spawn_blocking(move || runtime.user(&user)).await??)
}

async fn answer(line: &str, runtime: &Arc<Runtime>) -> Result<String, AnyError> {
    match &line.split(' ').collect::<Vec<_>>()[..] {
        [user, "learn", number, text @ ..] => {
            let (memory, row) = (memory_of(user, runtime).await?, embed(text));
            let (number, row): (u64, _) = (number.parse()?, Rows::row(&row).unit());
            let ticket = memory.observe_item_async(number, row, row).await?;
            ticket.durable().await?;
            Ok("learned".to_owned())
        }
        [user, "ask", text @ ..] => {
            let (memory, row) = (memory_of(user, runtime).await?, embed(text));
            let recalled = memory.recall(Rows::row(&row).unit())?;
            let mut neighbours = recalled.info().neighbours.iter();
            let nearest = neighbours.find(|item| item.score > 0.5);
            Ok(nearest.map_or("nothing".to_owned(), |item| item.item.0.to_string()))
        }
        _ => Err("USER learn NUMBER TEXT, or USER ask TEXT".into()),
    }
}

/// All ask the same question; each has an answer of its own.
async fn client(address: SocketAddr, client: u32) -> Result<String, AnyError> {
    let (input, mut output) = TcpStream::connect(address).await?.into_split();
    let mut lines = BufReader::new(input).lines();
    let code = (1111 * client).to_string();
    for (line, expected) in [
        (&*format!("learn {code} code of the front door"), "learned"),
        ("ask what is the code of the door", &code),
        ("ask who feeds my cat", "nothing"),
    ] {
        let line = format!("user{client} {line}\n");
        output.write_all(line.as_bytes()).await?;
        let told = lines.next_line().await?;
        assert_eq!(told.as_deref(), Some(expected), "{line}");
    }
    Ok(format!("client {client} was told its code: {code}"))
}

/// A stand-in for an embedder: words, hashed to directions.
fn embed(words: &[&str]) -> Vec<f32> {
    let hash = |sum: u32, byte: u8| (sum * 31 + u32::from(byte)) % 9973;
    let hashes = words.iter().map(|word| word.bytes().fold(7, hash));
    let number = |hash: u32, i: u32| (f64::from(hash * 64 + i) * 12.9898).sin() * 43_758.545;
    let numbers = |i| hashes.clone().map(move |hash| number(hash, i).fract());
    (0..64).map(|i| numbers(i).sum::<f64>() as f32).collect()
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
