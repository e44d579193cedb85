//! Pairs of bf16 in memory, in lines of a cache, and how many belong together.

use std::sync::{Mutex, PoisonError};

/// Numbers of f32 in a vector, and pairs in a line.
pub(super) const LANES: usize = 16;

/// Rows of a tile, and vectors of its columns: 24 sums are enough to begin two instructions in
/// each cycle although one takes six, and are served by 11 loads.
pub(super) const ROWS: usize = 8;
pub(super) const VECTORS: usize = 3;

/// Vectors of columns of the right factor that are laid out at once: 192 KiB.
pub(super) const WIDE: usize = 4 * VECTORS;

/// Columns of a row that [`Screen`](super::Screen) notes; a row that has more is not screened.
pub(super) const MOST_FOUND: usize = 512;

/// A line of a cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(#[expect(dead_code, reason = "read and written as vectors")] [u32; LANES]);

/// Kept, because every first touch of a fresh page costs more than the arithmetic on it. One for
/// all threads: lines are laid out on one and dropped on another.
static KEPT: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// Lines to overwrite.
pub(super) struct Lines(pub(super) Vec<Line>);

impl Lines {
    pub(super) fn new(count: usize) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, to grow.
        let best = (0..kept.len()).min_by_key(|at| {
            let length = kept[*at].len();
            (length < count, length.abs_diff(count))
        });
        let mut lines = best.map(|at| kept.swap_remove(at)).unwrap_or_default();
        drop(kept);
        if lines.len() < count {
            lines.resize(count, Line([0; LANES]));
        }
        Self(lines)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.0);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(lines);
    }
}
