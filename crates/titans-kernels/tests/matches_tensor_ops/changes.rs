//! What a write has changed: the kernels beside the comparison in host memory.

use burn::tensor::{Device, Tensor};
use titans_core::{
    ForgetScope, GradientDescent, LearningAlgorithm, MemoryArchitecture, MemoryConfig, MemoryOps,
    MemoryState, NeuralMemory, Preset, SparseGate, StateDelta, StateRole, TensorOps, UpdateConfig,
};
use titans_kernels::CubeOps;

use super::{Numbers, assert_close, device, floats, poison, tensor};

/// Memories and the shapes of their tensors: one number, primes, one over the numbers of a
/// cube.
const SIZES: [(usize, &[[usize; 2]]); 4] = [
    (1, &[[1, 1]]),
    (3, &[[7, 13], [1, 1], [31, 5]]),
    (2, &[[17, 241], [1, 4099]]),
    (5, &[[67, 131], [19, 257]]),
];

/// More numbers than the cubes of one memory compare with sixteen for each unit.
const LARGE: (usize, &[[usize; 2]]) = (1, &[[2053, 2081]]);

/// Which numbers are others than before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Changed {
    Nothing,
    Everything,
    /// Every so many, and nothing of the second memory.
    Each(usize),
}

/// Numbers of a tensor before and after.
fn numbers(seed: u64, memories: usize, length: usize, changed: Changed) -> [Vec<f32>; 2] {
    let drawn = Numbers::new(seed).draw(memories * length).into_iter();
    let before: Vec<f32> = drawn
        .enumerate()
        .map(|(at, number)| if at % 5 == 0 { -0.0 } else { number })
        .collect();
    let after = before.iter().enumerate().map(|(at, &number)| {
        let is_changed = match changed {
            Changed::Nothing => false,
            Changed::Everything => true,
            Changed::Each(every) => at / length != 1 && at % length % every == every / 2,
        };
        match is_changed {
            // Equal, and yet not the same.
            true if number == 0.0 => 0.0,
            true => number + 1.0,
            false => number,
        }
    });
    let after = after.collect();
    [before, after]
}

#[test]
fn what_changed_is_what_the_comparison_finds() {
    let gpu = device();
    let kinds = [
        Changed::Nothing,
        Changed::Everything,
        Changed::Each(2),
        Changed::Each(1013),
    ];
    let sizes = SIZES.map(|size| (size, &kinds[..])).into_iter();
    for (seed, ((memories, shapes), kinds)) in (0..).zip(sizes.chain([(LARGE, &kinds[3..])])) {
        for &changed in kinds {
            let drawn: Vec<[Vec<f32>; 2]> = (shapes.iter())
                .map(|[rows, columns]| numbers(seed, memories, rows * columns, changed))
                .collect();
            let on = |device: &Device, side: usize| -> Vec<Tensor<3>> {
                let tensors = shapes.iter().zip(&drawn);
                tensors
                    .map(|([rows, columns], drawn)| {
                        tensor(&drawn[side], [memories, *rows, *columns], device)
                    })
                    .collect()
            };
            let cpu = Device::flex();
            let expected = TensorOps.changes(&on(&cpu, 0), &on(&cpu, 1));
            let (before, after) = (on(&gpu, 0), on(&gpu, 1));
            let all: usize = shapes.iter().map(|[rows, columns]| rows * columns).sum();
            poison(&gpu, 2 * memories * all);
            let ours = CubeOps::default().changes(&before, &after);

            let what = format!("{memories} x {shapes:?}, {changed:?}");
            assert_eq!(ours.len(), memories, "{what}");
            for (ours, expected) in ours.iter().zip(&expected) {
                assert_eq!(ours.len(), shapes.len(), "{what}");
                for (ours, expected) in ours.iter().zip(expected) {
                    assert!(ours.indices == expected.indices, "{what}: indices");
                    let bits = |values: &[f32]| -> Vec<u32> {
                        values.iter().map(|value| value.to_bits()).collect()
                    };
                    assert!(
                        bits(&ours.values) == bits(&expected.values),
                        "{what}: values"
                    );
                }
            }
            let found: usize = ours.iter().flatten().map(|c| c.indices.len()).sum();
            match changed {
                Changed::Nothing => assert_eq!(found, 0, "{what}"),
                Changed::Everything => assert_eq!(found, memories * all, "{what}"),
                Changed::Each(_) => assert!(found < memories * all, "{what}"),
            }
        }
    }
}

#[test]
fn an_update_is_applied_where_it_is_not_zero_and_nowhere_else() {
    let gpu = device();
    for (seed, shape) in (0..).zip([[1, 1, 1], [3, 7, 13], [2, 67, 131], [5, 31, 1]]) {
        let [memories, rows, columns] = shape;
        let mut drawn = Numbers::new(seed);
        let before = drawn.draw(memories * rows * columns);
        let retention = drawn.draw(memories);
        for every in [1, 2, 19, usize::MAX] {
            let draw = drawn.draw(before.len()).into_iter().enumerate();
            // Zeros of both signs are no update.
            let update: Vec<f32> = draw
                .map(|(at, number)| match at % every == every - 1 {
                    true => number,
                    false => [0.0, -0.0][at % 2],
                })
                .collect();
            let apply = |ops: &dyn MemoryOps, device: &Device| {
                let given = [&before, &update].map(|numbers| tensor(numbers, shape, device));
                let retention = tensor(&retention, [memories, 1], device);
                poison(&gpu, before.len());
                let [before, update] = given;
                floats(ops.apply_written(before, update, &retention))
            };
            let ours = apply(&CubeOps::default(), &gpu);
            let what = format!("{shape:?}, every {every}");
            assert_close(&ours, &apply(&TensorOps, &Device::flex()), &what);
            for ((after, before), update) in ours.iter().zip(&before).zip(&update) {
                let is_untouched = *update == 0.0;
                assert!(
                    !is_untouched || after.to_bits() == before.to_bits(),
                    "{what}"
                );
            }
        }
    }
}

/// A memory of the preset `article`, small, whose unwritten coordinates do not fade.
fn gated() -> MemoryConfig {
    let preset = Preset::Article.config();
    let mut config = MemoryConfig {
        key_dim: 13,
        value_dim: 11,
        update: UpdateConfig {
            update_size: 4,
            sparse_gate: SparseGate::Elements { ratio: 0.05 },
            forget_scope: ForgetScope::Written,
            surprise_threshold: 0.0,
            ..preset.update
        },
        ..preset
    };
    if let MemoryArchitecture::Mlp(mlp) = &mut config.miras.architecture {
        mlp.hidden = 67;
    }
    config.miras.learning_algorithm =
        LearningAlgorithm::GradientDescent(GradientDescent { step_size: 0.05 });
    config
}

#[test]
fn a_gated_memory_on_the_device_tells_what_its_write_changed() {
    let gpu = device();
    let memory = |device: &Device, ops| {
        NeuralMemory::with_ops(gated(), device, ops).expect("a valid configuration")
    };
    let on_gpu = memory(&gpu, std::sync::Arc::new(CubeOps::default()));
    let on_cpu = memory(&Device::flex(), std::sync::Arc::new(TensorOps));
    let mut drawn = Numbers::new(8);
    let mut states = vec![on_gpu.initial_state(); 3];
    let mut reference = vec![on_cpu.initial_state(); 3];
    // The last update is left unfinished, and goes on.
    for tokens in [8, 6, 2] {
        let keys = drawn.draw(3 * tokens * 13);
        let values = drawn.draw(3 * tokens * 11);
        let before: Vec<_> = states.iter().map(MemoryState::to_host).collect();
        let write = |memory: &NeuralMemory, states: &mut [MemoryState]| {
            let device = memory.device();
            memory
                .write_batch(
                    states,
                    tensor(&keys, [3, tokens, 13], &device),
                    tensor(&values, [3, tokens, 11], &device),
                )
                .expect("finite numbers")
        };
        let reports = write(&on_gpu, &mut states);
        write(&on_cpu, &mut reference);
        for (memory, (report, state)) in reports.iter().zip(&states).enumerate() {
            let after = state.to_host();
            let found = StateDelta::between(&before[memory], &after);
            assert!(
                report.delta.as_ref() == Some(&found),
                "memory {memory} after {tokens} tokens"
            );
            let told = found
                .tensors
                .iter()
                .filter(|t| t.role == StateRole::Weights);
            assert!(told.clone().count() > 0);
            assert!(told.clone().all(|t| t.values.is_some()), "few, so told");
            let mut replayed = before[memory].clone();
            replayed.apply(&found, &after);
            assert!(replayed == after, "memory {memory} after {tokens} tokens");
            for (ours, reference) in state.tensors().iter().zip(reference[memory].tensors()) {
                assert_close(&floats(ours.clone()), &floats(reference), "weights");
            }
        }
    }
}
