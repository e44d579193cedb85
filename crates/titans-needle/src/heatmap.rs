//! Recall by length and depth, as an SVG: length to the right, depth downwards, red to green.

use std::fmt::Write;

use crate::{Hits, tokens_text};

const CELL_WIDTH: usize = 96;
const CELL_HEIGHT: usize = 26;
const LEFT: usize = 64;
const TOP: usize = 58;
const GAP: usize = 40;

/// Recall at one length and depth.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Which text.
    pub haystack: String,
    /// Its length in tokens.
    pub context_length: usize,
    /// Where the facts lie: 0 at the beginning of the text, 100 at its end.
    pub depth_percent: usize,
    /// The facts that were asked for there.
    pub counted: Hits,
}

/// One panel per haystack, side by side.
pub fn heatmap(title: &str, cells: &[Cell]) -> String {
    let mut haystacks: Vec<&str> = Vec::new();
    let mut lengths: Vec<usize> = Vec::new();
    let mut depths: Vec<usize> = Vec::new();
    for cell in cells {
        insert(&mut haystacks, cell.haystack.as_str());
        insert(&mut lengths, cell.context_length);
        insert(&mut depths, cell.depth_percent);
    }
    lengths.sort_unstable();
    depths.sort_unstable();
    let panel = LEFT + lengths.len() * CELL_WIDTH + GAP;
    let (width, height) = (
        (haystacks.len() * panel).max(420),
        TOP + depths.len() * CELL_HEIGHT + 62,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    for (index, haystack) in haystacks.iter().enumerate() {
        let left = index * panel + LEFT;
        let below = TOP + depths.len() * CELL_HEIGHT;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\">{}</text>",
            TOP - 10,
            escape(haystack)
        );
        for (row, depth) in depths.iter().enumerate() {
            let y = TOP + row * CELL_HEIGHT + 17;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{depth} %</text>",
                left - 8
            );
        }
        for (column, length) in lengths.iter().enumerate() {
            let x = left + column * CELL_WIDTH + CELL_WIDTH / 2;
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                below + 18,
                tokens_text(*length)
            );
        }
        for cell in cells.iter().filter(|cell| cell.haystack == *haystack) {
            let place = |list: &[usize], value| list.iter().position(|v| *v == value).unwrap_or(0);
            let x = left + place(&lengths, cell.context_length) * CELL_WIDTH;
            let y = TOP + place(&depths, cell.depth_percent) * CELL_HEIGHT;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL_WIDTH}\" height=\"{CELL_HEIGHT}\" fill=\"{}\" stroke=\"#ffffff\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{} of {}</text>",
                colour(cell.counted.rate()),
                x + CELL_WIDTH / 2,
                y + 17,
                cell.counted.hits,
                cell.counted.n
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" fill=\"#555555\">tokens; rows: depth of the needle in the text</text>",
            below + 42
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Red at 0, yellow in the middle, green at 1, light enough for black letters.
fn colour(rate: f64) -> String {
    let (red, green) = if rate < 0.5 {
        (240.0, 110.0 + 2.0 * rate * 110.0)
    } else {
        (
            240.0 - (rate - 0.5) * 2.0 * 130.0,
            220.0 - (rate - 0.5) * 2.0 * 15.0,
        )
    };
    format!("#{:02x}{:02x}78", red as u8, green as u8)
}

fn insert<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rectangle_per_cell_and_the_ends_of_the_scale() {
        let cell = |context_length, depth_percent, hits| Cell {
            haystack: "a <b>".to_owned(),
            context_length,
            depth_percent,
            counted: Hits { n: 4, hits },
        };
        let cells = [cell(65536, 0, 4), cell(65536, 100, 0), cell(1 << 20, 0, 2)];
        let svg = heatmap("title", &cells);
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("64Ki") && svg.contains("1Mi"));
        assert_eq!(
            (colour(0.0).as_str(), colour(1.0).as_str()),
            ("#f06e78", "#6ecd78")
        );
    }
}
