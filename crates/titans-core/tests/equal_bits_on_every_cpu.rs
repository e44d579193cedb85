//! What a thousand tokens leave in a memory of each preset is known to the last bit, on every
//! processor and at every level of vectors: the table in `docs/platforms.md`.
//!
//! Nothing here draws from a library: the functions of the C library round by processor, too.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use titans_core::{MemoryOps, NeuralMemory, Preset, Products, RoundedHostOps};

const TOKENS: usize = 1000;

/// Pairs of which the stream is made, so that most tokens come again.
const PAIRS: usize = 400;

/// What digests depend on, where they depend on anything: what `gemm` and Burn's backend find in the
/// processor, not the level of our own loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processor {
    /// No fused multiply-add, or no AVX2.
    Older,
    Avx2,
    Avx512,
}

fn processor() -> Option<Processor> {
    #[cfg(target_arch = "x86_64")]
    return Some(match (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) {
        (_, Some(_)) => Processor::Avx512,
        (Some(_), None) => Processor::Avx2,
        (None, None) => Processor::Older,
    });
    // Nobody has looked at others.
    #[cfg(not(target_arch = "x86_64"))]
    return None;
}

/// Digests of what was learned and of what is recalled from it.
type Digests = [u64; 2];

/// Of the processors in their order.
type Expected = [Digests; 3];

/// FNV-1a over the bits of the numbers.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, numbers: &[f32]) {
        for byte in numbers
            .iter()
            .flat_map(|number| number.to_bits().to_le_bytes())
        {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Rows of a length near one.
fn rows(count: usize, width: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // 24 bits, exact in f32.
        ((state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0) * 0.216_506_35
    };
    (0..count * width).map(|_| next()).collect()
}

fn digests(preset: Preset, ops: Arc<dyn MemoryOps>) -> [u64; 2] {
    let device = Device::flex();
    let memory = NeuralMemory::with_ops(preset.config(), &device, ops).expect("valid");
    let (keys, values) = (rows(PAIRS, 64, 1), rows(PAIRS, 64, 2));
    let stream = |from: &[f32], tokens: std::ops::Range<usize>| -> Tensor<2> {
        let count = tokens.len();
        let of = |token: usize| &from[token * token % PAIRS * 64..][..64];
        let numbers = tokens.flat_map(|token| of(token).to_vec()).collect();
        Tensor::from_data(TensorData::new(numbers, [count, 64]), &device)
    };
    let mut state = memory.initial_state();
    for tokens in [0..300, 300..TOKENS] {
        memory
            .write(
                &mut state,
                stream(&keys, tokens.clone()),
                stream(&values, tokens),
            )
            .expect("finite");
    }
    memory.finish_update(&mut state).expect("finite");
    let host = state.to_host();
    let mut learned = Digest::new();
    for tensor in &host.tensors {
        learned.add(&tensor.values);
    }
    for scalar in host.scalars.values() {
        learned.add(&[*scalar as f32]);
    }
    let mut recalled = Digest::new();
    for queries in [0..1, 1..20] {
        let answers = memory.read(&state, stream(&keys, queries));
        recalled.add(
            &answers
                .into_data_as::<f32>()
                .try_into_vec::<f32>()
                .expect("f32"),
        );
    }
    [learned.0, recalled.0]
}

fn check(preset: Preset, products: Products, expected: Expected) {
    check_one_of(preset, products, &[expected]);
}

fn check_one_of(preset: Preset, products: Products, expected: &[Expected]) {
    let found = digests(preset, Arc::new(RoundedHostOps { products }));
    let [learned, recalled] = found;
    println!("{preset:?} in {products:?}: {learned:#018x}, {recalled:#018x}");
    let Some(processor) = processor() else {
        println!("skipped: the digests of this processor are not known");
        return;
    };
    let known: Vec<Digests> = expected.iter().map(|of| of[processor as usize]).collect();
    assert!(
        known.contains(&found),
        "{preset:?} in {products:?}, {processor:?}: {found:#018x?} is none of {known:#018x?}"
    );
}

/// Digests that are the same on all processors.
fn everywhere(digests: Digests) -> Expected {
    [digests; 3]
}

#[test]
fn sparse() {
    let digests = [0x9c670e055fa30386, 0xe8c78b2a800d9b84];
    check(Preset::Sparse, Products::F32, everywhere(digests));
}

#[test]
fn products_in_bf16() {
    let digests = [0x0f55eaab82822b68, 0xb3838a6dd7ab57af];
    check(Preset::Titans, Products::Bf16, everywhere(digests));
}

/// What was learned is the same everywhere, what is recalled is a product of `gemm`.
#[test]
fn delta() {
    let learned = 0x47258425054a40eb;
    let fused = [learned, 0x8ccb3c064fd92626];
    let expected = [[learned, 0x7d55b57bd9843d94], fused, fused];
    check(Preset::Delta, Products::F32, expected);
}

#[test]
fn titans() {
    let fused = [0x28aeb72f499aaaec, 0xdec0c9032e5fd1a3];
    let expected = [[0xc7c51d2e9976d352, 0xe1440766eee46ba7], fused, fused];
    check(Preset::Titans, Products::F32, expected);
}

/// Its gates are not those of our own loops, so Burn's backend makes its sums of 960 products.
/// With vectors of AVX2 `gemm` makes each in two parts where the first cache has eight ways, and
/// in one where it has twelve.
#[test]
fn article() {
    let older = [0x4fef91403cebf8e6, 0xca84b5c807b50383];
    let in_two_parts = [0x3355a63e63d88530, 0x75c480f4dda42be6];
    let in_one_part = [0xeab746c1d575fc10, 0x60b3a7e49b9302a8];
    let expected = [
        [older, in_two_parts, in_two_parts],
        [older, in_one_part, in_two_parts],
    ];
    check_one_of(Preset::Article, Products::F32, &expected);
}

#[test]
fn yaad() {
    let fused = [0x419aec6b751dd5dc, 0x7acdf6c5e5358a99];
    let expected = [[0x372eba56c213f5a4, 0x8fe8823cc165d123], fused, fused];
    check(Preset::Yaad, Products::F32, expected);
}

#[test]
fn lact() {
    let fused = [0xf3359afc7a6cb3ba, 0xd29dbbe21108aece];
    let expected = [[0xcf697a8b196d1f2d, 0xba5fea022f3f5cef], fused, fused];
    check(Preset::Lact, Products::F32, expected);
}

/// Sums over rows, as Burn's backend makes them, depend on the width of its vectors.
#[test]
fn moneta() {
    let expected = [
        [0xe2d7b44952f39f9c, 0x256acd9b00d75cfb],
        [0xfc4466f2570dbfca, 0xde877599f42b487c],
        [0xc56c42caca71b186, 0x604d2207a2e35ddd],
    ];
    check(Preset::Moneta, Products::F32, expected);
}

/// As of `moneta`: the sums of a softmax.
#[test]
fn memora() {
    let expected = [
        [0x94da50f935ffb26f, 0xff63490527d4af6c],
        [0x1572e774b5c55d8b, 0xcdd025c45bdb7210],
        [0x3b0e664b744ecd5d, 0x8b2b65fba51e36ef],
    ];
    check(Preset::Memora, Products::F32, expected);
}
