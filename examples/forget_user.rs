//! Forgetting, checked byte by byte: one item and then a whole user, while the raw files of
//! memories and backups are searched for the numbers that were handed over.

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::SystemTime;

use titanmem::{BackupConfig, LedgerConfig, Rows, Runtime, RuntimeConfig, UserMemory};

const DIM: usize = 64;
/// Notes of Ada: one that is forgotten alone, and one that goes with her.
const ADAS: [u64; 2] = [7, 8];
/// A note of Tom, who stays.
const TOMS: u64 = 1007;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("forget-user-{}", std::process::id()));
    let config = RuntimeConfig::default()
        // Tokens are kept as they came, so that forgetting an item can be exact. It also means
        // that there is something to find on the disk.
        .with_ledger(LedgerConfig::default().with_replay_bytes(16 << 20))
        .with_backups(BackupConfig::new(dir.join("backups")));
    let runtime = Runtime::open(dir.join("memories"), config)?;
    let (ada, tom) = (runtime.user("ada")?, runtime.user("tom")?);
    learn(&ada, 0)?;
    learn(&tom, 1000)?;

    say("note on the disk, how often    Ada's 7  Ada's 8  Tom's".to_owned())?;
    let planted = [ADAS[0], ADAS[1], TOMS];
    let look = |when: &str| -> Result<[usize; 3], Box<dyn Error>> {
        let mut found = [0; 3];
        for (found, id) in found.iter_mut().zip(planted) {
            *found = places(&note(id), &dir)?;
        }
        let [first, second, toms] = found;
        say(format!("{when:30} {first:7}  {second:7}  {toms:5}"))?;
        Ok(found)
    };
    let before = look("learned")?;
    assert!(before.iter().all(|found| *found > 0), "nothing to forget");

    let item = ada.forget(ADAS[0])?.ok_or("the ledger has no such note")?;
    item.ticket.wait()?;
    drop(item);
    ada.rebuild()?;
    let without_item = look("Ada's 7 forgotten, rebuilt")?;
    assert!(without_item[0] == 0 && without_item[1] > 0);

    // A backup is a file of its own; forgetting a user takes it along.
    let backed_up = runtime.tick(SystemTime::now())?.backed_up.len();
    look("backed up")?;
    drop(ada);
    let receipt = runtime.forget_user("ada")?.ok_or("Ada has no memory")?;
    let without_user = look("Ada forgotten")?;
    assert!(without_user[..2] == [0, 0] && without_user[2] > 0);

    say(format!("\nreceipt for memory {}", receipt.shard))?;
    for place in receipt.places.iter().filter(|place| place.found > 0) {
        let (name, files, bytes) = (format!("{:?}", place.place), place.removed, place.bytes);
        say(format!("  {name:18} {files} removed, {bytes} bytes"))?;
    }
    say(format!("  worth: {:?}", receipt.erasure))?;
    assert!(receipt.is_complete() && backed_up == 2 && receipt.backups.len() == 1);
    assert!(runtime.user("ada").is_err(), "a forgotten name stays so");

    // The control: Tom's memory is whole.
    let (row, mut surprise) = (note(TOMS), [1.0]);
    let row = Rows::row(&row).unit();
    tom.surprise_into(row, row, &mut surprise)?;
    assert!(surprise[0] < 0.1, "Tom's note is gone: {surprise:?}");
    drop((tom, runtime));
    Ok(fs::remove_dir_all(dir)?)
}

fn learn(memory: &UserMemory, first: u64) -> Result<(), Box<dyn Error>> {
    for id in first..first + 20 {
        let row = note(id);
        memory.observe_item(id, Rows::row(&row), Rows::row(&row))?;
    }
    Ok(memory.flush()?)
}

/// Made-up numbers that stand for the embedding of a note.
fn note(id: u64) -> Vec<f32> {
    let mix = |word: u64| (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = |i| (mix(mix((id << 32) | i)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..DIM as u64).map(|i| number(i) / 4.6).collect()
}

/// In how many places the bytes of a row stand, in all files below a folder.
fn places(row: &[f32], dir: &Path) -> io::Result<usize> {
    let planted: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    let entries = fs::read_dir(dir)?.map(|entry| -> io::Result<usize> {
        let path = entry?.path();
        if path.is_dir() {
            return places(row, &path);
        }
        let bytes = fs::read(path)?;
        let windows = bytes.windows(planted.len());
        Ok(windows.filter(|window| *window == planted).count())
    });
    entries.sum()
}

/// Prints a line. A reader that has closed the pipe is no error, a full disk is.
fn say(line: String) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}
