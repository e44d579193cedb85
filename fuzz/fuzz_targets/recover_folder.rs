//! Opening a folder whose files were changed, cut, copied, renamed or made up: it opens or is
//! refused, it never panics, and what opens can be saved to and opened again.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use titans_fuzz::common::{SHARD, small_image};
use titans_fuzz::{config, folders, with_right_checksums};
use titans_store::fs::FaultyStorage;
use titans_store::{MemoryStore, SaveMode};

type Files = BTreeMap<String, Vec<u8>>;

static FOLDERS: LazyLock<[Files; 2]> = LazyLock::new(|| folders().map(|folder| folder.files()));

/// Names that a folder may hold beside those it has.
const NAMES: [&str; 6] = [
    "g-00000000000000000009.titanmem",
    "lkg-00000000000000000002.titanmem",
    "j-00000000000000000005-00000000000000000001.titanlog",
    "j-00000000000000000001-00000000000000000002.titanlog",
    "quarantine/g-00000000000000000003.titanmem",
    ".tmp-1-2-3",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, mut script)) = bytes.split_first() else {
        return;
    };
    let mut files = FOLDERS[usize::from(which & 1)].clone();
    let mode = match which & 2 {
        0 => SaveMode::Snapshot,
        _ => SaveMode::Journal,
    };
    while let Some((&[what, file, high, low, by], rest)) = script.split_first_chunk::<5>() {
        script = rest;
        let at = usize::from(high) << 8 | usize::from(low);
        change(&mut files, what, usize::from(file), at, by, &mut script);
    }
    let storage = FaultyStorage::with_files(files);
    let open = || MemoryStore::open_on(Box::new(storage.clone()), SHARD, config(mode));
    let Ok((mut store, _)) = open() else {
        return;
    };
    for generation in store.generations().expect("the folder can be listed") {
        let _ = store.load(generation);
    }
    let mut image = small_image();
    for chunk in 100..103 {
        image.last_chunk_id = chunk;
        let Ok(saved) = store.save(&image) else {
            return;
        };
        assert_eq!(store.load(saved.generation).expect("it loads"), image);
    }
    drop(store);
    let (_, recovery) = open().expect("what was saved opens");
    assert_eq!(recovery.image, Some(image));
});

fn change(files: &mut Files, what: u8, which: usize, at: usize, by: u8, script: &mut &[u8]) {
    let name = files.keys().nth(which % files.len().max(1)).cloned();
    let Some(name) = name else {
        return;
    };
    let bytes = files.entry(name.clone()).or_default();
    let at = at % (bytes.len() + 1);
    match what % 7 {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= by | 1;
            }
        }
        // A change below right checksums.
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= by | 1;
            }
            if let Some(right) = with_right_checksums(bytes) {
                *bytes = right;
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let new: Vec<u8> = script.iter().copied().take(usize::from(by)).collect();
            *script = script.get(new.len()..).unwrap_or_default();
            bytes.extend(new);
        }
        4 => {
            let copy = bytes.clone();
            files.insert(NAMES[usize::from(by) % NAMES.len()].to_owned(), copy);
        }
        5 => drop(files.remove(&name)),
        _ => {
            let moved = files.remove(&name).unwrap_or_default();
            files.insert(NAMES[usize::from(by) % NAMES.len()].to_owned(), moved);
        }
    }
}
