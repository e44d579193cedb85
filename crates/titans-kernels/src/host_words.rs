//! Words of a kernel in host memory.

use burn::tensor::TensorData;

pub(crate) fn host_words(data: TensorData) -> Vec<i32> {
    data.try_into_vec::<i32>()
        .expect("the kernel writes words of 32 bits")
}
