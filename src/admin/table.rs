//! Lists as people read them: columns as wide as their widest cell.

use std::fmt::Write;

/// Lines of a table under its headings. Names come from strangers, so what could steer a terminal
/// is shown as `?`.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut rows = rows;
    rows.insert(0, headings.map(str::to_owned));
    for cell in rows.iter_mut().flatten() {
        *cell = plain(cell);
    }
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text in which nothing can steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A span of time in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_stranger_cannot_steer_the_terminal() {
        let rows = vec![
            ["23001".to_owned(), "a\x1b[2J".to_owned()],
            ["7".to_owned(), "lâng name".to_owned()],
        ];
        let text = table(["PORT", "NAME"], rows);
        assert_eq!(text, "PORT   NAME\n23001  a?[2J\n7      lâng name\n");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (seconds, text) in [(59, "59s"), (61, "1m01s"), (3660, "1h01m"), (90_000, "1d01h")] {
            assert_eq!(span(seconds), text);
        }
    }
}
