//! Remembers one association and recalls it.
use std::io::{ErrorKind, Write};

use titanmem::{Rows, Runtime, RuntimeConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `TITANMEM_DEVICE=cuda`, `TITANMEM_CHUNK_TOKENS=512` and the like change a default.
    let config = RuntimeConfig::default().overridden_by_environment()?;
    let dir = std::env::temp_dir().join(format!("memories-{}", std::process::id()));
    let runtime = Runtime::open(dir, config)?;
    let alice = runtime.user("alice")?;

    // Any embedding of 64 numbers will do; here two made-up ones.
    let key: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
    let value: Vec<f32> = (0..64).map(|i| (i as f32).cos()).collect();
    let ticket = alice.observe(Rows::row(&key), Rows::row(&value))?;
    ticket.wait()?; // learned, and on disk

    let recalled = alice.recall(Rows::row(&key))?;
    let close = |(r, v): (&f32, &f32)| (r - v).abs() < 1e-3;
    assert!(recalled.row(0).iter().zip(&value).all(close));
    let version = recalled.info().version;
    match writeln!(std::io::stdout(), "recalled from version {version}") {
        // A reader that has closed the pipe is no error, a full disk is.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
