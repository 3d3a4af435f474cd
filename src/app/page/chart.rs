//! Histories as SVG. Not by plotters, as the benchmark's report: its drawings carry style sheets, which the page's Content-Security-Policy refuses, and
//! their letters are too small on a phone. Here the colours are classes of the page's own style sheet, and the words stand beside the drawing.

use std::fmt::Write as _;

use super::history::KEPT;

const HEIGHT: f64 = 60.0;

/// Lines over time, the newest at the right. `None` is a gap.
pub(super) fn lines(label: &str, series: &[Vec<Option<f64>>]) -> String {
    let top = highest(series).max(1e-9);
    let mut svg = open(label, HEIGHT);
    for (index, values) in series.iter().enumerate() {
        let start = KEPT.saturating_sub(values.len());
        let mut is_down = false;
        let mut path = String::new();
        for (x, value) in (start..).zip(values) {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let y = HEIGHT - 2.0 - value / top * (HEIGHT - 4.0);
            let verb = if is_down { 'L' } else { 'M' };
            write!(path, "{verb}{x} {y:.1}").expect("a String takes it");
            if !is_down {
                // A point alone would not be seen.
                write!(path, "h1").expect("a String takes it");
            }
            is_down = true;
        }
        write!(svg, "<path class=\"line s{index}\" d=\"{path}\"/>").expect("a String takes it");
    }
    svg + "</svg>"
}

/// A strip of states over time; each is the name of a class.
pub(super) fn strip(label: &str, states: &[&'static str]) -> String {
    let mut svg = open(label, 14.0);
    let mut x = KEPT.saturating_sub(states.len());
    for same in states.chunk_by(|one, other| one == other) {
        let (state, width) = (same[0], same.len());
        write!(
            svg,
            "<rect class=\"{state}\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"14\"/>"
        )
        .expect("a String takes it");
        x += width;
    }
    svg + "</svg>"
}

/// The highest of all.
pub(super) fn highest(series: &[Vec<Option<f64>>]) -> f64 {
    let values = series.iter().flatten().flatten();
    values.fold(0.0, |highest, value| value.max(highest))
}

fn open(label: &str, height: f64) -> String {
    format!(
        "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {KEPT} {height}\" preserveAspectRatio=\"none\">"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_the_right_and_breaks_where_nothing_is_known() {
        let svg = lines("rate", &[vec![Some(0.0), Some(10.0), None, Some(5.0)]]);
        assert!(
            svg.contains("d=\"M296 58.0h1L297 2.0M299 30.0h1\""),
            "{svg}"
        );
        assert!(svg.contains("aria-label=\"rate\""));
        assert!(lines("empty", &[Vec::new()]).contains("d=\"\""));
    }

    #[test]
    fn equal_states_are_one_part_of_the_strip() {
        let svg = strip("bell", &["asleep", "asleep", "awake"]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(
            svg.contains("class=\"asleep\" x=\"297\" y=\"0\" width=\"2\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"awake\" x=\"299\" y=\"0\" width=\"1\""),
            "{svg}"
        );
    }
}
