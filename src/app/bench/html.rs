//! The report: one page that needs nothing from elsewhere.

use super::plot::escaped;
use super::report::{Section, Table};

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #ffffff; --ink: #222222; --line: #d4d4d4; --soft: #5c5c5c }
@media (prefers-color-scheme: dark) { :root { --ground: #16181c; --ink: #e8e8e8; --line: #4a4a4a; --soft: #a8a8a8 } }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
.table { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } li, .machine { color: var(--soft) } svg { max-width: 100%; height: auto }
";

/// The page.
pub(super) fn page(machine: &str, sections: &[Section]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>doorbell bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>doorbell bench</h1>\n<p class=\"machine\">{}</p>\n",
        escaped(machine)
    );
    for section in sections {
        page += &format!(
            "<h2>{}</h2>\n<p>{}</p>\n",
            escaped(section.title),
            escaped(&section.what)
        );
        page.extend(section.tables.iter().map(table));
        page.extend(
            section
                .plots
                .iter()
                .map(|plot| format!("<figure>{plot}</figure>\n")),
        );
        if !section.notes.is_empty() {
            let items = section.notes.iter();
            let items: String = items
                .map(|note| format!("<li>{}</li>", escaped(note)))
                .collect();
            page += &format!("<ul>{items}</ul>\n");
        }
    }
    page + "</body>\n</html>\n"
}

fn table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<div class=\"table\"><table>\n<thead>{}</thead>\n<tbody>{rows}</tbody></table></div>\n",
        row(&table.head, "th")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_everything_in_it_and_nothing_from_elsewhere() {
        let mut figures = Table::new(["payload", "rows/s"]);
        figures.push(["<100 B>", "1"]);
        let section = Section {
            title: "drain",
            what: "a backlog & its end".into(),
            tables: vec![figures],
            notes: vec!["one run".into()],
            plots: vec!["<svg></svg>".into()],
        };
        let page = page("2 cores", &[section]);
        for part in [
            "2 cores",
            "<h2>drain</h2>",
            "a backlog &amp; its end",
            "<td>&lt;100 B&gt;</td>",
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
