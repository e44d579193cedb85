//! Lengths of texts, read and written with the suffixes Ki and Mi.

/// A number of tokens with the suffix `Ki` or `Mi` or none.
pub fn parse_tokens(text: &str) -> Result<usize, String> {
    let (digits, unit) = if let Some(digits) = text.strip_suffix("Ki") {
        (digits, 1 << 10)
    } else if let Some(digits) = text.strip_suffix("Mi") {
        (digits, 1 << 20)
    } else {
        (text, 1)
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "expected a number of tokens like 65536, 64Ki or 2Mi".to_owned())?;
    match number.checked_mul(unit) {
        None => Err("that is more tokens than this machine can count".to_owned()),
        Some(0) => Err("a text has at least 1 token".to_owned()),
        Some(tokens) => Ok(tokens),
    }
}

/// `tokens` with the largest suffix that divides it.
pub fn tokens_text(tokens: usize) -> String {
    for (unit, suffix) in [(1 << 20, "Mi"), (1 << 10, "Ki")] {
        if tokens > 0 && tokens.is_multiple_of(unit) {
            return format!("{}{suffix}", tokens / unit);
        }
    }
    tokens.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_back() {
        for (text, tokens) in [("64Ki", 65_536), ("2Mi", 2_097_152), ("1000", 1000)] {
            assert_eq!(parse_tokens(text), Ok(tokens));
            assert_eq!(tokens_text(tokens), text);
        }
        for text in ["", "0", "Ki", "-1", "1.5Mi", "99999999999999Mi", "0Ki"] {
            assert!(parse_tokens(text).is_err(), "{text}");
        }
    }
}
