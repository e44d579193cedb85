//! Convolution, running sums and attention are what their formulas say.

mod common;

use burn::tensor::{Device, Distribution, Tensor};
use common::draw::{sample, seed};
use common::layer::{DIM, WINDOW, layer, rows, run, winner_block};
use common::{apart, numbers};
use titans_core::{
    Attention, BlockConfig, CausalConvolution, Initial, LayerConfig, Target, TitansLayer, Wiring,
    segment_sums,
};

#[test]
fn a_convolution_is_its_sum_over_taps() {
    seed(12);
    for kernel in [1, 2, 5] {
        let taps = sample([kernel, 3], Distribution::Normal(0.0, 1.0));
        let rows = sample([2, 7, 3], Distribution::Normal(0.0, 1.0));
        let convolution = CausalConvolution::from_taps(taps.clone());
        let mut tail = convolution.empty_tail(2);
        let found = Tensor::cat(
            [(0, 3), (3, 1), (4, 3)]
                .map(|(start, count)| {
                    convolution.forward(rows.clone().narrow(1, start, count), &mut tail)
                })
                .into(),
            1,
        );
        let (taps, rows) = (numbers(&taps), numbers(&rows));
        let expected: Vec<f64> = (0..2 * 7 * 3)
            .map(|index| {
                let (text, token, channel) = (index / 21, index / 3 % 7, index % 3);
                (0..kernel.min(token + 1))
                    .map(|back| {
                        taps[back * 3 + channel] * rows[text * 21 + (token - back) * 3 + channel]
                    })
                    .sum()
            })
            .collect();
        assert!(apart(&numbers(&found), &expected) < 1e-6, "{kernel}");
    }
}

#[test]
fn segment_sums_are_running_sums_that_start_again() {
    seed(13);
    for tokens in [1, 63, 64, 65, 131] {
        let rows = sample([2, tokens, 3], Distribution::Normal(0.0, 1.0));
        let starts = sample([2, tokens], Distribution::Uniform(0.0, 1.0))
            .lower_elem(0.05)
            .float();
        let carried = sample([2, 3], Distribution::Normal(0.0, 1.0));
        let mut carry = carried.clone();
        let first = (tokens / 3).max(1).min(tokens);
        let mut parts = Vec::new();
        for (start, count) in [(0, first), (first, tokens - first)] {
            if count == 0 {
                continue;
            }
            let starts = starts.clone().narrow(1, start, count);
            parts.push(segment_sums(
                rows.clone().narrow(1, start, count),
                starts,
                &mut carry,
            ));
        }
        let (rows, starts) = (numbers(&rows), numbers(&starts));
        let mut sums = numbers(&carried);
        let mut expected = vec![0.0; 2 * tokens * 3];
        for text in 0..2 {
            for token in 0..tokens {
                for channel in 0..3 {
                    let sum = &mut sums[text * 3 + channel];
                    if starts[text * tokens + token] == 1.0 {
                        *sum = 0.0;
                    }
                    *sum += rows[(text * tokens + token) * 3 + channel];
                    expected[(text * tokens + token) * 3 + channel] = *sum;
                }
            }
        }
        assert!(
            apart(&numbers(&Tensor::cat(parts, 1)), &expected) < 1e-5,
            "{tokens}"
        );
        assert!(apart(&numbers(&carry), &sums) < 1e-5, "{tokens}");
    }
}

#[test]
fn attention_is_a_softmax_over_what_each_token_sees() {
    seed(14);
    for (wiring, sees) in [
        (
            Wiring::FullAttention,
            (|_, _| true) as fn(usize, usize) -> bool,
        ),
        (Wiring::SlidingWindow, |query, key| query < key + WINDOW),
    ] {
        let mut layer = layer(wiring, winner_block(None));
        // One head, no persistent tokens, keys of the same token: the textbook's formula.
        let config = LayerConfig {
            heads: 1,
            persistent: 0,
            block: BlockConfig {
                target: Target::Same,
                ..layer.config().block
            },
            ..*layer.config()
        };
        let mut initial = Initial::new(2, &Device::flex());
        layer = TitansLayer::new(config, &mut initial).expect("valid");
        let weights: [Tensor<2>; 3] = std::array::from_fn(|_| initial.normal([DIM, 3], 0.5));
        let output = initial.normal([3, DIM], 0.5);
        let attention: &mut Attention = layer.attention_mut().expect("attends");
        attention.set_projections(weights.clone(), output.clone());
        let text = rows(1, 11);
        let (found, _) = run(&layer, text.clone(), &[11]);

        let energy = (text.clone() * text.clone()).mean_dim(2);
        let normed: Tensor<2> = (text.clone() / (energy + 1e-6).sqrt()).squeeze_dim(0);
        let [queries, keys, values] = weights.map(|weight| numbers(&normed.clone().matmul(weight)));
        let mut attended = vec![0.0; 11 * 3];
        for query in 0..11 {
            let score = |key: usize| -> f64 {
                let dot = (0..3).map(|i| queries[query * 3 + i] * keys[key * 3 + i]);
                (dot.sum::<f64>() / 3f64.sqrt()).exp()
            };
            let visible: Vec<usize> = (0..=query).filter(|key| sees(query, *key)).collect();
            let total: f64 = visible.iter().map(|key| score(*key)).sum();
            for key in visible {
                for i in 0..3 {
                    attended[query * 3 + i] += score(key) / total * values[key * 3 + i];
                }
            }
        }
        let attended: Vec<f32> = attended.into_iter().map(|x| x as f32).collect();
        let attended = burn::tensor::TensorData::new(attended, [11, 3]);
        let attended: Tensor<2> = Tensor::from_data(attended, &Device::flex());
        let expected = text + attended.matmul(output).unsqueeze_dim::<3>(0);
        let apart = apart(&numbers(&found), &numbers(&expected));
        assert!(apart < 1e-5, "{wiring}: {apart}");
    }
}
