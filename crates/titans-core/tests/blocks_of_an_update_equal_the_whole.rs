//! Tokens that wait for the rest of a long update are evaluated in its blocks, and have the bits
//! that they have when the update is made at once.

mod common;

use burn::tensor::{Distribution, Tensor};
use common::draw::{sample, seed};
use common::{bits, memory, small};
use titans_core::{ForgetScope, MemoryArchitecture, MemoryConfig, Mlp, Preset, UpdatePlan, Wrap};

/// More than two blocks, the last of which is cut short.
const UPDATE: usize = 600;

#[test]
fn pieces_of_an_update_of_many_blocks_equal_the_whole() {
    seed(7);
    let wide = |preset: Preset| {
        let mut config = small(preset);
        (config.key_dim, config.value_dim) = (24, 24);
        config.update.update_size = UPDATE;
        config.update.surprise_threshold = 0.9;
        config
    };
    // Wide enough for products that a library divides otherwise when they have few rows.
    let mut deep = wide(Preset::Article);
    deep.miras.architecture = MemoryArchitecture::Mlp(Mlp {
        depth: 3,
        hidden: 600,
        wrap: Wrap::NormResidual,
        ..Mlp::default()
    });
    let mut channels = wide(Preset::Sparse);
    channels.update.forget_scope = ForgetScope::Dense;
    let kinds: [(&str, MemoryConfig); 3] = [
        ("a deep memory", deep),
        ("a gated memory", wide(Preset::Lact)),
        ("sparse channels", channels),
    ];
    let tokens = UPDATE + 17;
    let row = |count: usize| -> Tensor<2> { sample([count, 24], Distribution::Normal(0.0, 1.0)) };
    let (keys, values) = (row(tokens), row(tokens));
    for (what, config) in kinds {
        let memory = memory(config);
        assert_ne!(memory.plan(), UpdatePlan::Rows, "{what}");
        let write = |pieces: &[usize]| {
            let (mut state, mut surprise, mut from) = (memory.initial_state(), Vec::new(), 0);
            for count in pieces {
                let part = |rows: &Tensor<2>| rows.clone().narrow(0, from, *count);
                let report = memory.write(&mut state, part(&keys), part(&values));
                surprise.extend(report.expect("finite").surprise);
                from += count;
            }
            assert_eq!(from, tokens);
            (bits(&state), surprise)
        };
        let (whole, whole_surprise) = write(&[tokens]);
        for pieces in [
            &[1, 254, 2, 342, 1, 17][..],
            &[256, 256, 88, 17],
            &[400, 217],
            &[599, 18],
            &[61; 10],
        ] {
            let mut pieces = pieces.to_vec();
            let rest = tokens - pieces.iter().sum::<usize>();
            pieces.extend((rest > 0).then_some(rest));
            let (found, surprise) = write(&pieces);
            assert_eq!(surprise, whole_surprise, "{what} in {pieces:?}");
            assert_eq!(found, whole, "{what} in {pieces:?}");
        }
    }
}
