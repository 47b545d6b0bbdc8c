//! A list for people: columns as wide as they must be.

/// A column's heading, and whether what is in it is numbers, which end below each other.
pub(super) enum Column {
    Words(&'static str),
    Numbers(&'static str),
}

/// The lines of a table, without space at their ends. Each row has as many cells as there are
/// columns.
pub(super) fn lines(columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let heading = |column: &Column| match column {
        Column::Words(text) | Column::Numbers(text) => (*text).to_owned(),
    };
    let head: Vec<String> = columns.iter().map(heading).collect();
    let all = || std::iter::once(&head).chain(rows);
    let cell = |row: &Vec<String>, at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns.len()).map(|at| all().map(|row| cell(row, at)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, column), width)| match column {
            Column::Words(_) => format!("{cell:width$}"),
            Column::Numbers(_) => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a", "10 KB", "x"], ["long name", "1 B", "because ü"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let columns = [Column::Words("name"), Column::Numbers("size"), Column::Words("why")];
        assert_eq!(
            lines(&columns, &rows),
            ["name        size  why", "a          10 KB  x", "long name    1 B  because ü"]
        );
        assert_eq!(lines(&columns, &[]), ["name  size  why"]);
    }
}
