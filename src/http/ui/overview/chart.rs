//! Histories as SVG. Drawings of the crate `plotters` carry styles of their own, which the page's
//! Content-Security-Policy refuses, and their letters are too small on a phone. Here colours are
//! classes of the page's style sheet, and labels are HTML beside the drawing.

use std::fmt::Write as _;

use super::words::{clock_of_day, figure, grouped};

/// A value for each second, the oldest first. `None` is a gap.
type Series = Vec<Option<f64>>;

/// One drawing with its axes.
pub(crate) struct Chart {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) svg: String,
    /// Labels of the axis of values, from the top.
    pub(crate) ticks: [String; 3],
    /// Labels of the axis of time.
    pub(crate) times: [String; 3],
    /// The highest value, and when it was.
    pub(crate) peak: String,
    /// Whether marks at the top stand for values off the scale.
    pub(crate) is_cut: bool,
    /// Names of the series, for the script and for the key.
    pub(crate) names: &'static [&'static str],
    /// Values for the script: seconds by commas, series by semicolons.
    pub(crate) values: String,
    /// Seconds since 1970 of the last value.
    pub(crate) end: f64,
    /// Said instead of the drawing where no value is known.
    pub(crate) empty: Option<&'static str>,
}

const HEIGHT: f64 = 100.0;
/// How far the highest value may rise above the others before it no longer sets the scale.
const OUTLIER: f64 = 4.0;
/// Values above zero from which on one can be told to be an outlier.
const ENOUGH: usize = 5;

impl Chart {
    /// Draws lines over the times of the values, the newest at the right.
    pub(crate) fn of(
        id: &'static str,
        (title, unit, empty): (&'static str, &'static str, &'static str),
        names: &'static [&'static str],
        times: &[f64],
        series: &[Series],
    ) -> Self {
        let top = scale(series);
        let highest = highest(series);
        let (first, last) = (times.first().copied(), times.last().copied());
        let (first, last) = (first.unwrap_or(0.0), last.unwrap_or(0.0));
        let peak = match highest {
            Some((value, _)) if value <= 0.0 => "always 0".into(),
            Some((value, at)) => {
                let at = times.get(at).map_or(String::new(), |at| clock_of_day(*at));
                let cut = if value > top { "off the scale, " } else { "" };
                format!("{cut}highest {} at {at}", figure(value))
            }
            None => String::new(),
        };
        let label = format!(
            "{title}, {unit}, from {} to {}: {peak}",
            clock_of_day(first),
            clock_of_day(last)
        );
        let value = |value: &Option<f64>| value.map_or(String::new(), |it| format!("{it:.2}"));
        let joined = |one: &Series| one.iter().map(value).collect::<Vec<_>>().join(",");
        Self {
            id,
            title,
            unit,
            svg: drawn(&label, top, series),
            ticks: [top, top / 2.0, 0.0].map(tick),
            times: match times {
                [] => Default::default(),
                _ => axis(first, last),
            },
            peak,
            is_cut: highest.is_some_and(|(value, _)| value > top),
            names,
            values: series.iter().map(joined).collect::<Vec<_>>().join(";"),
            end: last,
            empty: highest.is_none().then_some(empty),
        }
    }
}

fn drawn(label: &str, top: f64, series: &[Series]) -> String {
    let width = series.iter().map(Vec::len).max().unwrap_or(0).max(2) - 1;
    let mut svg = open(label, width, HEIGHT);
    write!(
        svg,
        "<path class=\"grid\" d=\"M0 1h{width}M0 50h{width}M0 99h{width}\"/>"
    )
    .expect("a String takes it");
    for (index, values) in series.iter().enumerate() {
        let (mut is_down, mut path, mut over) = (false, String::new(), String::new());
        for (x, value) in values.iter().enumerate() {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let y = HEIGHT - 1.0 - (value / top).min(1.0) * (HEIGHT - 2.0);
            let verb = if is_down { 'L' } else { 'M' };
            write!(path, "{verb}{x} {y:.1}").expect("a String takes it");
            if !is_down {
                // A single point would be invisible.
                path += "h0";
            }
            if *value > top {
                write!(over, "M{x} 0v12").expect("a String takes it");
            }
            is_down = true;
        }
        write!(svg, "<path class=\"line s{index}\" d=\"{path}\"/>").expect("a String takes it");
        if !over.is_empty() {
            write!(svg, "<path class=\"over\" d=\"{over}\"/>").expect("a String takes it");
        }
    }
    svg + "</svg>"
}

/// Returns the top of the scale: a round number above the highest value, or above nine of ten
/// where single ones rise far above these, which would flatten all the others.
fn scale(series: &[Series]) -> f64 {
    let mut values: Vec<f64> = series
        .iter()
        .flatten()
        .flatten()
        .copied()
        .filter(|it| *it > 0.0)
        .collect();
    values.sort_by(f64::total_cmp);
    let highest = values.last().copied().unwrap_or(2.0);
    let most = values
        .get(values.len() * 9 / 10)
        .copied()
        .unwrap_or(highest);
    let is_outlier = values.len() >= ENOUGH && highest > most * OUTLIER;
    round_up(if is_outlier { most * 1.5 } else { highest })
}

/// Labels begin, middle and end of the axis of time; a time that is one second has one label.
fn axis(first: f64, last: f64) -> [String; 3] {
    let labels = [first, f64::midpoint(first, last), last].map(clock_of_day);
    match labels {
        [first, _, last] if first == last => [String::new(), String::new(), last],
        labels => labels,
    }
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(0.01).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|it| *it >= value * 0.999)
        .unwrap_or(value)
}

/// Returns the highest value and its place.
fn highest(series: &[Series]) -> Option<(f64, usize)> {
    let known = |values: &Series| {
        let known = values
            .iter()
            .enumerate()
            .filter_map(|(at, it)| Some(((*it)?, at)));
        known.max_by(|one, other| one.0.total_cmp(&other.0))
    };
    series
        .iter()
        .filter_map(known)
        .max_by(|one, other| one.0.total_cmp(&other.0))
}

/// Shortens large numbers.
fn tick(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", figure(value / 1e6)),
        1e4.. => format!("{} k", figure(value / 1e3)),
        1e3.. => grouped(value as u64),
        _ if value == value.trunc() => format!("{value:.0}"),
        _ => format!("{value:.2}").trim_end_matches('0').to_owned(),
    }
}

/// Draws a strip of states over time, each named by its class.
pub(crate) fn strip(label: &str, states: &[&'static str]) -> String {
    let mut svg = open(label, states.len().max(1), 6.0);
    let mut x = 0;
    for same in states.chunk_by(|one, other| one == other) {
        let (state, width) = (same[0], same.len());
        write!(
            svg,
            "<rect class=\"{state}\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"6\"/>"
        )
        .expect("a String takes it");
        x += width;
    }
    svg + "</svg>"
}

fn open(label: &str, width: usize, height: f64) -> String {
    format!(
        "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\">"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>]) -> Chart {
        let times: Vec<f64> = (0..values.len()).map(|at| at as f64).collect();
        let about = ("Rate", "rows/s", "nothing yet");
        Chart::of("rate", about, &["rate"], &times, &[values.to_vec()])
    }

    #[test]
    fn a_line_is_as_wide_as_its_time_and_breaks_where_nothing_is_known() {
        let it = chart(&[Some(0.0), Some(10.0), None, Some(5.0)]);
        assert!(it.svg.contains("viewBox=\"0 0 3 100\""), "{}", it.svg);
        assert!(
            it.svg.contains("d=\"M0 99.0h0L1 1.0M3 50.0h0\""),
            "{}",
            it.svg
        );
        assert_eq!(it.ticks, ["10", "5", "0"]);
        assert_eq!(it.times, ["00:00:00", "00:00:01", "00:00:03"]);
        assert_eq!(chart(&[Some(1.0)]).times, ["", "", "00:00:00"]);
        assert_eq!(it.values, "0.00,10.00,,5.00");
        assert_eq!(it.peak, "highest 10 at 00:00:01");
        assert_eq!(it.empty, None);
        assert_eq!(chart(&[]).empty, Some("nothing yet"));
        assert_eq!(chart(&[Some(0.0)]).peak, "always 0");
    }

    #[test]
    fn one_high_value_does_not_flatten_the_others() {
        let mut values = vec![Some(90.0); 50];
        values[7] = Some(374_000.0);
        let it = chart(&values);
        assert_eq!(it.ticks, ["200", "100", "0"]);
        assert!(
            it.svg.contains("class=\"over\" d=\"M7 0v12\""),
            "{}",
            it.svg
        );
        assert_eq!(it.peak, "off the scale, highest 374,000 at 00:00:07");
        assert!(it.is_cut);
        // Half of the values are no outliers.
        let half = [vec![Some(90.0); 25], vec![Some(374_000.0); 25]].concat();
        assert_eq!(chart(&half).ticks[0], "500 k");
    }

    #[test]
    fn equal_states_are_one_part_of_the_strip() {
        let svg = strip("bell", &["asleep", "asleep", "awake"]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(
            svg.contains("class=\"asleep\" x=\"0\" y=\"0\" width=\"2\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"awake\" x=\"2\" y=\"0\" width=\"1\""),
            "{svg}"
        );
    }
}
