//! The losses of a training run as an SVG, steps to the right, log of the loss upwards.

use std::fmt::Write;

/// Step, recall loss, gate loss.
pub(crate) type Point = (u64, f32, f32);

const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 320.0;
const LEFT: f32 = 60.0;
const TOP: f32 = 40.0;
/// Losses that the picture shows.
const LOWEST: f32 = 1e-3;
const HIGHEST: f32 = 30.0;

/// Points of a log.
pub(crate) fn read(log: &str) -> Vec<Point> {
    log.lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split(',');
            let step = cells.next()?.parse().ok()?;
            Some((
                step,
                cells.next()?.parse().ok()?,
                cells.next()?.parse().ok()?,
            ))
        })
        .collect()
}

/// One loss of a point.
type Loss = fn(&Point) -> f32;

pub(crate) fn svg(points: &[Point]) -> String {
    let last = points.last().map_or(1, |point| point.0).max(1) as f32;
    let x = |step: f32| LEFT + step / last * (WIDTH - LEFT - 20.0);
    let y = |loss: f32| {
        let share = (loss.clamp(LOWEST, HIGHEST) / LOWEST).ln() / (HIGHEST / LOWEST).ln();
        HEIGHT - 40.0 - share * (HEIGHT - 40.0 - TOP)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">Loss by step, mean of 10 steps</text>\n"
    );
    for loss in [0.001, 0.01, 0.1, 1.0, 10.0] {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{loss}</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            y(loss) + 4.0,
            at = y(loss),
        );
    }
    let curves: [(&str, &str, Loss); 2] = [
        ("recall", "#1f77b4", |point| point.1),
        ("write gate", "#d62728", |point| point.2),
    ];
    for (index, (name, colour, loss)) in curves.into_iter().enumerate() {
        let line: Vec<String> = points
            .chunks(10)
            .map(|group| {
                let mean = group.iter().map(loss).sum::<f32>() / group.len() as f32;
                format!("{:.1},{:.1}", x(group[0].0 as f32), y(mean))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\
             <text x=\"{}\" y=\"22\" fill=\"{colour}\">{name}</text>",
            line.join(" "),
            460 + 110 * index
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\">0</text><text x=\"{}\" y=\"{0}\" text-anchor=\"end\">{last} steps</text>\n</svg>",
        HEIGHT - 16.0,
        WIDTH - 20.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_back_and_drawn() {
        let points = read("step,a,b\n1,8.0,2.5,0.1\n2,0.5,0.25,0.9\n");
        assert_eq!(points, [(1, 8.0, 2.5), (2, 0.5, 0.25)]);
        let drawn = svg(&points);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(drawn.ends_with("</svg>\n") && drawn.contains("2 steps"));
    }
}
