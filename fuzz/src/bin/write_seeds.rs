//! Writes the seeds of every target to `seeds/`.

use std::fs;
use std::path::Path;

use titans_fuzz::{files, folders};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: String, bytes: &[u8]| {
        fs::create_dir_all(root.join(target))?;
        fs::write(root.join(target).join(name), bytes)
    };
    for (number, file) in files().iter().enumerate() {
        write("decode", format!("file-{number}"), file)?;
        write("decode_encode_decode", format!("file-{number}"), file)?;
        // Which file, then a few changes.
        let change = [number as u8, 0, 3, 7, 2, 1, 9, 0, 1, 0, 5, 1, 1, 4, 0, 2];
        write("structured", format!("change-{number}"), &change)?;
    }
    for storage in folders() {
        for (name, bytes) in storage.files() {
            write("decode", name, &bytes)?;
        }
    }
    for number in 0..6_u8 {
        let change = [number % 2, number, number, 40, 1, 7, 0, number, 2, 2];
        write("recover_folder", format!("change-{number}"), &change)?;
    }
    Ok(())
}
