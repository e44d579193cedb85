//! Sums over what has been read of the current segment.

use burn::tensor::{Bool, Tensor};

/// Tokens whose sums are one matrix product.
const BLOCK: usize = 64;

/// `sum_t = (starts_t ? 0 : sum_(t-1)) + x_t`: the sum of a sentence, or of whatever else
/// `starts` cuts a stream into, up to and with each token.
///
/// Block by block: inside a block a triangular mask of the tokens of the same segment, and
/// what the block before left for those whose segment began earlier.
///
/// # Shapes
/// - `rows`: `[batch, tokens, channels]`
/// - `starts`: `[batch, tokens]`, 1 where a segment starts, else 0
/// - `carry`: `[batch, channels]`, the sum so far; becomes that after the last token
/// - returns: `[batch, tokens, channels]`
pub fn segment_sums(rows: Tensor<3>, starts: Tensor<2>, carry: &mut Tensor<2>) -> Tensor<3> {
    let [batch, tokens, channels] = rows.dims();
    if tokens == 0 {
        return rows;
    }
    let mut sums = Vec::with_capacity(tokens.div_ceil(BLOCK));
    for start in (0..tokens).step_by(BLOCK) {
        let count = BLOCK.min(tokens - start);
        let segment = starts.clone().narrow(1, start, count).cumsum(1);
        let is_same = (segment.clone().unsqueeze_dim::<3>(2))
            .sub(segment.clone().unsqueeze_dim::<3>(1))
            .equal_elem(0.0);
        let device = rows.device().inner();
        let earlier: Tensor<2, Bool> = Tensor::tril_mask([count, count], 0, &device);
        let mask = is_same.float().cast(rows.dtype()).mask_fill(
            earlier.unsqueeze_dim::<3>(0).expand([batch, count, count]),
            0.0,
        );
        let continues = segment.equal_elem(0.0).float().cast(rows.dtype());
        let inside = mask.matmul(rows.clone().narrow(1, start, count));
        let sum = inside + continues.unsqueeze_dim::<3>(2) * carry.clone().unsqueeze_dim::<3>(1);
        *carry = sum
            .clone()
            .narrow(1, count - 1, 1)
            .reshape([batch, channels]);
        sums.push(sum);
    }
    Tensor::cat(sums, 1)
}
