//! What every part gives: words, tables and plots, whatever they are shown in.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};

/// A part's results for people.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// The part's name.
    pub(super) title: &'static str,
    /// What was measured, in a sentence or two.
    pub(super) what: String,
    pub(super) tables: Vec<Table>,
    /// What the figures do not say.
    pub(super) notes: Vec<String>,
    /// Drawings as SVG.
    pub(super) plots: Vec<String>,
}

/// Figures in rows: the first column names them.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn push<T: Into<String>>(&mut self, row: impl IntoIterator<Item = T>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    fn text(&self) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(&self.head)
            .add_rows(&self.rows);
        for column in grid.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        grid.trim_fmt()
    }
}

/// Sections as a terminal shows them.
pub(super) fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        text += &format!("\n{}: {}\n", section.title, section.what);
        for table in &section.tables {
            text += &table.text();
            text.push('\n');
        }
        for note in &section.notes {
            text += &format!("  {note}\n");
        }
    }
    text
}
