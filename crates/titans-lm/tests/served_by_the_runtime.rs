//! The memory of a layer is a memory like any other: what the layer writes can be learned,
//! saved, reopened and recalled through the runtime.

use burn::tensor::{Device, Tensor};
use titans_core::{Reads, TitansLayer, Wiring};
use titans_lm::{FrontEndState, ModelConfig, NeedleModel, TokenId, tokenize};
use titans_runtime::{Rows, Runtime, RuntimeConfig};

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data_as::<f32>()
        .try_into_vec::<f32>()
        .expect("numbers")
}

/// Rows of the layer for a text.
fn rows(model: &NeedleModel, text: &[TokenId], state: &mut FrontEndState) -> Tensor<3> {
    model.front().forward(&[text], state)
}

#[test]
fn what_the_layer_writes_is_recalled_from_a_reopened_store() {
    let config = ModelConfig {
        wiring: Wiring::Lmm,
        rows: 256,
        active: 16,
        ..ModelConfig::default()
    };
    let model = NeedleModel::new(config, &[], &Device::flex()).expect("valid");
    let model = model.with_forced_gate(true);
    let layer: &TitansLayer = model.layer();
    let block = layer.block().expect("a memory");
    let winners = block.winners().expect("winner keys");

    let text = tokenize("The code of iron-gate is 5270.");
    let mut state = model.initial_state(1);
    model
        .forward(&[&text], &mut state, &Reads::Nothing, None)
        .expect("finite");

    // The same writes, as rows for the runtime: key of the token before, value of the token.
    let all = rows(&model, &text, &mut model.initial_state(1).front);
    let count = text.len() - 1;
    let keys = floats(winners.forward(all.clone().narrow(1, 0, count)));
    let values = floats(
        block
            .values_of(all.clone().narrow(1, 1, count))
            .expect("values"),
    );

    let dir = tempfile::tempdir().expect("a folder");
    let mut runtime_config = RuntimeConfig::preset(titans_core::Preset::Delta);
    runtime_config.memory = *block.memory().config();
    let open = || Runtime::open(dir.path(), runtime_config.clone()).expect("opens");
    let runtime = open();
    let memory = runtime.user("reader").expect("a user");
    let ticket = memory.observe(Rows::matrix(&keys, 256), Rows::matrix(&values, 32));
    ticket.expect("taken").wait().expect("durable");
    drop(memory);
    runtime.close(std::time::Duration::from_secs(10));

    let runtime = open();
    let memory = runtime.user("reader").expect("a user");
    let query = floats(winners.forward(all.narrow(1, 5, 1)));
    let recalled = memory.recall(Rows::row(&query)).expect("recalls");
    let query: Tensor<2> = Tensor::from_data(
        burn::tensor::TensorData::new(query, [1, 256]),
        &Device::flex(),
    );
    let expected = floats(block.memory().read(&state.layer.memories()[0], query));
    let apart = recalled
        .values()
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(apart < 1e-5, "{apart}");
    assert!(expected.iter().any(|value| value.abs() > 1e-2));
}
