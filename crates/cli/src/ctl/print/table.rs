//! The table format: a box with a header of centred capitals and rows that lean to the right.

/// Draws a table. Each row has as many cells as the header.
pub fn draw(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|title| title.to_uppercase()).collect();
    let width_of = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
    let rule = |left: &str, between: &str, right: &str| {
        let dashes: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", dashes.join(between))
    };
    let line = |cells: &[String], place: fn(&str, usize) -> String| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| place(cell, *width)).collect();
        format!("│ {} │\n", cells.join(" │ "))
    };

    let mut table = rule("┌", "┬", "┐");
    table.push_str(&line(&header, |cell, width| format!("{cell:^width$}")));
    if rows.is_empty() {
        table.push_str(&rule("└", "┴", "┘"));
        return table;
    }
    table.push_str(&rule("├", "┼", "┤"));
    for row in rows {
        table.push_str(&line(row, |cell, width| format!("{cell:>width$}")));
    }
    table.push_str(&rule("└", "┴", "┘"));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["127.0.0.1:1".to_owned(), "5".to_owned()], vec!["a:1".to_owned(), "é".to_owned()]];
        let expected = "\
┌─────────────┬──────┐
│  ENDPOINT   │ HASH │
├─────────────┼──────┤
│ 127.0.0.1:1 │    5 │
│         a:1 │    é │
└─────────────┴──────┘
";
        assert_eq!(draw(&["endpoint", "hash"], &rows), expected);
    }
}
