//! Everything is kept.

use super::rule::RetentionRule;
use crate::miras::descriptor::Params;

/// `W_t = W_(t-1) + update_t`.
///
/// A gate that is given a fraction from outside keeps that fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoRetention;

impl RetentionRule for NoRetention {
    fn name(&self) -> &'static str {
        "none"
    }

    fn params(&self) -> Params {
        Params::new()
    }
}
