//! Dense memories in host memory: tensors as slices, and the arithmetic of `titans-cpu`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use titans_cpu::{AtEnd, Buffer, Learned};

use super::dense::{DenseLearned, DenseOps, DenseRule, DenseTokens, DenseUpdated};
use super::host_tensor::{FlexTensor, HostTensor};
use super::products::Products;
use crate::miras::Activation;

/// Dense memories in host memory, their matrix products made of operands of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostDense(pub(super) Products);

impl DenseOps for HostDense {
    fn products(&self) -> Products {
        self.0
    }

    /// Stacking would copy the weights, and slices need no common tensor.
    fn stacks(&self) -> bool {
        false
    }

    fn update(&self, rule: &DenseRule, learned: DenseLearned, tokens: DenseTokens) -> DenseUpdated {
        let [memories, count, _] = tokens.keys.dims();
        let device = tokens.keys.device();
        let mlp = self.mlp(rule);
        let keys = HostTensor::new(tokens.keys);
        let values = HostTensor::new(tokens.values);
        let steps = HostTensor::new(tokens.steps);
        let retention = HostTensor::new(tokens.retention);
        let decays: Vec<HostTensor> = tokens
            .momentum_decays
            .into_iter()
            .map(HostTensor::new)
            .collect();

        let shapes: Vec<[usize; 3]> = learned.weights.iter().map(Tensor::dims).collect();
        let mut weights: Vec<Changing> = changing(learned.weights);
        let mut momenta: Vec<Vec<Changing>> = learned.momenta.into_iter().map(changing).collect();
        let mut relative_error = vec![0.0; memories * count];
        {
            let mut of_each: Vec<Learned<'_>> = (0..memories)
                .map(|_| Learned {
                    weights: Vec::new(),
                    momenta: momenta.iter().map(|_| Vec::new()).collect(),
                })
                .collect();
            for tensor in &mut weights {
                for (memory, buffer) in of_each.iter_mut().zip(tensor.buffers(memories)) {
                    memory.weights.push(buffer);
                }
            }
            for (order, tensors) in momenta.iter_mut().enumerate() {
                for tensor in tensors {
                    for (memory, buffer) in of_each.iter_mut().zip(tensor.buffers(memories)) {
                        memory.momenta[order].push(buffer);
                    }
                }
            }
            let update = |((memory, learned), errors): ((usize, Learned<'_>), &mut [f32])| {
                let of = |tensor: &HostTensor, width: usize| -> std::ops::Range<usize> {
                    debug_assert_eq!(tensor.numbers().len(), memories * count * width);
                    memory * count * width..(memory + 1) * count * width
                };
                let decays: Vec<&[f32]> = decays
                    .iter()
                    .map(|decay| &decay.numbers()[of(decay, 1)])
                    .collect();
                let at_end = AtEnd::new(&decays, &retention.numbers()[of(&retention, 1)]);
                let tokens = titans_cpu::Tokens {
                    keys: &keys.numbers()[of(&keys, rule.key_dim)],
                    values: &values.numbers()[of(&values, rule.value_dim)],
                    steps: &steps.numbers()[of(&steps, 1)],
                    slope: rule.slope,
                    surprise_threshold: rule.surprise_threshold,
                };
                mlp.update(learned, tokens, &at_end, errors);
            };
            let errors = relative_error.chunks_exact_mut(count);
            if memories == 1 {
                of_each.into_iter().enumerate().zip(errors).for_each(update);
            } else {
                let errors: Vec<&mut [f32]> = errors.collect();
                let all = of_each.into_par_iter().enumerate();
                all.zip(errors).for_each(update);
            }
        }
        let tensors = |changed: Vec<Changing>| -> Vec<Tensor<3>> {
            let changed = changed.into_iter().zip(&shapes);
            changed
                .map(|(tensor, shape)| tensor.into_tensor(*shape))
                .collect()
        };
        DenseUpdated {
            learned: DenseLearned {
                weights: tensors(weights),
                momenta: momenta.into_iter().map(tensors).collect(),
            },
            relative_error: Tensor::from_data(
                TensorData::new(relative_error, [memories, count]),
                &device,
            ),
        }
    }

    fn read(&self, rule: &DenseRule, weights: &[Tensor<3>], queries: Tensor<3>) -> Tensor<3> {
        let [memories, count, _] = queries.dims();
        let device = queries.device();
        let queries = HostTensor::new(queries);
        let width = rule.value_dim;
        let answers = for_each(
            &self.mlp(rule),
            weights,
            count * width,
            |memory, mlp, weights, answers| {
                let length = count * rule.key_dim;
                let queries = &queries.numbers()[memory * length..][..length];
                mlp.read(weights, queries, answers);
            },
        );
        Tensor::from_data(TensorData::new(answers, [memories, count, width]), &device)
    }

    fn recycle(&self, tensors: Vec<Tensor<3>>) {
        for tensor in tensors {
            let length: usize = tensor.dims().iter().product();
            if let Some(HostTensor(tensor)) = HostTensor::try_new(tensor)
                && tensor.is_unique()
                && tensor.storage::<f32>().len() == length
                && let Ok(numbers) = tensor.into_data().try_into_vec::<f32>()
            {
                let mut room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
                let mut held: usize = room.iter().map(Vec::len).sum();
                while held + length > MOST_ROOM
                    && let Some(oldest) = room.pop_front()
                {
                    held -= oldest.len();
                }
                if length <= MOST_ROOM {
                    room.push_back(numbers);
                }
            }
        }
    }

    fn relative_error(
        &self,
        rule: &DenseRule,
        weights: &[Tensor<3>],
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> Tensor<2> {
        let [memories, count, _] = keys.dims();
        let device = keys.device();
        let (keys, values) = (HostTensor::new(keys), HostTensor::new(values));
        let mlp = self.mlp(rule);
        let errors = for_each(&mlp, weights, count, |memory, mlp, weights, errors| {
            let (keys_length, values_length) = (count * rule.key_dim, count * rule.value_dim);
            let keys = &keys.numbers()[memory * keys_length..][..keys_length];
            let values = &values.numbers()[memory * values_length..][..values_length];
            mlp.relative_errors(weights, keys, values, errors);
        });
        Tensor::from_data(TensorData::new(errors, [memories, count]), &device)
    }
}

impl HostDense {
    fn mlp(self, rule: &DenseRule) -> titans_cpu::Mlp {
        let activation = match rule.mlp.activation {
            Activation::Gelu => titans_cpu::Activation::Gelu,
            Activation::GeluTanh => titans_cpu::Activation::GeluTanh,
            Activation::Silu => titans_cpu::Activation::Silu,
            Activation::Relu => titans_cpu::Activation::Relu,
        };
        titans_cpu::Mlp::new(rule.widths(), activation, on_the_cpu(self.0))
    }
}

/// What stands for a type of products on a CPU, which has no f16.
pub(super) fn on_the_cpu(products: Products) -> titans_cpu::Products {
    match products {
        Products::F32 | Products::F16 => titans_cpu::Products::F32,
        Products::Bf16 => titans_cpu::Products::Bf16,
    }
}

/// Numbers of each memory, made from its weights; the memories are shared between threads.
fn for_each(
    mlp: &titans_cpu::Mlp,
    weights: &[Tensor<3>],
    length: usize,
    make: impl Fn(usize, &titans_cpu::Mlp, &[&[f32]], &mut [f32]) + Sync,
) -> Vec<f32> {
    let [memories, _, _] = weights[0].dims();
    let weights: Vec<HostTensor> = weights.iter().cloned().map(HostTensor::new).collect();
    let mut made = vec![0.0; memories * length];
    if made.is_empty() {
        return made;
    }
    let make = |(memory, made): (usize, &mut [f32])| {
        let of_memory = |tensor| {
            let numbers = HostTensor::numbers(tensor);
            let length = numbers.len() / memories;
            &numbers[memory * length..][..length]
        };
        let weights: Vec<&[f32]> = weights.iter().map(of_memory).collect();
        make(memory, mlp, &weights, made);
    };
    if memories == 1 {
        make((0, &mut made));
    } else {
        made.par_chunks_mut(length).enumerate().for_each(make);
    }
    made
}

/// Numbers of tensors that were dropped, oldest first. A system's allocator hands large blocks
/// back at once, and the first touch of every page of a fresh one costs more than an update of
/// a few tokens.
static ROOM: Mutex<VecDeque<Vec<f32>>> = Mutex::new(VecDeque::new());

/// Numbers whose room is kept at most: 64 MiB.
const MOST_ROOM: usize = 1 << 24;

/// As many numbers, of which nobody knows the values.
fn room_for(length: usize) -> Vec<f32> {
    let mut room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = room.iter().position(|numbers| numbers.len() == length);
    fits.and_then(|index| room.remove(index))
        .unwrap_or_else(|| vec![0.0; length])
}

/// A tensor that an update changes.
enum Changing {
    /// Nobody else holds it.
    Own(FlexTensor),
    /// Somebody may: the numbers after the update are new.
    Shared { old: HostTensor, new: Vec<f32> },
}

fn changing(tensors: Vec<Tensor<3>>) -> Vec<Changing> {
    tensors.into_iter().map(Changing::new).collect()
}

impl Changing {
    fn new(tensor: Tensor<3>) -> Self {
        let length = tensor.dims().iter().product();
        let HostTensor(tensor) = HostTensor::new(tensor);
        if tensor.is_unique() && tensor.storage::<f32>().len() == length {
            Self::Own(tensor)
        } else {
            Self::Shared {
                old: HostTensor(tensor),
                new: room_for(length),
            }
        }
    }

    /// One part for each memory.
    fn buffers(&mut self, memories: usize) -> Vec<Buffer<'_>> {
        match self {
            Self::Own(tensor) => {
                let numbers = tensor.storage_mut::<f32>();
                let length = numbers.len() / memories;
                numbers
                    .chunks_exact_mut(length)
                    .map(Buffer::InPlace)
                    .collect()
            }
            Self::Shared { old, new } => {
                let length = new.len() / memories;
                let old = old.numbers().chunks_exact(length);
                let parts = old.zip(new.chunks_exact_mut(length));
                parts.map(|(old, new)| Buffer::From { old, new }).collect()
            }
        }
    }

    fn into_tensor(self, shape: [usize; 3]) -> Tensor<3> {
        match self {
            Self::Own(tensor) => Tensor::from_primitive::<Flex>(tensor),
            Self::Shared { old, new } => {
                let new = TensorData::new(new, shape);
                drop(old);
                Tensor::from_data(new, &burn::tensor::Device::flex())
            }
        }
    }
}
