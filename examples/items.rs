//! Things with names: an agent stores notes by their embeddings, is told which stored note a
//! question comes closest to and how sure that is, and takes one back, exactly.

use std::error::Error;
use std::io::{self, ErrorKind, Write};

use titanmem::{ItemId, LedgerConfig, Rows, Runtime, RuntimeConfig};

const NOTES: [&str; 5] = [
    "Ada prefers trains to planes",
    "the spare key is under the blue pot",
    "the garage door code is 4711",
    "Tuesday's meeting moved to the library",
    "Tom is allergic to walnuts",
];

/// A stand-in for an embedder: words, hashed to directions.
fn embed(text: &str) -> Vec<f32> {
    let mut row = vec![0.0; 64];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
        let mut hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        for number in &mut row {
            hash = hash.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *number += (hash >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
    }
    row
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("notes-{}", std::process::id()));
    // `--config FILE` in place of the defaults; `TITANMEM_DEVICE=cuda` and the like go over it.
    let config = match std::env::args().skip_while(|arg| arg != "--config").nth(1) {
        Some(file) => RuntimeConfig::read(file)?,
        // Tokens are kept as they came, so that forgetting can be exact.
        None => RuntimeConfig::default()
            .with_ledger(LedgerConfig::default().with_replay_bytes(64 << 20)),
    };
    let config = config.overridden_by_environment()?;
    let runtime = Runtime::open(&dir, config)?;
    let memory = runtime.user("ada")?;
    for (id, note) in (0_u64..).zip(NOTES) {
        // An embedding is its own value: what is recalled is the note that it reminds of.
        let row = embed(note);
        let row = Rows::row(&row).unit();
        memory.observe_item(id, row, row)?;
    }
    memory.flush()?;

    let ask = |question: &str| -> Result<Option<ItemId>, Box<dyn Error>> {
        let row = embed(question);
        let recalled = memory.recall(Rows::row(&row).unit())?;
        let info = recalled.info();
        let nearest = info
            .neighbours
            .first()
            .filter(|nearest| nearest.score > 0.5);
        let answer = nearest.map_or("nothing", |nearest| NOTES[nearest.item.0 as usize]);
        let surprise = info.surprise.unwrap_or(1.0);
        say(format!(
            "{question:45} -> {answer} (surprise {surprise:.2})"
        ))?;
        Ok(nearest.map(|nearest| nearest.item))
    };
    assert_eq!(ask("what is the garage door code")?, Some(ItemId(2)));
    assert_eq!(ask("is Tom allergic to anything")?, Some(ItemId(4)));

    let forgotten = memory.forget(2_u64)?.expect("the ledger knows it");
    let percent = forgotten.remains * 100.0;
    say(format!(
        "forgot the code at once: {percent:.1} % of its recall is left"
    ))?;
    let rebuilt = memory.rebuild()?;
    say(format!(
        "forgot it exactly: {} tokens learned again",
        rebuilt.tokens_replayed
    ))?;
    assert_ne!(ask("what is the garage door code")?, Some(ItemId(2)));
    assert_eq!(ask("is Tom allergic to anything")?, Some(ItemId(4)));
    drop(runtime);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
