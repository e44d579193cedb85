//! What the memory of one user may be: the tokens that it has learned, in order, and what the
//! ledger says of them. And one thread that learns them one after the other.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use titans_core::{MemoryState, NeuralMemory};

use crate::common::{KEY_DIM, Stream, VALUE_DIM, config};

/// Rows of a table of all tokens that were ever handed over.
pub(crate) type Token = usize;

/// States of histories that are kept, so that few tokens are learned twice.
const KEPT: usize = 40;
/// Queries by which two memories are told apart.
const QUERIES: usize = 48;

/// One piece of an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) item: u64,
    pub(crate) tokens: Range<usize>,
    pub(crate) erased: Option<Range<usize>>,
}

/// A history that a memory may have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) tokens: Vec<Token>,
    pub(crate) pieces: Vec<Piece>,
    /// Tokens that somebody was told are durable.
    pub(crate) durable: usize,
    /// Where the pinned generation may stand, the newest last; `None` is no pin.
    pub(crate) pins: Vec<Option<usize>>,
}

/// What readers can tell two memories apart by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) bits: Vec<u32>,
    pub(crate) tokens_written: u64,
    /// Items and tokens of each piece.
    pub(crate) items: Vec<(u128, u64)>,
}

/// Tokens that take an item away.
pub(crate) struct Erasing {
    pub(crate) tokens: Vec<Token>,
    pub(crate) remains: f32,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            pins: vec![None],
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn observe(&mut self, tokens: Range<Token>, item: Option<u64>) {
        let start = self.len();
        self.tokens.extend(tokens);
        self.pieces.extend(item.map(|item| Piece {
            item,
            tokens: start..self.tokens.len(),
            erased: None,
        }));
    }

    /// The pieces of an item that was not forgotten.
    pub(crate) fn pieces_of(&self, item: u64) -> impl Iterator<Item = &Piece> {
        let pieces = self.pieces.iter();
        pieces.filter(move |piece| piece.item == item && piece.erased.is_none())
    }

    pub(crate) fn erase(&mut self, item: u64, by: &[Token]) {
        let range = self.len()..self.len() + by.len();
        self.tokens.extend(by);
        for piece in &mut self.pieces {
            if piece.item == item && piece.erased.is_none() {
                piece.erased = Some(range.clone());
            }
        }
    }

    /// What is left when everything behind the first `tokens` is gone, and the items that are
    /// there again because what took them away is gone.
    pub(crate) fn cut(&self, tokens: usize) -> (Self, Vec<u64>) {
        let mut line = self.clone();
        line.tokens.truncate(tokens);
        line.durable = line.durable.min(tokens);
        line.pieces.retain(|piece| piece.tokens.end <= tokens);
        let mut back = Vec::new();
        for piece in &mut line.pieces {
            if piece.erased.as_ref().is_some_and(|by| by.end > tokens) {
                piece.erased = None;
                back.push(piece.item);
            }
        }
        back.sort_unstable();
        back.dedup();
        (line, back)
    }

    /// The memory as if the forgotten items had never been there, and which those are.
    pub(crate) fn rebuilt(&self) -> (Self, Vec<u64>) {
        let erased = self.pieces.iter().filter(|piece| piece.erased.is_some());
        let mut forgotten: Vec<u64> = erased.clone().map(|piece| piece.item).collect();
        forgotten.sort_unstable();
        forgotten.dedup();
        let removed: Vec<Range<usize>> = erased
            .flat_map(|piece| [Some(piece.tokens.clone()), piece.erased.clone()])
            .flatten()
            .collect();
        if removed.is_empty() {
            return (self.clone(), forgotten);
        }
        let stays = |place: &usize| !removed.iter().any(|range| range.contains(place));
        let place = |place: usize| (0..place).filter(stays).count();
        let left = self.pieces.iter().filter(|piece| piece.erased.is_none());
        let tokens: Vec<_> = (0..self.len())
            .filter(stays)
            .map(|place| self.tokens[place])
            .collect();
        let line = Self {
            pieces: left
                .map(|piece| Piece {
                    tokens: place(piece.tokens.start)..place(piece.tokens.end),
                    ..piece.clone()
                })
                .collect(),
            durable: tokens.len(),
            pins: vec![None],
            tokens,
        };
        (line, forgotten)
    }

    /// The items that a memory of the first `tokens` names.
    fn items_at(&self, tokens: usize) -> Vec<(u128, u64)> {
        let is_there = |piece: &&Piece| {
            let is_erased = (piece.erased.as_ref()).is_some_and(|by| by.end <= tokens);
            piece.tokens.end <= tokens && !is_erased
        };
        let pieces = self.pieces.iter().filter(is_there);
        pieces
            .map(|piece| (u128::from(piece.item), piece.tokens.len() as u64))
            .collect()
    }
}

/// One thread that learns whatever is asked of it, with nothing of the runtime.
pub(crate) struct Oracle {
    memory: NeuralMemory,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    known: Vec<(Vec<Token>, MemoryState)>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            memory: NeuralMemory::new(config().memory, &Device::flex()).unwrap(),
            keys: Vec::new(),
            values: Vec::new(),
            queries: Stream::new(QUERIES, 4321).keys,
            known: Vec::new(),
        }
    }

    pub(crate) fn queries(&self) -> &[f32] {
        &self.queries
    }

    /// Notes tokens, and gives them numbers.
    pub(crate) fn note(&mut self, keys: &[f32], values: &[f32]) -> Range<Token> {
        let start = self.values.len() / VALUE_DIM;
        self.keys.extend(keys);
        self.values.extend(values);
        start..self.values.len() / VALUE_DIM
    }

    /// What readers find in a memory that has learned the first `tokens` of a line.
    pub(crate) fn known_at(&mut self, line: &Line, tokens: usize) -> Known {
        let state = self.state(&line.tokens[..tokens]);
        let recalled = self.read(&state, &self.queries);
        Known {
            bits: recalled.iter().map(|number| number.to_bits()).collect(),
            tokens_written: state.tokens_written,
            items: line.items_at(tokens),
        }
    }

    /// What `forget` hands over for an item of a line when it looks at the first `tokens` of
    /// it: a quarter of what the keys still recall, again and again, until hardly anything is
    /// left or it makes no difference any more.
    pub(crate) fn erasing(&mut self, line: &Line, item: u64, tokens: usize) -> Erasing {
        let key = |token: &Token| self.keys[token * KEY_DIM..][..KEY_DIM].to_vec();
        let pieces = line.pieces_of(item);
        let rounded = pieces
            .flat_map(|piece| line.tokens[piece.tokens.clone()].iter().flat_map(key))
            .map(|number| f16::from_f32(number).to_f32());
        let keys: Vec<f32> = rounded.collect();
        let rows = keys.len() / KEY_DIM;
        let length = |recalled: &[f32]| recalled.iter().map(|x| x * x).sum::<f32>();
        let mut state = self.state(&line.tokens[..tokens]);
        let mut recalled = self.read(&state, &keys);
        let at_first = length(&recalled);
        if at_first == 0.0 {
            let tokens = self.note(&keys, &vec![0.0; rows * VALUE_DIM]).collect();
            return Erasing {
                tokens,
                remains: 0.0,
            };
        }
        let (mut all_keys, mut all_values, mut remains) = (Vec::new(), Vec::new(), 1.0);
        for pass in 0..16 {
            let values: Vec<f32> = recalled.iter().map(|value| value / 4.0).collect();
            let mut next = state.clone();
            self.write(&mut next, keys.clone(), values.clone());
            let mut finished = next.clone();
            self.memory.finish_update(&mut finished).unwrap();
            let after = self.read(&finished, &keys);
            let left = (length(&after) / at_first).sqrt();
            if pass > 0 && left >= remains {
                break;
            }
            all_keys.extend(&keys);
            all_values.extend(values);
            (remains, state, recalled) = (left, next, after);
            if remains <= 0.02 {
                break;
            }
        }
        Erasing {
            tokens: self.note(&all_keys, &all_values).collect(),
            remains,
        }
    }

    fn state(&mut self, history: &[Token]) -> MemoryState {
        let best = (self.known.iter())
            .filter(|(tokens, _)| history.starts_with(tokens))
            .max_by_key(|(tokens, _)| tokens.len());
        let (known, mut state) = match best {
            Some((tokens, state)) => (tokens.len(), state.clone()),
            None => (0, self.memory.initial_state()),
        };
        if known < history.len() {
            let gather = |table: &[f32], dim: usize| -> Vec<f32> {
                let rows = history[known..].iter();
                rows.flat_map(|token| table[token * dim..][..dim].to_vec())
                    .collect()
            };
            let (keys, values) = (gather(&self.keys, KEY_DIM), gather(&self.values, VALUE_DIM));
            self.write(&mut state, keys, values);
            if self.known.len() >= KEPT {
                self.known.remove(0);
            }
            self.known.push((history.to_vec(), state.clone()));
        }
        state
    }

    fn write(&self, state: &mut MemoryState, keys: Vec<f32>, values: Vec<f32>) {
        let tokens = keys.len() / KEY_DIM;
        let device = self.memory.device();
        let tensor =
            |rows, dim| Tensor::<2>::from_data(TensorData::new(rows, [tokens, dim]), &device);
        let (keys, values) = (tensor(keys, KEY_DIM), tensor(values, VALUE_DIM));
        self.memory.write(state, keys, values).unwrap();
    }

    fn read(&self, state: &MemoryState, queries: &[f32]) -> Vec<f32> {
        let tokens = queries.len() / KEY_DIM;
        let data = TensorData::new(queries.to_vec(), [tokens, KEY_DIM]);
        let read = self
            .memory
            .read(state, Tensor::<2>::from_data(data, &self.memory.device()));
        read.into_data_as::<f32>().try_into_vec::<f32>().unwrap()
    }
}
