//! Layers of a model: a memory beside attention, in the wirings of Titans.
//!
//! ```text
//! LMM   x ------------> memory ----------------> + -> out
//! MAC   x -> read M of the last segment -> attention over [persistent | read | x] -> y
//!       y -> memory (write, then read) --------> gated by y --------------> out
//! MAG   x -> memory ---------------------------> gated by attention(x) ---> out
//! MAL   x -> memory -> y -> attention(y) ------------------------------> + -> out
//! ```
//!
//! [`TitansLayer`] is the layer, [`Wiring`] the word that says how memory and attention stand
//! together (Titans, arXiv:2501.00663, section 4), and [`LayerState`] what one piece of a text
//! leaves for the next. Reading a text whole or in pieces of any length gives the same. The
//! state has one size however long the text is, except with full attention.
//!
//! The layers are modules of [Burn](crate::burn) and differentiable through every update of
//! their memory; training needs Burn's feature `autodiff`, which your own dependency on Burn
//! switches on. [`WriteGate`] learns which tokens are worth keeping and is exactly zero on the
//! others.

#[doc(inline)]
pub use titans_core::{
    Attention, AttentionConfig, AttentionState, BlockConfig, BlockOutput, BlockState,
    CausalConvolution, DenseProjection, GateHeads, GateKind, GateNoise, HostLayerState, Initial,
    KeyConfig, LayerConfig, LayerOutput, LayerState, NeuralMemoryBlock, ProjectionState, Reads,
    RmsNorm, Span, Target, TitansLayer, WinnerKeys, WinnerKeysConfig, Wiring, WriteGate,
    WriteGateConfig, WriteGates, segment_sums,
};
