//! Whole files with parts changed, swapped or lost, below checksums that are right.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use titans_fuzz::common::Parts;
use titans_fuzz::{assert_fixed_point, files};

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, mut script)) = bytes.split_first() else {
        return;
    };
    let mut parts = Parts::of(&FILES[usize::from(which) % FILES.len()]);
    while let Some((&[what, which, at, by], rest)) = script.split_first_chunk::<4>() {
        script = rest;
        change(
            &mut parts,
            what,
            usize::from(which),
            usize::from(at),
            by,
            &mut script,
        );
    }
    assert_fixed_point(&parts.assemble());
});

fn change(parts: &mut Parts, what: u8, which: usize, at: usize, by: u8, script: &mut &[u8]) {
    let count = parts.sections.len();
    if count == 0 {
        return;
    }
    let which = which % count;
    let section = &mut parts.sections[which];
    match what % 9 {
        // Raw bytes of a section, packed again.
        0 | 1 => {
            let mut raw = match section.codec() {
                0 => section.stored.clone(),
                _ if section.raw_len() <= 1 << 20 => {
                    let len = section.raw_len() as usize;
                    match zstd::bulk::decompress(&section.stored, len) {
                        Ok(raw) => raw,
                        Err(_) => return,
                    }
                }
                _ => return,
            };
            let far = (at << 3) | usize::from(by >> 5);
            if what % 9 == 0 {
                let place = if far < raw.len() { far } else { at };
                if let Some(byte) = raw.get_mut(place) {
                    *byte ^= by | 1;
                }
            } else {
                let start = at.min(raw.len());
                let end = (start + usize::from(by >> 4)).min(raw.len());
                let new: Vec<u8> = script.iter().copied().take(usize::from(by & 15)).collect();
                *script = script.get(new.len()..).unwrap_or_default();
                raw.splice(start..end, new);
            }
            match section.codec() {
                0 => {
                    section.set_raw(&raw);
                    section.stored = raw;
                }
                _ => section.repack(&raw),
            }
        }
        // Packed bytes.
        2 => {
            let len = section.stored.len().max(1);
            if let Some(byte) = section.stored.get_mut(at * 7 % len) {
                *byte ^= by | 1;
            }
        }
        3 => section.row[at % 48] ^= by,
        4 => parts.preamble[at % 96] ^= by,
        5 => parts.tail[at % 64] ^= by,
        6 => drop(parts.sections.remove(which)),
        7 => parts.sections.swap(which, at % count),
        _ => {
            let len = usize::from(by) * at % (section.stored.len() + 1);
            section.stored.truncate(len);
        }
    }
}
