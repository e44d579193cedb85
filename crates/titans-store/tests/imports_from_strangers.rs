//! Every rule of an import has a name, and what passes belongs to its new owner.
#![allow(clippy::unwrap_used)]

mod common;

use common::{SHARD, small_image, small_stamp, tensor};
use titans_store::{
    ImportRules, Limits, MemoryImage, ShardId, StoreError, TensorRole, encode, import_untrusted,
};

const WEIGHTS: &[(&str, &[u64])] = &[("w", &[2, 3])];
const OWNER: ShardId = ShardId([1; 16]);

fn stranger() -> MemoryImage {
    let values = vec![0.5, -1.0, 2.0, 0.0, 0.25, 1.0];
    MemoryImage {
        model_digest: None,
        tensors: vec![tensor("w", TensorRole::Weights, &[2, 3], values)],
        extra: [("provenance".to_owned(), "ours, honestly".to_owned())].into(),
        ..small_image()
    }
}

fn rules() -> ImportRules<'static> {
    ImportRules::new([0x11; 32], WEIGHTS)
}

fn import(change: impl FnOnce(&mut MemoryImage)) -> Result<MemoryImage, StoreError> {
    let mut image = stranger();
    change(&mut image);
    import_untrusted(&encode(&image, &small_stamp()).unwrap(), OWNER, &rules())
}

#[test]
fn what_passes_has_a_new_owner_and_a_mark() {
    let image = import(|_| {}).unwrap();
    assert_eq!(image.shard, OWNER);
    assert_ne!(stranger().shard, OWNER);
    assert_eq!(image.tensors, stranger().tensors);
    assert_eq!((image.recall, image.rolled_back_from), (None, None));
    assert_eq!(image.extra["provenance"], "imported");
    assert_eq!(SHARD, stranger().shard);
}

#[test]
fn rejects_values_and_norms_beyond_the_rules() {
    let large = import(|image| image.tensors[0].values[2] = -101.0).unwrap_err();
    assert!(
        matches!(large, StoreError::TooLarge { index: 2, .. }),
        "{large}"
    );
    let loud = import(|image| image.tensors[0].values = vec![99.0; 6]).unwrap_err();
    assert!(matches!(loud, StoreError::TooLoud { .. }), "{loud}");
}

#[test]
fn rejects_another_base_model_or_shape() {
    let field = |error: StoreError| match error {
        StoreError::WrongOrigin { field, .. } => field,
        error => panic!("{error}"),
    };
    assert_eq!(
        field(import(|image| image.base_digest[0] ^= 1).unwrap_err()),
        "base_digest"
    );
    let model = import(|image| image.model_digest = Some([2; 32])).unwrap_err();
    assert_eq!(field(model), "model_digest");
    let shape = import(|image| image.tensors[0].shape = vec![3, 2]).unwrap_err();
    assert_eq!(field(shape), "theta_shape");
    let name = import(|image| image.tensors[0].name = "v".to_owned()).unwrap_err();
    assert_eq!(field(name), "theta_shape");
}

#[test]
fn rejects_a_file_larger_than_strangers_may_send() {
    let limits = Limits::untrusted();
    assert!(limits.max_params < Limits::default().max_params);
    assert!(limits.max_file_bytes < Limits::default().max_file_bytes);
    let large = import(|image| {
        let count = limits.max_params + 1;
        image.tensors = vec![tensor(
            "w",
            TensorRole::Weights,
            &[count],
            vec![0.0; count as usize],
        )];
    });
    assert!(matches!(large.unwrap_err(), StoreError::Limit { .. }));
}

#[test]
fn rejects_a_file_without_the_proof_that_came_with_it() {
    let file = encode(&stranger(), &small_stamp()).unwrap();
    let key = [7; 32];
    let digest = *blake3::keyed_hash(&key, &file).as_bytes();
    let with = |proof| ImportRules {
        proof: Some(proof),
        ..rules()
    };
    import_untrusted(&file, OWNER, &with((&key, digest))).unwrap();
    let error = import_untrusted(&file, OWNER, &with((&[8; 32], digest))).unwrap_err();
    assert!(matches!(error, StoreError::WrongProof { .. }), "{error}");
}
