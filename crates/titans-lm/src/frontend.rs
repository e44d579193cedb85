//! From tokens to the rows of the layer.

use burn::module::{Module, Param};
use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use titans_core::{CausalConvolution, Initial, segment_sums};

use crate::tokens::{
    TokenId, VOCABULARY, ends_sentence, is_character_of_a_code, is_word, spells_a_code,
};

/// Width of the frozen codes of a token.
pub(crate) const CODE: usize = 128;
/// Width of the learned type of a token.
pub(crate) const TYPE: usize = 16;
/// Width of the local context.
pub(crate) const CONTEXT: usize = 64;
/// Width of the frozen code by which a value is recalled.
pub(crate) const VALUE: usize = 32;
/// Tokens whose product is the local code.
const NGRAM: usize = 6;
/// Tokens that the context convolution sees.
const KERNEL: usize = 12;
/// Characters whose value codes are at right angles, as many as the codes have numbers.
const SPELLED: &str = "0123456789abcdef-.:ghiklmnoprstu";
/// By how many places a code is turned for each token back.
const TURN: usize = 11;

/// What the table's salience and openness are multiplied by. Adam moves every number by
/// about its learning rate a step: unscaled, a word that begins as a subject would take a
/// thousand steps to become wording.
const LOGIT_GAIN: f32 = 8.0;

/// Where each part of a row begins.
pub(crate) const SUBJECT_AT: usize = 0;
pub(crate) const LOCAL_AT: usize = SUBJECT_AT + CODE;
pub(crate) const CONTEXT_AT: usize = LOCAL_AT + CODE;
const GIST_AT: usize = CONTEXT_AT + CONTEXT;
const TYPE_AT: usize = GIST_AT + TYPE;
const FRAME_AT: usize = TYPE_AT + TYPE;
pub(crate) const VALUE_AT: usize = FRAME_AT + CONTEXT;
pub(crate) const ANSWER_AT: usize = VALUE_AT + VALUE;
/// Width of a row.
pub const WIDTH: usize = ANSWER_AT + VALUE;

/// Rows of the layer, from tokens.
///
/// ```text
/// subject_t = l2(sum over the sentence of decided(salience) * code)       what it is about
/// local_t   = product over the last 6 tokens of (1 - o + o * turned sign code) / 8,
///             o = decided(openness)                                       where in a value
/// context_t = silu(convolution of 12 types)                               wording nearby
/// frame_t   = context at the last token that no code is spelled with      wording before a code
/// gist_t    = mean type over the sentence                                 wording so far
/// ```
///
/// beside the type and the value code of the token and room for an answer. Codes are frozen
/// random numbers of the seed; salience, openness and type are learned, a row of a table for
/// each token of the vocabulary. Two wordings give one subject as soon as salience has
/// learned which words are wording.
#[derive(Module, Debug)]
pub struct FrontEnd {
    /// `[VOCABULARY, TYPE + 2]`: type, salience, openness.
    table: Param<Tensor<2>>,
    context: Param<Tensor<2>>,
    convolution: CausalConvolution,
    /// `[VOCABULARY, CODE]`.
    #[module(skip)]
    codes: Tensor<2>,
    /// The same, of plus and minus one.
    #[module(skip)]
    signs: Tensor<2>,
    /// `[VOCABULARY, VALUE]`, rows of length one.
    #[module(skip)]
    values: Tensor<2>,
}

/// What the front end carries from piece to piece.
#[derive(Clone, Debug)]
pub struct FrontEndState {
    convolution: Tensor<3>,
    ngram: Tensor<3>,
    sums: Tensor<2>,
    frame: Tensor<2>,
    /// Whether the last token ended a sentence, for each text.
    ended: Vec<bool>,
}

impl FrontEnd {
    /// Initial parameters, from how often each token occurs in the training texts.
    pub(crate) fn new(counts: &[u64], initial: &mut Initial) -> Self {
        let device = initial.device();
        let mut frozen = Initial::new(0x0c0d_e5ee_d000_0001, &device);
        let codes = frozen.normal([VOCABULARY, CODE], 1.0 / (CODE as f32).sqrt());
        let signs = frozen.normal([VOCABULARY, CODE], 1.0).sign();
        let values = value_codes(&mut frozen);
        Self {
            table: Param::from_tensor(initial_table(counts, initial)),
            context: initial.matrix(TYPE, CONTEXT, 1.0),
            convolution: CausalConvolution::from_taps(initial.normal([KERNEL, CONTEXT], 0.4)),
            codes,
            signs,
            values,
        }
    }

    /// Before the first token.
    pub fn initial_state(&self, batch: usize) -> FrontEndState {
        let device = self.codes.device();
        FrontEndState {
            convolution: self.convolution.empty_tail(batch),
            ngram: Tensor::ones([batch, NGRAM - 1, CODE], &device),
            sums: Tensor::zeros([batch, CODE + TYPE + 1], &device),
            frame: Tensor::zeros([batch, CONTEXT], &device),
            ended: vec![true; batch],
        }
    }

    /// Value codes of the whole vocabulary, `[VOCABULARY, VALUE]`.
    pub(crate) fn values(&self) -> Tensor<2> {
        self.values.clone()
    }

    /// Learned types of the whole vocabulary, `[VOCABULARY, TYPE]`.
    pub(crate) fn types(&self) -> Tensor<2> {
        self.table.val().narrow(1, 0, TYPE)
    }

    /// Rows of a piece of each text, `[batch, tokens, WIDTH]`.
    ///
    /// # Panics
    /// If the texts are not equally long and at least one token, or not as many as the
    /// state's.
    pub fn forward(&self, texts: &[&[TokenId]], state: &mut FrontEndState) -> Tensor<3> {
        let (batch, tokens) = (texts.len(), texts[0].len());
        assert_eq!(batch, state.ended.len(), "texts and states");
        let device = self.codes.device();
        let ids = flat_ids(texts, &device);
        let of_tokens = |table: Tensor<2>| -> Tensor<3> {
            let [_, width] = table.dims();
            table.select(0, ids.clone()).reshape([batch, tokens, width])
        };
        let learned = of_tokens(self.table.val());
        let types = learned.clone().narrow(2, 0, TYPE);
        let salience = decided(learned.clone().narrow(2, TYPE, 1) * LOGIT_GAIN);
        let openness = decided(learned.narrow(2, TYPE + 1, 1) * LOGIT_GAIN);

        let starts = self.starts(texts, state, &device);
        let ones: Tensor<3> = Tensor::ones([batch, tokens, 1], &device);
        let summed = Tensor::cat(
            vec![
                of_tokens(self.codes.clone()) * salience,
                types.clone(),
                ones,
            ],
            2,
        );
        let sums = segment_sums(summed, starts, &mut state.sums);
        let subject = unit(sums.clone().narrow(2, SUBJECT_AT, CODE));
        let gist = sums.clone().narrow(2, CODE, TYPE) / sums.narrow(2, CODE + TYPE, 1);

        let signs = of_tokens(self.signs.clone()) - 1.0;
        let local = ngram(signs * openness + 1.0, &mut state.ngram);

        let flat = types.clone().reshape([batch * tokens, TYPE]);
        let projected = flat.matmul(self.context.val());
        let projected = projected.reshape([batch, tokens, CONTEXT]);
        let context = silu(self.convolution.forward(projected, &mut state.convolution));

        // The first character of a code and its last are judged by the same words: what is
        // carried through the code is what stood before it.
        let is_frame = frames(texts, &device);
        let framed = context.clone() * is_frame.clone().unsqueeze_dim::<3>(2);
        let frame = segment_sums(framed, is_frame, &mut state.frame);

        let answer: Tensor<3> = Tensor::zeros([batch, tokens, VALUE], &device);
        let value = of_tokens(self.values.clone());
        Tensor::cat(
            vec![subject, local, context, gist, types, frame, value, answer],
            2,
        )
    }

    /// 1 for the first token of each sentence.
    fn starts(
        &self,
        texts: &[&[TokenId]],
        state: &mut FrontEndState,
        device: &Device,
    ) -> Tensor<2> {
        let (batch, tokens) = (texts.len(), texts[0].len());
        let mut starts = Vec::with_capacity(batch * tokens);
        for (text, ended) in texts.iter().zip(&mut state.ended) {
            for token in text.iter() {
                starts.push(if *ended { 1.0_f32 } else { 0.0 });
                *ended = ends_sentence(*token);
            }
        }
        Tensor::from_data(TensorData::new(starts, [batch, tokens]), device)
    }
}

impl FrontEndState {
    /// Bytes that are carried.
    pub fn bytes(&self) -> usize {
        let count = |dims: &[usize]| dims.iter().product::<usize>() * size_of::<f32>();
        count(&self.convolution.dims())
            + count(&self.ngram.dims())
            + count(&self.sums.dims())
            + count(&self.frame.dims())
            + self.ended.len()
    }
}

/// 0 for what a code is spelled with, 1 for words and all other marks.
fn frames(texts: &[&[TokenId]], device: &Device) -> Tensor<2> {
    let is_frame: Vec<f32> = (texts.iter())
        .flat_map(|text| text.iter())
        .map(|token| f32::from(u8::from(!spells_a_code(*token))))
        .collect();
    Tensor::from_data(
        TensorData::new(is_frame, [texts.len(), texts[0].len()]),
        device,
    )
}

/// Random codes of length one, `[VOCABULARY, VALUE]`, those of [`SPELLED`] at right angles.
///
/// Values are mostly spelled with few characters, and a memory that is nearly full answers
/// with a mixture: random codes of 32 numbers have cosines of 0.18 and beyond, so that the
/// nearest wrong digit is half as far. With 256 seven-digit values in 7680 rows it is the
/// difference between 94 and 99 % recalled.
fn value_codes(frozen: &mut Initial) -> Tensor<2> {
    let random: Tensor<2> = frozen.normal([VOCABULARY, VALUE], 1.0);
    let device = random.device();
    let data = random.into_data_as::<f32>().try_into_vec::<f32>();
    let mut codes = data.expect("the codes are floats");
    let mut frame: Vec<Vec<f64>> = Vec::new();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spelled = SPELLED.bytes().map(usize::from);
    let others = (0..VOCABULARY).filter(|token| !SPELLED.bytes().any(|s| usize::from(s) == *token));
    for (place, token) in spelled.chain(others).enumerate() {
        let row = &mut codes[token * VALUE..(token + 1) * VALUE];
        let mut code: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let is_spelled = place < SPELLED.len();
        if is_spelled {
            // Gram and Schmidt.
            for other in &frame {
                let along = dot(&code, other);
                (code.iter_mut().zip(other)).for_each(|(x, y)| *x -= along * y);
            }
        }
        let length = dot(&code, &code).sqrt();
        code.iter_mut().for_each(|x| *x /= length);
        row.iter_mut().zip(&code).for_each(|(x, y)| *x = *y as f32);
        if is_spelled {
            frame.push(code);
        }
    }
    Tensor::from_data(TensorData::new(codes, [VOCABULARY, VALUE]), &device)
}

/// Product over the last tokens of their factors, each turned by its distance.
fn ngram(factors: Tensor<3>, tail: &mut Tensor<3>) -> Tensor<3> {
    let [_, tokens, _] = factors.dims();
    let all = Tensor::cat(vec![tail.clone(), factors], 1);
    *tail = all.clone().narrow(1, tokens, NGRAM - 1);
    let turned = |back: usize| {
        let factor = all.clone().narrow(1, NGRAM - 1 - back, tokens);
        match back * TURN % CODE {
            0 => factor,
            by => Tensor::cat(
                vec![
                    factor.clone().narrow(2, by, CODE - by),
                    factor.narrow(2, 0, by),
                ],
                2,
            ),
        }
    };
    let product = (1..NGRAM).fold(turned(0), |product, back| product * turned(back));
    product / (CODE as f32).sqrt()
}

/// Salience begins as the smooth inverse frequency `a / (a + p)` (arXiv:1611.09326 reads
/// it as a weight of words in a sentence): rare words say what a sentence is about. Digits
/// and letters of codes are open, all else is closed.
fn initial_table(counts: &[u64], initial: &mut Initial) -> Tensor<2> {
    const SMOOTHING: f64 = 3e-4;
    const CERTAIN: f64 = 4.0;
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let mut rows = Vec::with_capacity(VOCABULARY * (TYPE + 2));
    for token in 0..VOCABULARY as TokenId {
        let share = counts.get(token as usize).copied().unwrap_or(0) as f64 / total;
        let weight = SMOOTHING / (SMOOTHING + share);
        let is_digit = (0x30..0x3a).contains(&token);
        let marks = [
            f64::from(u8::from(is_digit)),
            f64::from(u8::from(is_character_of_a_code(token) && !is_digit)),
            f64::from(u8::from(!is_word(token) && !is_character_of_a_code(token))),
            if is_word(token) {
                2.0 * weight - 1.0
            } else {
                0.0
            },
        ];
        let random = (0..TYPE - marks.len()).map(|_| 0.3 * 3.46 * (initial.unit() - 0.5));
        rows.extend(marks.into_iter().chain(random).map(|x| x as f32));
        let salience = match is_word(token) {
            true => (weight / (1.0 - weight).max(1e-9))
                .ln()
                .clamp(-CERTAIN, CERTAIN),
            false => -2.0 * CERTAIN,
        };
        let openness = match is_character_of_a_code(token) {
            true => CERTAIN,
            false => -CERTAIN,
        };
        rows.extend([salience, openness].map(|logit| logit as f32 / LOGIT_GAIN));
    }
    Tensor::from_data(
        TensorData::new(rows, [VOCABULARY, TYPE + 2]),
        &initial.device(),
    )
}

/// A sigmoid that reaches 0 and 1: stretched by a tenth on both sides and clipped (the hard
/// concrete gate, arXiv:1712.01312), with the gradient of the sigmoid.
///
/// A dozen words of wording at two hundredths each move a subject as much as a word of its
/// own does.
fn decided(logits: Tensor<3>) -> Tensor<3> {
    let soft = sigmoid(logits);
    let clipped = (soft.clone().inner() * 1.2 - 0.1).clamp(0.0, 1.0);
    match soft.is_autodiff() {
        true => clipped - soft.clone().inner() + soft,
        false => clipped,
    }
}

fn unit(rows: Tensor<3>) -> Tensor<3> {
    let energy = (rows.clone() * rows.clone()).sum_dim(2);
    rows / (energy + 1e-4).sqrt()
}

pub(crate) fn flat_ids(texts: &[&[TokenId]], device: &Device) -> Tensor<1, Int> {
    let tokens = texts[0].len();
    let ids: Vec<i32> = (texts.iter())
        .flat_map(|text| {
            assert_eq!(text.len(), tokens, "texts of one batch are equally long");
            text.iter().map(|id| *id as i32)
        })
        .collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_codes_have_length_one_and_those_of_characters_are_at_right_angles() {
        let codes = value_codes(&mut Initial::new(1, &Device::flex()));
        let spelled: Vec<i32> = SPELLED.bytes().map(i32::from).collect();
        assert_eq!(spelled.len(), VALUE);
        let ids = Tensor::<1, Int>::from_data(TensorData::new(spelled, [VALUE]), &Device::flex());
        let frame = codes.clone().select(0, ids);
        let products = frame.clone().matmul(frame.transpose());
        let off = (products - Tensor::eye(VALUE, &Device::flex())).abs().max();
        assert!(off.into_scalar::<f32>() < 1e-5);
        let lengths = (codes.clone() * codes).sum_dim(1).sqrt();
        assert!((lengths - 1.0).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn a_code_is_framed_by_the_wording_before_it_in_pieces_of_any_length() {
        let device = Device::flex();
        let front = FrontEnd::new(&[], &mut Initial::new(1, &device));
        let text = crate::tokens::tokenize("The iron-gate opens with 70-b4:5, they say, on 3 May.");
        let mut state = front.initial_state(1);
        let rows: Vec<Tensor<3>> = (text.chunks(5))
            .map(|piece| front.forward(&[piece], &mut state))
            .collect();
        let rows = Tensor::cat(rows, 1);
        let at = |part: usize, token: usize| -> Vec<f32> {
            let part = rows.clone().narrow(2, part, CONTEXT).narrow(1, token, 1);
            part.into_data_as::<f32>().try_into_vec().expect("floats")
        };
        let mut last = None;
        for (place, token) in text.iter().enumerate() {
            if !spells_a_code(*token) {
                last = Some(place);
            }
            let expected = at(CONTEXT_AT, last.expect("begins with a word"));
            assert_eq!(at(FRAME_AT, place), expected, "token {place}");
        }
        // Seven characters of a code, a day, and the hyphen of a compound.
        assert_eq!(
            text.iter().filter(|token| spells_a_code(**token)).count(),
            9
        );
    }
}
