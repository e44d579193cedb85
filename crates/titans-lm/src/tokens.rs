//! Text as numbers: words by hash, figures and codes by character.

use std::collections::HashMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A token by its number.
pub type TokenId = u32;

/// How many numbers there are.
pub const VOCABULARY: usize = 32_768;
/// Numbers below this are single characters; words are hashed to those above.
const CHARACTERS: u32 = 256;

/// The full stop, which also ends an answer.
pub const FULL_STOP: TokenId = '.' as u32;

/// A blank line.
pub const PARAGRAPH: TokenId = '\n' as u32;

/// Whether a token ends a sentence: a mark or a blank line.
pub fn ends_sentence(token: TokenId) -> bool {
    ['.', '!', '?', '\n']
        .into_iter()
        .any(|mark| mark as u32 == token)
}

/// Whether a token is a digit or a letter of a code.
pub fn is_character_of_a_code(token: TokenId) -> bool {
    char::from_u32(token).is_some_and(|char| char.is_ascii_alphanumeric())
}

/// Whether a token may stand within a code, a date or a time: a digit, a letter, a hyphen or a
/// colon.
pub(crate) fn spells_a_code(token: TokenId) -> bool {
    is_character_of_a_code(token) || ['-', ':'].into_iter().any(|mark| mark as u32 == token)
}

/// Whether a token is a word, not a single character.
pub fn is_word(token: TokenId) -> bool {
    token >= CHARACTERS
}

/// The number of some word.
pub(crate) fn random_word(rng: &mut ChaCha8Rng) -> TokenId {
    rng.random_range(CHARACTERS..VOCABULARY as TokenId)
}

/// The tokens of a text.
///
/// A run of letters is one token, the hash of its lower-case form; an apostrophe joins. A
/// run of letters, digits and hyphens with a digit in it is a code, a token per character,
/// so that a value of any length is spelled and no list of known values is needed. Every
/// other visible character is a token of its own, and so is a blank line.
///
/// ```
/// let tokens = titans_lm::tokenize("The key of iron-gate is 4f-2.");
/// assert_eq!(tokens.len(), 12);
/// assert_eq!(tokens[7], '4' as u32);
/// ```
pub fn tokenize(text: &str) -> Vec<TokenId> {
    let mut tokens = Vec::new();
    each_token(text, |token, _| tokens.push(token));
    tokens
}

/// The same, with the text of each token.
fn each_token(text: &str, mut give: impl FnMut(TokenId, &str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            let (space, tail) = rest.split_at(rest.len() - rest.trim_start().len());
            if space.matches('\n').count() > 1 {
                give(PARAGRAPH, space);
            }
            rest = tail;
            continue;
        }
        if !first.is_alphanumeric() {
            let (mark, tail) = rest.split_at(first.len_utf8());
            give(character(first), mark);
            rest = tail;
            continue;
        }
        let code = run(rest, |char| char.is_alphanumeric() || char == '-');
        if code.contains(|char: char| char.is_ascii_digit()) {
            for (start, char) in code.char_indices() {
                give(character(char), &code[start..start + char.len_utf8()]);
            }
            rest = &rest[code.len()..];
            continue;
        }
        let word = run(rest, |char| {
            char.is_alphabetic() || matches!(char, '\'' | '\u{2019}')
        });
        give(word_id(word), word);
        rest = &rest[word.len()..];
    }
}

/// The longest beginning of these characters that ends with a letter or digit.
fn run(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|char| !belongs(char)).unwrap_or(text.len());
    text[..end].trim_end_matches(|char: char| !char.is_alphanumeric())
}

fn character(char: char) -> TokenId {
    let lower = char.to_ascii_lowercase();
    match u32::from(lower) {
        ascii if ascii < 128 => ascii,
        other => 128 + other % 128,
    }
}

/// FNV-1a over the lower-case letters.
fn word_id(word: &str) -> TokenId {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in word.to_lowercase().replace('\u{2019}', "'").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of FNV are its weakest.
    CHARACTERS + ((hash >> 16) % (VOCABULARY as u64 - u64::from(CHARACTERS))) as u32
}

/// What the words of some texts look like, to print answers. Two words may share a number;
/// the first one seen is printed.
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    words: HashMap<TokenId, String>,
}

impl Lexicon {
    /// Learns the words of a text.
    pub fn learn(&mut self, text: &str) {
        each_token(text, |token, word| {
            if is_word(token) && !self.words.contains_key(&token) {
                self.words.insert(token, word.to_owned());
            }
        });
    }

    /// Tokens as text: characters of a code joined, words apart; `?` for a number that no
    /// text has.
    pub fn text(&self, tokens: &[TokenId]) -> String {
        let mut text = String::new();
        for token in tokens {
            match is_word(*token) {
                true => {
                    if !text.is_empty() {
                        text.push(' ');
                    }
                    text.push_str(self.words.get(token).map_or("?", String::as_str));
                }
                false => text.push(char::from_u32(*token).unwrap_or('?')),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        each_token(text, |_, piece| pieces.push(piece.to_owned()));
        pieces
    }

    #[test]
    fn words_codes_and_marks() {
        assert_eq!(
            pieces("Don't go, iron-gate!").join("|"),
            "Don't|go|,|iron|-|gate|!"
        );
        assert_eq!(pieces("is: 70-A4.").join("|"), "is|:|7|0|-|A|4|.");
        assert_eq!(pieces("abcd-0e-ffff").join(""), "abcd-0e-ffff");
        assert_eq!(pieces("abcd-0e-ffff").len(), 12);
        assert_eq!(pieces(" \n").len(), 0);
        assert_eq!(tokenize("a\r\n\r\nb")[1], PARAGRAPH);
    }

    #[test]
    fn case_and_apostrophe_do_not_matter_and_a_lexicon_reads_back() {
        assert_eq!(
            tokenize("Iron IRON iron")
                .iter()
                .filter(|t| **t == tokenize("iron")[0])
                .count(),
            3
        );
        assert_eq!(tokenize("don\u{2019}t"), tokenize("don't"));
        let mut lexicon = Lexicon::default();
        lexicon.learn("Marlow left on 3 May.");
        assert_eq!(lexicon.text(&tokenize("marlow")), "Marlow");
        assert_eq!(lexicon.text(&tokenize("4F-77")), "4f-77");
        assert_eq!(lexicon.text(&tokenize("Kurtz")), "?");
    }

    #[test]
    fn every_number_is_in_the_vocabulary() {
        for token in tokenize("\u{e9}t\u{e9} \u{2014} na\u{ef}ve 5\u{bd} zzz") {
            assert!((token as usize) < VOCABULARY);
        }
    }
}
