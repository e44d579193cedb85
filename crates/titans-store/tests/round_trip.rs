//! What is saved comes back bit for bit, and the same image always gives the same bytes.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use common::{SHARD, small_file, small_image, small_stamp, tensor};
use proptest::prelude::*;
use titans_store::{
    Limits, MemoryImage, MemoryStore, Precision, Stamp, StoreConfig, TensorRole, decode, encode,
    encode_as, inspect,
};

fn assert_same(image: &MemoryImage, back: &MemoryImage) {
    assert_eq!(image, back);
    for (tensor, back) in image.tensors.iter().zip(&back.tensors) {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.values), bits(&back.values), "{}", tensor.name);
    }
}

fn codecs(file: &[u8]) -> Vec<&'static str> {
    let sections = inspect(file).unwrap().sections;
    sections.iter().map(|section| section.codec).collect()
}

/// Any finite float, with the awkward ones often.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => Just(0.0_f32),
        1 => Just(-0.0_f32),
        1 => prop_oneof![Just(f32::MAX), Just(f32::MIN), Just(f32::from_bits(1)), Just(-1e-42)],
        4 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite()),
    ]
}

fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![0]),
        Just(vec![7, 0, 3]),
        Just(vec![1; 8]),
        prop::collection::vec(1_u64..8, 1..4),
        (1_u64..700).prop_map(|len| vec![len]),
        Just(vec![97, 3]),
    ]
}

fn image() -> impl Strategy<Value = MemoryImage> {
    let one = (shape(), 0_usize..3).prop_flat_map(|(shape, is_weights)| {
        let count = shape.iter().product::<u64>() as usize;
        (
            Just(shape),
            Just(is_weights),
            prop::collection::vec(value(), count),
        )
    });
    let tensors = prop::collection::vec(one, 0..6);
    let number = any::<f64>().prop_filter("finite", |v| v.is_finite());
    let scalars = prop::collection::btree_map("[a-z]{1,8}", number, 0..4);
    let digest = prop::option::of(any::<[u8; 32]>());
    let counters = (any::<u64>(), any::<u64>(), prop::option::of(any::<u64>()));
    (tensors, scalars, digest, counters, any::<[u8; 16]>()).prop_map(
        |(tensors, scalars, digest, (chunk, seen, rolled_back_from), shard)| {
            let tensors = tensors.into_iter().enumerate();
            MemoryImage {
                shard: titans_store::ShardId(shard),
                tensors: tensors
                    .map(|(index, (shape, is_weights, values))| {
                        let role = TensorRole::ALL[is_weights];
                        tensor(&format!("t{index}"), role, &shape, values)
                    })
                    .collect(),
                scalars,
                model_digest: digest,
                last_chunk_id: chunk,
                tokens_seen: seen,
                rolled_back_from,
                ..small_image()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn decode_gives_back_what_encode_was_given(
        image in image(),
        sequence in any::<u64>(),
        parent in prop::option::of((any::<u64>(), any::<[u8; 32]>())),
    ) {
        let stamp = Stamp { sequence, writer_epoch: !sequence, parent };
        let file = encode(&image, &stamp).unwrap();
        prop_assert_eq!(&file, &encode(&image, &stamp).unwrap());
        let (back, back_stamp) = decode(&file, &Limits::default()).unwrap();
        assert_same(&image, &back);
        prop_assert_eq!(stamp, back_stamp);
        prop_assert_eq!(inspect(&file).unwrap().file_bytes, file.len() as u64);
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes, &Limits::default()).is_err());
    }
}

#[test]
fn each_tensor_takes_its_shortest_form() {
    let summary = inspect(&small_file()).unwrap();
    let elements: Vec<_> = summary
        .sections
        .iter()
        .map(|section| section.element)
        .collect();
    assert_eq!(
        elements,
        ["bytes", "single", "split", "split", "split", "half"]
    );
    assert_eq!(
        codecs(&small_file()),
        ["plain", "dense", "bitmap", "gaps", "shared", "dense"]
    );
}

#[test]
fn two_percent_of_a_tensor_costs_two_percent_of_its_bytes() {
    let mut random = random_values();
    let values: Vec<f32> = (0..100_000)
        .map(|at| if at % 50 == 0 { random() } else { 0.0 })
        .collect();
    let mut image = small_image();
    image.tensors = vec![tensor("w", TensorRole::Weights, &[100_000], values)];
    let file = encode(&image, &small_stamp()).unwrap();
    assert!(file.len() < 100_000 * 4 / 40, "{} bytes", file.len());
}

#[test]
fn a_fixture_of_version_1_opens_in_every_version() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1.titanmem");
    if std::env::var_os("TITANMEM_WRITE_FIXTURE").is_some() {
        assert!(
            !std::fs::exists(path).unwrap(),
            "a released fixture never changes"
        );
        std::fs::write(path, small_file()).unwrap();
    }
    let file = std::fs::read(path).unwrap();
    let (image, stamp) = decode(&file, &Limits::default()).unwrap();
    assert_same(&small_image(), &image);
    assert_eq!(stamp, small_stamp());
    assert_eq!(inspect(&file).unwrap().writer, "titans-store 0.1.0");
}

#[test]
fn rounded_files_say_so_and_rounding_twice_changes_nothing() {
    let mut image = small_image();
    image.tensors.remove(0);
    for (precision, name) in [
        (Precision::Exact, "exact"),
        (Precision::ExactWeights, "exact_weights"),
        (Precision::Compact, "compact"),
    ] {
        let rounded = precision.round(&image).unwrap().into_owned();
        let file = encode_as(&image, &small_stamp(), precision).unwrap();
        let (back, _) = decode(&file, &Limits::default()).unwrap();
        assert_same(&rounded, &back);
        assert_same(&rounded, &precision.round(&rounded).unwrap());
        assert_eq!(encode_as(&back, &small_stamp(), precision).unwrap(), file);
        let said = serde_json::to_string(&inspect(&file).unwrap().precision).unwrap();
        assert_eq!(said, format!("{name:?}"));
        let is_kept = |role| {
            let pairs = image.tensors.iter().zip(&back.tensors);
            pairs
                .filter(|(t, _)| t.role == role)
                .all(|(t, back)| t.values == back.values)
        };
        assert_eq!(
            is_kept(TensorRole::Weights),
            precision != Precision::Compact
        );
        assert_eq!(is_kept(TensorRole::Momentum), precision == Precision::Exact);
        assert!(
            is_kept(TensorRole::Pending),
            "these are 16-bit floats already"
        );
    }
    let error = encode_as(&small_image(), &small_stamp(), Precision::Compact).unwrap_err();
    assert!(
        matches!(
            error,
            titans_store::StoreError::TooLargeForHalf { index: 0, .. }
        ),
        "{error}"
    );
}

/// The byte goals of a memory with a million weights and as many momenta.
#[test]
fn a_million_weights_fit_their_budget() {
    let mut random = random_values();
    let mut values = |scale: f32| (0..1 << 20).map(|_| scale * random()).collect::<Vec<f32>>();
    let mut image = small_image();
    image.tensors = vec![
        tensor("w", TensorRole::Weights, &[1 << 20], values(1.0)),
        tensor("w", TensorRole::Momentum, &[1 << 20], values(1e-4)),
    ];
    let bytes = |precision| encode_as(&image, &small_stamp(), precision).unwrap().len();
    let exact = bytes(Precision::ExactWeights);
    let compact = bytes(Precision::Compact);
    // Per million, and this is 2^20.
    assert!(exact <= 5_300_000, "{exact} bytes with exact weights");
    assert!(compact <= 3_600_000, "{compact} bytes compact");
}

/// Gaussian values of standard deviation 0.03 from a fixed seed.
fn random_values() -> impl FnMut() -> f32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    move || {
        let radius = (-2.0 * uniform().ln()).sqrt();
        (0.03 * radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture"]
fn time_to_encode_decode_and_save() {
    let mut random = random_values();
    let count = 524_288;
    let dense: Vec<f32> = (0..count).map(|_| random()).collect();
    let zeros = vec![0.0; count];
    let sparse = (0..count)
        .map(|at| if at % 50 == 7 { random() } else { 0.0 })
        .collect();
    for (name, values) in [("dense", dense), ("zeros", zeros), ("2 percent", sparse)] {
        let mut image = small_image();
        image.tensors = vec![tensor("w", TensorRole::Weights, &[512, 1024], values)];
        let millis = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut store, _) = MemoryStore::open(dir.path(), SHARD, StoreConfig::default()).unwrap();
        let (mut encodes, mut decodes, mut saves) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..31 {
            let start = Instant::now();
            let file = encode(&image, &small_stamp()).unwrap();
            encodes.push(millis(start));
            let start = Instant::now();
            decode(&file, &Limits::default()).unwrap();
            decodes.push(millis(start));
            let start = Instant::now();
            bytes = store.save(&image).unwrap().file_bytes;
            saves.push(millis(start));
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        println!(
            "{name}: {bytes} bytes, encode {:.2} ms, decode {:.2} ms, save {:.2} ms (medians of 31)",
            median(&mut encodes),
            median(&mut decodes),
            median(&mut saves),
        );
    }
}
