//! What every part gives: sentences, tables and plots, and how they are shown.
//!
//! | file | what |
//! |---|---|
//! | `figures` | medians, percentiles, and how figures are written |
//! | `rounds` | runs of several kinds, round by round |
//! | `machine` | what it ran on |
//! | `plot` | drawings |
//!
//! The page is `templates/report.html`.

pub(crate) mod figures;
mod machine;
pub(crate) mod plot;
pub(crate) mod rounds;

use askama::Template;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};
use serde_json::{Map, Value};

pub(crate) use machine::Machine;

/// What a part gives.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    title: &'static str,
    /// What was measured, in a sentence or two.
    what: String,
    json: Value,
    tables: Vec<Table>,
    /// What the figures do not say.
    notes: Vec<String>,
    /// Each with the name of its file, where it gets one.
    plots: Vec<(&'static str, String)>,
    /// The most important figures, in part of a line.
    conclusion: Option<String>,
}

impl Measured {
    pub(crate) fn new(title: &'static str, what: impl Into<String>, json: Value) -> Self {
        Self {
            title,
            what: what.into(),
            json,
            ..Self::default()
        }
    }

    pub(crate) fn table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn plot(mut self, name: &'static str, svg: String) -> Self {
        self.plots.push((name, svg));
        self
    }

    pub(crate) fn concluding(mut self, conclusion: impl Into<Option<String>>) -> Self {
        self.conclusion = conclusion.into();
        self
    }

    /// Takes over what belongs to this part and was measured by itself.
    pub(crate) fn with(mut self, key: &str, other: Self) -> Self {
        self.json[key] = other.json;
        self.tables.extend(other.tables);
        self.notes.extend(other.notes);
        self.plots.extend(other.plots);
        self
    }
}

/// Returns the name that a value has on the command line.
pub(crate) fn value_name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

/// All that was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    head: Map<String, Value>,
    machine: String,
    parts: Vec<(String, Measured)>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    machine: &'a str,
    parts: Vec<&'a Measured>,
}

impl Results {
    /// Begins with what it runs on and what was asked for.
    pub(crate) fn begin<const N: usize>(&mut self, machine: String, head: [(&str, Value); N]) {
        let head = head.into_iter().map(|(key, value)| (key.to_owned(), value));
        (self.machine, self.head) = (machine, head.collect());
    }

    pub(crate) fn push(&mut self, part: &impl ValueEnum, measured: Measured) {
        self.parts.push((value_name(part), measured));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn parts(&self) -> impl Iterator<Item = &Measured> {
        self.parts.iter().map(|(_, part)| part)
    }

    pub(crate) fn plots(&self) -> impl Iterator<Item = &(&'static str, String)> {
        self.parts().flat_map(|part| &part.plots)
    }

    pub(crate) fn json(&self) -> Value {
        let parts = self.parts.iter();
        let parts = parts.map(|(name, part)| (name.clone(), part.json.clone()));
        Value::Object(self.head.clone().into_iter().chain(parts).collect())
    }

    /// The most important figures in one line.
    pub(crate) fn conclusion(&self) -> String {
        let all = self.parts().filter_map(|part| part.conclusion.as_deref());
        all.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for part in self.parts() {
            text += &format!("\n{}: {}\n", part.title, part.what);
            text.extend(part.tables.iter().map(Table::text));
            text.extend(part.notes.iter().map(|note| format!("  {note}\n")));
        }
        text + "\n"
    }

    /// As Markdown, with the plots in files beside it.
    pub(crate) fn markdown(&self) -> String {
        let mut page = format!("{}\n", self.machine);
        for part in self.parts() {
            let title = part.title;
            page += &format!("\n## {title}\n\n{}\n", part.what);
            page.extend(part.tables.iter().map(Table::markdown));
            page.extend(part.notes.iter().map(|note| format!("\n{note}\n")));
            let plot = |(name, _): &_| format!("\n![{title}]({name}.svg)\n");
            page.extend(part.plots.iter().map(plot));
        }
        page
    }

    /// As a page that loads nothing.
    pub(crate) fn html(&self) -> askama::Result<String> {
        let (machine, parts) = (self.machine.as_str(), self.parts().collect());
        Page { machine, parts }.render()
    }
}

/// Figures in rows: the first column names them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns: `name | name | name`.
    pub(crate) fn new(columns: &str) -> Self {
        let columns = columns.split('|').map(|name| name.trim().to_owned());
        Self {
            head: columns.collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        let row = [name.into()].into_iter().chain(cells);
        self.rows.push(row.collect());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("\n{}{rule}{rows}", line(&self.head))
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
        grid.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_everything_in_it_and_nothing_from_elsewhere() {
        let mut table = Table::new("payload | rows/s");
        table.row("<100 B>", ["1".to_owned()]);
        let part = Measured::new("drain", "a backlog & its end", Value::Null)
            .table(table)
            .note("one run")
            .plot("drain", "<svg></svg>".into());
        let results = Results {
            machine: "2 cores".into(),
            parts: vec![("drain".into(), part)],
            ..Results::default()
        };
        let page = results.html().expect("a page");
        for part in [
            "2 cores",
            "<h2>drain</h2>",
            "a backlog &#38; its end",
            "<td>&#60;100 B&#62;</td>",
            "<li>one run</li>",
            "<figure><svg>",
            "prefers-color-scheme: dark",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        for foreign in ["http", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign} in {page}");
        }
    }
}
