//! Latency, state and throughput against length, log x, as one SVG with three panels.

use std::fmt::Write;

use titans_needle::tokens_text;

use crate::row::Row;

const PANEL: f64 = 340.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
/// Numbers under the curves stand at least so far apart.
const ROOM_OF_A_LENGTH: f64 = 26.0;
const COLOURS: [&str; 6] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b",
];

/// A quantity of a row, where it has been measured.
type Quantity = fn(&Row) -> Option<f64>;

pub(crate) fn costs(rows: &[Row]) -> String {
    let mut models: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| !row.model.contains(' ')) {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    let panels: [(&str, Quantity); 3] = [
        ("first token, ms (p50)", |row| row.first_token_ms(0.5)),
        ("state, bytes", |row| Some(row.state_bytes() as f64)),
        ("tokens per second", Row::tokens_per_second),
    ];
    let width = 3.0 * PANEL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, (title, value)) in panels.into_iter().enumerate() {
        let series: Vec<Vec<(f64, f64)>> = models
            .iter()
            .map(|model| mean_by_length(rows, model, value))
            .collect();
        panel(&mut svg, index as f64 * PANEL, title, &series);
    }
    for (index, model) in models.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{}\">{model}</text>",
            LEFT + 130.0 * index as f64,
            HEIGHT - 8.0,
            COLOURS[index % COLOURS.len()]
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Mean over the tasks of a model, ascending by length.
fn mean_by_length(rows: &[Row], model: &str, value: Quantity) -> Vec<(f64, f64)> {
    let of_model = || rows.iter().filter(|row| row.model == model);
    let mut lengths: Vec<usize> = of_model().map(|row| row.tokens).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
        .into_iter()
        .filter_map(|length| {
            let values: Vec<f64> = of_model()
                .filter(|row| row.tokens == length)
                .filter_map(value)
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (!values.is_empty()).then_some((length as f64, mean))
        })
        .collect()
}

fn panel(svg: &mut String, left: f64, title: &str, series: &[Vec<(f64, f64)>]) {
    let all: Vec<(f64, f64)> = series
        .iter()
        .flatten()
        .copied()
        .filter(|p| p.1 > 0.0)
        .collect();
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = all.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = all.iter().map(of).fold(0.0, f64::max);
        (low / 1.3, high * 1.3)
    };
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"20\" font-size=\"13\">{title}</text>",
        left + LEFT
    );
    if all.is_empty() {
        return;
    }
    let (x_bounds, y_bounds) = (bounds(|p| p.0), bounds(|p| p.1));
    let share = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
    let x = |value: f64| left + LEFT + share(value, x_bounds) * (PANEL - LEFT - 20.0);
    let y = |value: f64| HEIGHT - 60.0 - share(value, y_bounds) * (HEIGHT - 100.0);
    for (index, points) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line: Vec<String> = points
            .iter()
            .filter(|point| point.1 > 0.0)
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        let shown: Vec<&(f64, f64)> = points.iter().filter(|point| point.1 > 0.0).collect();
        for (place, point) in shown.iter().enumerate() {
            let (x, y) = (x(point.0), y(point.1));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
            // The curve tells what lies between.
            if place == 0 || place + 1 == shown.len() {
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\" \
                     text-anchor=\"middle\">{}</text>",
                    y - 7.0,
                    short(point.1)
                );
            }
        }
    }
    let mut lengths: Vec<f64> = all.iter().map(|point| point.0).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    let mut last = f64::NEG_INFINITY;
    for length in lengths {
        if x(length) - last >= ROOM_OF_A_LENGTH {
            last = x(length);
            let _ = writeln!(
                svg,
                "<text x=\"{last:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 40.0,
                tokens_text(length as usize)
            );
        }
    }
}

/// Three digits and a prefix.
fn short(value: f64) -> String {
    let (scaled, prefix) = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(unit, _)| value >= *unit)
        .map_or((value, ""), |(unit, prefix)| (value / unit, prefix));
    let places = match scaled {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.places$}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        let numbers = [1.179, 14.5, 352_108.0, 989_641.0, 4_294_967_296.0].map(short);
        assert_eq!(numbers, ["1.18", "14.5", "352k", "990k", "4.29G"]);
    }
}
