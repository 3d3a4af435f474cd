//! The page `/runbook`: docs/runbook.md, which warnings link to. It is part of the program, since
//! an operator at night may reach no other server.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::code::escaped;
use super::frame::{Here, Page};
use crate::http::responses::page;
use crate::http::state::AppState;

const TEXT: &str = include_str!("../../../docs/runbook.md");

#[derive(Template)]
#[template(path = "runbook.html")]
struct Runbook {
    page: Page,
    titles: Vec<&'static str>,
    text: String,
}

/// Responds with the runbook.
pub(crate) async fn show(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let shown = Runbook {
        page: state.page(Here::Runbook, &headers),
        titles: titles().collect(),
        text: html(TEXT),
    };
    page(StatusCode::OK, shown.render())
}

fn titles() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter_map(|line| line.strip_prefix("## "))
}

/// Renders the Markdown that the runbook uses: headings, paragraphs, code, emphasis and links. Its
/// parts are separated by empty lines.
fn html(markdown: &str) -> String {
    let mut html = String::new();
    for part in markdown
        .split("\n\n")
        .skip(1)
        .map(|part| part.trim_matches('\n'))
    {
        let done = if let Some(title) = part.strip_prefix("## ") {
            write!(html, "<h2 id=\"{}\">{title}</h2>", title.to_lowercase())
        } else if part.starts_with("    ") {
            write!(
                html,
                "<pre>{}</pre>",
                escaped(&part.replace("\n    ", "\n")[4..])
            )
        } else {
            write!(html, "<p>{}</p>", inline(part))
        };
        done.expect("a String takes it");
    }
    html
}

/// Renders code, emphasis and links; a link to another document is its text.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (at, piece) in text.split('`').enumerate() {
        if at % 2 == 1 {
            html += &format!("<code>{}</code>", escaped(piece));
            continue;
        }
        for (at, piece) in piece.split('*').enumerate() {
            let linked = linked(&escaped(piece));
            html += &if at % 2 == 1 {
                format!("<em>{linked}</em>")
            } else {
                linked
            };
        }
    }
    html
}

fn linked(text: &str) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some(((name, target), next)) = after
            .split_once(')')
            .and_then(|(link, next)| Some((link.split_once("](")?, next)))
        else {
            break;
        };
        html += before;
        html += &match target.strip_prefix('#') {
            Some(anchor) => format!("<a href=\"#{anchor}\">{name}</a>"),
            None => name.to_owned(),
        };
        rest = next;
    }
    html + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Outbox;
    use crate::http::ui::advice::advised;
    use crate::relay::{Monitor, ProblemKind, Role};

    #[test]
    fn each_problem_has_an_entry_that_exists() {
        let monitor = Monitor::new(&Outbox::default());
        monitor.became(Role::Leading, "leading");
        for kind in [
            ProblemKind::Start,
            ProblemKind::Locked,
            ProblemKind::Stranger,
            ProblemKind::Pause,
            ProblemKind::Delete,
            ProblemKind::Park,
            ProblemKind::Trigger,
            ProblemKind::Unannounced,
        ] {
            monitor.raise(kind, &format!("{kind:?}"));
        }
        let relay = monitor.snapshot();
        let others = [
            "Kafka is unreachable",
            "it holds an old snapshot",
            "stuck: 3 rows",
        ];
        let words = relay
            .problems
            .iter()
            .map(|it| it.words.as_str())
            .chain(others);
        for words in words {
            let advice = advised(&relay, words);
            assert!(
                titles().any(|it| it == advice.title),
                "{words}: {}",
                advice.title
            );
        }
        let text = html(TEXT);
        for title in titles() {
            assert!(
                text.contains(&format!("<h2 id=\"{}\">", title.to_lowercase())),
                "{title}"
            );
        }
        for broken in ["](", "`", "##"] {
            assert!(!text.contains(broken), "{broken} in {text}");
        }
        assert!(
            text.contains("<a href=\"#doorbellswept\">DoorbellSwept</a>"),
            "{text}"
        );
    }
}
