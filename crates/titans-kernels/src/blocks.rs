//! How the numbers of each memory are dealt out to cubes.

use cubecl::prelude::*;

use crate::backend::UNITS;

/// Numbers that one unit looks at, at least.
const LEAST_PER_UNIT: usize = 16;
/// Cubes that share the numbers of one memory, at most.
const MOST_BLOCKS: usize = 1024;

/// The blocks of a memory's numbers, one for each cube of [`UNITS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// How many blocks a memory has.
    pub(crate) count: usize,
    /// Numbers that a unit looks at.
    pub(crate) per_unit: usize,
}

impl Blocks {
    pub(crate) fn of(numbers: usize) -> Self {
        let per_unit = numbers.div_ceil(UNITS * MOST_BLOCKS).max(LEAST_PER_UNIT);
        Self {
            count: numbers.div_ceil(UNITS * per_unit),
            per_unit,
        }
    }
}

/// The block of a cube.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Block {
    /// Number of the block among those of all memories.
    pub(crate) index: usize,
    pub(crate) memory: usize,
    /// Number of the block among those of its memory.
    pub(crate) of_memory: usize,
    /// Where its memory begins among the numbers of all.
    pub(crate) memory_start: usize,
    /// Its numbers within the memory.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The block of this cube. A launch may have more cubes than blocks: those past the last do its
/// work again, and must write the same.
#[cube]
pub(crate) fn own_block(
    memories: usize,
    numbers: usize,
    per_unit: usize,
    #[comptime] units: usize,
) -> Block {
    let per_block = per_unit * units;
    let blocks = numbers.div_ceil(per_block);
    let cube = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let index = min(cube, memories * blocks - 1);
    let memory = index / blocks;
    let of_memory = index % blocks;
    let start = of_memory * per_block;
    Block {
        index,
        memory,
        of_memory,
        memory_start: memory * numbers,
        start,
        end: min(start + per_block, numbers),
    }
}
