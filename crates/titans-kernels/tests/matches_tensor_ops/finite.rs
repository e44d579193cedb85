//! Whether all numbers are finite: the kernel beside the look in host memory.

use burn::tensor::{Device, Tensor};
use titans_core::{
    GradientDescent, InputError, LearningAlgorithm, MemoryOps, NeuralMemory, Preset, TensorOps,
};
use titans_kernels::CubeOps;

use super::{Numbers, device, poison, tensor};

#[test]
fn every_number_that_is_not_finite_is_found() {
    let gpu = device();
    let shapes: [[usize; 3]; 3] = [[3, 7, 13], [3, 1, 1], [3, 67, 131]];
    let mut drawn = Numbers::new(1);
    let finite: Vec<Vec<f32>> = (shapes.iter())
        .map(|shape| drawn.draw(shape.iter().product()))
        .collect();
    // Which tensor, which memory and which of its numbers; the largest numbers are finite.
    let others = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
    ];
    let places = [(0, 0, 0), (0, 2, 90), (1, 1, 0), (2, 0, 8776), (2, 2, 4096)];
    for (other, (of, memory, at)) in others
        .iter()
        .flat_map(|other| places.map(|place| (*other, place)))
    {
        let mut numbers = finite.clone();
        numbers[of][memory * shapes[of][1] * shapes[of][2] + at] = other;
        let on = |device: &Device| -> Vec<Tensor<3>> {
            let tensors = shapes.iter().zip(&numbers);
            tensors
                .map(|(shape, numbers)| tensor(numbers, *shape, device))
                .collect()
        };
        let on_gpu = on(&gpu);
        poison(&gpu, 64);
        let ours = CubeOps::default().all_finite(&on_gpu);
        let mut expected = [true; 3];
        expected[memory] = other.is_finite();
        assert_eq!(ours, expected, "{other} at {of}, {memory}, {at}");
        assert_eq!(TensorOps.all_finite(&on(&Device::flex())), expected);
    }
}

#[test]
fn a_write_that_diverges_is_refused_on_the_device_and_named() {
    let gpu = device();
    let mut config = Preset::Titans.config();
    // Errors whose squares can be summed, and steps that cannot be added to the weights.
    config.miras.learning_algorithm =
        LearningAlgorithm::GradientDescent(GradientDescent { step_size: 1e6 });
    let ops = std::sync::Arc::new(CubeOps::default());
    let memory = NeuralMemory::with_ops(config, &gpu, ops).expect("a valid configuration");
    let mut states = vec![memory.initial_state(); 2];
    let before = states[1].to_host();
    let mut keys = Numbers::new(2).draw(2 * 16 * 64);
    keys[16 * 64..].iter_mut().for_each(|key| *key *= 1e17);
    let written = memory.write_batch(
        &mut states,
        tensor(&keys, [2, 16, 64], &gpu),
        tensor(&keys, [2, 16, 64], &gpu),
    );
    assert_eq!(written, Err(InputError::Diverges { memory: 1 }));
    assert!(states[1].to_host() == before, "the state is as it was");
}
