//! Which numbers of some memories are others than before, and what they are now.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use titans_core::Changes;

use crate::backend::{UNITS, cubes, dims, output_beside};
use crate::blocks::{Blocks, own_block};
use crate::host_words::host_words;
use crate::reduce::{sum_before_unit, sum_over_units};

/// As [`titans_core::MemoryOps::changes`], on the device of f32 tensors. Two waits for the
/// device: for the counts, which say how long the lists are, and for the lists.
pub(crate) fn find(before: &[Tensor<3>], after: &[Tensor<3>]) -> Vec<Vec<Changes>> {
    let memories = after.first().map_or(0, |tensor| tensor.dims()[0]);
    let compared: Vec<Compared> = (before.iter().zip(after))
        .map(|(before, after)| Compared::new(before, after))
        .collect();
    let counts = compared.iter().map(Compared::counts).collect();
    let counts = host_words(Tensor::cat(counts, 1).into_data());
    let per_memory = counts.len() / memories;

    let mut first = 0;
    let lists: Vec<List> = (compared.iter())
        .map(|compared| {
            let blocks = first..first + compared.blocks.count;
            first = blocks.end;
            let counts = counts.chunks_exact(per_memory);
            compared.list(counts.map(|counts| &counts[blocks.clone()]))
        })
        .collect();
    let mut of_each = vec![Vec::with_capacity(lists.len()); memories];
    for list in lists {
        for (of, changes) in of_each.iter_mut().zip(list.into_changes()) {
            of.push(changes);
        }
    }
    of_each
}

/// A tensor of some memories before and after, and how its numbers are dealt out.
struct Compared {
    before: Tensor<3>,
    after: Tensor<3>,
    blocks: Blocks,
}

/// What has changed in one tensor.
struct List {
    /// How many numbers of each memory.
    lengths: Vec<usize>,
    /// `[2, all]`, if there is anything.
    entries: Option<Tensor<2, Int>>,
}

impl Compared {
    fn new(before: &Tensor<3>, after: &Tensor<3>) -> Self {
        let [_, rows, columns] = after.dims();
        assert_eq!(before.dims(), after.dims(), "shapes of a tensor");
        Self {
            before: before.clone(),
            after: after.clone(),
            blocks: Blocks::of(rows * columns),
        }
    }

    fn counts(&self) -> Tensor<2, Int> {
        Tensor::from_dispatch(<Dispatch as ChangesKernels>::count_changes(
            self.before.clone().into_dispatch(),
            self.after.clone().into_dispatch(),
            self.blocks,
        ))
    }

    /// Launches the list, given the counts of the blocks of each memory.
    fn list<'a>(&self, counts: impl Iterator<Item = &'a [i32]>) -> List {
        let mut place = 0;
        let mut places = Vec::new();
        let mut lengths = Vec::new();
        for counts in counts {
            let of_memory = place;
            for count in counts {
                places.push(place);
                place += count;
            }
            lengths.push((place - of_memory) as usize);
        }
        let entries = (place > 0).then(|| {
            let places = TensorData::new(places, [lengths.len(), self.blocks.count]);
            let options = (&self.after.device(), DType::I32);
            Tensor::from_dispatch(<Dispatch as ChangesKernels>::list_changes(
                self.before.clone().into_dispatch(),
                self.after.clone().into_dispatch(),
                Tensor::<2, Int>::from_data(places, options).into_dispatch(),
                self.blocks,
                place as usize,
            ))
        });
        List { lengths, entries }
    }
}

impl List {
    /// Those of each memory.
    fn into_changes(self) -> Vec<Changes> {
        let words = self.entries.map(|entries| host_words(entries.into_data()));
        let words = words.unwrap_or_default();
        let (mut indices, mut values) = words.split_at(words.len() / 2);
        let take = |words: &mut &[i32], length: usize| -> Vec<u32> {
            let (taken, left) = words.split_at(length);
            *words = left;
            taken.iter().map(|word| *word as u32).collect()
        };
        (self.lengths.iter())
            .map(|length| Changes {
                indices: take(&mut indices, *length),
                values: (take(&mut values, *length).into_iter())
                    .map(f32::from_bits)
                    .collect(),
            })
            .collect()
    }
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait ChangesKernels: Backend {
    /// See [`count_changed`]: two tensors `[memories, rows, columns]` to
    /// `[memories, blocks]`.
    #[fusion(meta = counts_spec)]
    fn count_changes(
        before: FloatTensor<Self>,
        after: FloatTensor<Self>,
        blocks: Blocks,
    ) -> IntTensor<Self>;

    /// See [`list_changed`]: the places of each block `[memories, blocks]`, to `[2, all]`.
    #[fusion(meta = list_spec)]
    fn list_changes(
        before: FloatTensor<Self>,
        after: FloatTensor<Self>,
        places: IntTensor<Self>,
        blocks: Blocks,
        all: usize,
    ) -> IntTensor<Self>;
}

fn counts_spec(before: &TensorSpec, _after: &TensorSpec, blocks: &Blocks) -> TensorSpec {
    let shape = Shape::new([before.shape[0], blocks.count]);
    TensorSpec::new(shape, DType::I32)
}

fn list_spec(
    _before: &TensorSpec,
    _after: &TensorSpec,
    _places: &TensorSpec,
    _blocks: &Blocks,
    all: &usize,
) -> TensorSpec {
    TensorSpec::new(Shape::new([2, *all]), DType::I32)
}

impl ChangesKernels for CubeBackend {
    fn count_changes(before: CubeTensor, after: CubeTensor, blocks: Blocks) -> CubeTensor {
        let (before, after) = (into_contiguous(before), into_contiguous(after));
        let [memories, rows, columns] = dims(&after);
        let counts = output_beside(&after, [memories, blocks.count], DType::I32);
        count_changed::launch(
            &after.client.clone(),
            cubes(memories * blocks.count),
            CubeDim::new_1d(UNITS as u32),
            before.into_buffer_arg(),
            after.into_buffer_arg(),
            counts.clone().into_buffer_arg(),
            memories as u32,
            (rows * columns) as u32,
            blocks.per_unit as u32,
            UNITS,
        );
        counts
    }

    fn list_changes(
        before: CubeTensor,
        after: CubeTensor,
        places: CubeTensor,
        blocks: Blocks,
        all: usize,
    ) -> CubeTensor {
        let (before, after) = (into_contiguous(before), into_contiguous(after));
        let [memories, rows, columns] = dims(&after);
        let list = output_beside(&after, [2, all], DType::I32);
        list_changed::launch(
            &after.client.clone(),
            cubes(memories * blocks.count),
            CubeDim::new_1d(UNITS as u32),
            before.into_buffer_arg(),
            after.into_buffer_arg(),
            into_contiguous(places).into_buffer_arg(),
            list.clone().into_buffer_arg(),
            memories as u32,
            (rows * columns) as u32,
            blocks.per_unit as u32,
            all as u32,
            UNITS,
        );
        list
    }
}

/// How many numbers of each block have other bits than before; one cube per block.
///
/// # Shapes
/// - `before`, `after`: `[memories, numbers]`
/// - `counts`: `[memories, blocks]`
#[cube(launch)]
fn count_changed(
    before: &[f32],
    after: &[f32],
    counts: &mut [i32],
    memories: u32,
    numbers: u32,
    per_unit: u32,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[u32]>::new_slice(units);
    let unit = UNIT_POS_X as usize;
    let block = own_block(
        memories as usize,
        numbers as usize,
        per_unit as usize,
        units,
    );
    let mut changed = 0u32;
    let mut position = block.start + unit;
    while position < block.end {
        if has_changed(before, after, block.memory_start + position) {
            changed += 1u32;
        }
        position += units;
    }
    let changed = sum_over_units::<u32>(changed, &mut scratch);
    if unit == 0usize {
        counts[block.index] = changed as i32;
    }
}

/// Lists the numbers that have other bits than before, in the order of the blocks; one cube per
/// block.
///
/// # Shapes
/// - `before`, `after`: `[memories, numbers]`
/// - `places`: `[memories, blocks]`, where in the list each block begins
/// - `list`: `[2, all]`: positions within the tensor of one memory, and the bits of the numbers
#[cube(launch)]
fn list_changed(
    before: &[f32],
    after: &[f32],
    places: &[i32],
    list: &mut [i32],
    memories: u32,
    numbers: u32,
    per_unit: u32,
    all: u32,
    #[comptime] units: usize,
) {
    let mut scratch = Shared::<[u32]>::new_slice(units);
    let per_unit = per_unit as usize;
    let block = own_block(memories as usize, numbers as usize, per_unit, units);
    let of_memory = block.memory_start;
    // Each unit owns a stretch, so that positions are in order.
    let start = min(block.start + UNIT_POS_X as usize * per_unit, block.end);
    let end = min(start + per_unit, block.end);
    let mut changed = 0u32;
    for position in start..end {
        if has_changed(before, after, of_memory + position) {
            changed += 1u32;
        }
    }
    let before_unit = sum_before_unit(changed, &mut scratch);
    let mut place = places[block.index] as usize + before_unit as usize;
    for position in start..end {
        if has_changed(before, after, of_memory + position) {
            list[place] = position as i32;
            list[all as usize + place] = i32::reinterpret(after[of_memory + position]);
            place += 1usize;
        }
    }
}

#[cube]
fn has_changed(before: &[f32], after: &[f32], position: usize) -> bool {
    u32::reinterpret(before[position]) != u32::reinterpret(after[position])
}
