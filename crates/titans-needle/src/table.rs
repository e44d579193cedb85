//! Tables that are Markdown and also read well in a terminal.

use std::fmt::Write;

/// The first line is the header; all are as long as it is.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().map(|line| line[column].len());
            cells.max().unwrap_or(0)
        })
        .collect();
    let mut table = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(table, "| {cell:<width$} ");
        }
        table.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(table, "| {} ", "-".repeat(*width));
            }
            table.push_str("|\n");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = markdown(&[line(["a", "long"]), line(["bcd", "e"])]);
        assert_eq!(table, "| a   | long |\n| --- | ---- |\n| bcd | e    |\n");
        assert_eq!(markdown(&[]), "");
    }
}
