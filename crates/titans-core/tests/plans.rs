//! What computes the updates of each preset is what the documentation of `UpdatePlan` says.

use std::sync::Arc;

use burn::tensor::Device;
use titans_core::{
    GateSpan, L2Retention, LearningAlgorithm, MemoryConfig, MemoryOps, NeuralMemory,
    NormalisedStep, Preset, Products, RetentionGate, RetentionTarget, RoundedHostOps, TensorOps,
    UpdatePlan,
};

fn plan(config: MemoryConfig, device: &Device, ops: Arc<dyn MemoryOps>) -> UpdatePlan {
    let memory = NeuralMemory::with_ops(config, device, ops);
    memory.expect("valid").plan()
}

fn on_the_cpu(config: MemoryConfig) -> UpdatePlan {
    let memory = NeuralMemory::new(config, &Device::flex());
    memory.expect("valid").plan()
}

/// The plan of a preset in the table of the documentation.
fn documented(preset: Preset) -> &'static str {
    let lines = include_str!("../src/memory/plan.rs").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("/// | `"));
    let mut named = rows.filter_map(|row| {
        let (plan, rest) = row.split_once("` | ")?;
        let (_, presets) = rest.trim_end_matches(" |").rsplit_once(" | ")?;
        let word = format!("`{preset}`");
        presets.split(", ").any(|name| name == word).then_some(plan)
    });
    let plan = named.next().expect("every preset is in the table");
    assert_eq!(named.next(), None, "{preset} is in the table once");
    plan
}

#[test]
fn every_preset_has_the_plan_of_the_table_on_the_cpu() {
    for preset in Preset::ALL {
        let config = preset.config();
        let expected = documented(*preset);
        assert_eq!(on_the_cpu(config).to_string(), expected, "{preset}");
        for products in [Products::F32, Products::Bf16] {
            let ops = Arc::new(RoundedHostOps { products });
            let found = plan(config, &Device::flex(), ops);
            assert_eq!(found.to_string(), expected, "{preset} in {products:?}");
        }
    }
}

#[test]
fn without_operations_for_dense_memories_titans_has_the_closed_form() {
    for preset in Preset::ALL {
        let expected = match documented(*preset) {
            "dense" => "closed-form",
            other => other,
        };
        let config = preset.config();
        let in_tensors = plan(config, &Device::flex(), Arc::new(TensorOps));
        assert_eq!(in_tensors.to_string(), expected, "{preset}");
    }
}

#[test]
fn a_choice_that_an_engine_does_not_know_changes_the_plan() {
    let mut config = Preset::Titans.config();
    config.update.max_gradient_norm = Some(1.0);
    assert_eq!(on_the_cpu(config), UpdatePlan::TokenByToken);
    config.update.gate_span = GateSpan::PerUpdate;
    assert_eq!(on_the_cpu(config), UpdatePlan::SummedGradient);

    let mut config = Preset::Titans.config();
    config.miras.learning_algorithm =
        LearningAlgorithm::NormalisedStep(NormalisedStep { step_size: 0.1 });
    assert_eq!(on_the_cpu(config), UpdatePlan::ClosedForm);

    let mut config = Preset::Delta.config();
    config.miras.retention_gate = RetentionGate::L2(L2Retention {
        retention: 0.9,
        target: RetentionTarget::Zero,
    });
    assert_eq!(on_the_cpu(config), UpdatePlan::ClosedForm);
}
