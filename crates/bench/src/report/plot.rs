//! Plots as SVG: text that stands alone in a file or inline in a page, readable on light and on
//! dark ground.

use std::ops::Range;

use anyhow::ensure;
use askama::Template;

/// Where figures are drawn: between these x, and these y, as `templates/plot.svg` has them.
const ACROSS: (f64, f64) = (90.0, 720.0);
const DOWN: (f64, f64) = (320.0, 42.0);
/// From one entry of a legend to the next.
const ENTRY: f64 = 17.0;
/// Of the series, which also readers who do not see all colours can tell apart. The drawing has
/// another one for each on dark ground.
const SERIES: [&str; 6] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#6B6B6B",
];
const NO_FIGURES: &str = "a plot needs finite figures";

/// Figures with their names.
pub(crate) type Series<T> = Vec<(String, Vec<T>)>;

struct Axis<'a> {
    name: &'a str,
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
    /// From where to where it goes in the drawing.
    place: (f64, f64),
}

enum Mark {
    Line(Vec<(f64, f64)>),
    /// Left, right and height of each.
    Bars(Vec<(f64, f64, f64)>),
}

#[derive(Template)]
#[template(path = "plot.svg", escape = "html")]
struct Drawing<'a> {
    title: &'a str,
    x: Axis<'a>,
    y: Axis<'a>,
    is_line: bool,
    /// Each with its name, its colour, and where its entry in the legend is.
    marks: Vec<(String, &'static str, f64, Mark)>,
    left: f64,
}

/// Groups of bars, one bar of each series in each group. A figure that was not measured is NaN and
/// leaves its place empty.
pub(crate) fn bars(
    title: &str,
    unit: &str,
    groups: Vec<String>,
    series: Series<f64>,
) -> anyhow::Result<String> {
    let figures = series.iter().flat_map(|(_, figures)| figures);
    let highest = figures.copied().fold(0.0, f64::max);
    ensure!(!groups.is_empty() && highest.is_finite(), NO_FIGURES);
    let room = 1.0 - (series.len() as f64 * ENTRY + 10.0) / (DOWN.0 - DOWN.1);
    let y = Axis::linear(unit, DOWN, 0.0..highest.max(f64::MIN_POSITIVE) / room);
    let x = Axis {
        name: "",
        range: -0.5..groups.len() as f64 - 0.5,
        ticks: (0..).map(f64::from).zip(groups).collect(),
        place: ACROSS,
    };
    let width = 0.8 / series.len() as f64;
    let marks = series.into_iter().enumerate().map(|(index, (name, all))| {
        let measured = (0..).zip(all).filter(|(_, figure)| !figure.is_nan());
        let bar = |(group, figure): (i32, f64)| {
            let left = f64::from(group) - 0.4 + index as f64 * width;
            (left, left + width * 0.92, figure)
        };
        (name, Mark::Bars(measured.map(bar).collect()))
    });
    draw(title, x, y, marks.collect())
}

/// Points (x, y) with ascending x.
pub(crate) fn lines(
    title: &str,
    [x, y]: [&str; 2],
    series: Series<(f64, f64)>,
) -> anyhow::Result<String> {
    let x = Axis::linear(x, ACROSS, span(&series, |point| point.0)?);
    let highest = span(&series, |point| point.1)?.end.max(f64::MIN_POSITIVE);
    let y = Axis::linear(y, DOWN, 0.0..highest * 1.1);
    curves(title, x, y, series)
}

/// Points (quantile from 0 to below 1, figure): each further nine has the same room, and the y axis
/// is logarithmic. Figures of zero are drawn at its lower end.
pub(crate) fn quantiles(
    title: &str,
    [x, y]: [&str; 2],
    mut series: Series<(f64, f64)>,
) -> anyhow::Result<String> {
    span(&series, |point| point.0)?;
    let highest = span(&series, |point| point.1)?.end * 1.1;
    let all = series.iter().flat_map(|(_, points)| points);
    let above = all.map(|point| point.1).filter(|figure| *figure > 0.0);
    let lowest = above.fold(f64::INFINITY, f64::min);
    ensure!(lowest.is_finite(), NO_FIGURES);
    let bottom = lowest.log10().floor();
    for (x, y) in series.iter_mut().flat_map(|(_, points)| points) {
        *x = -(1.0 - x.clamp(0.0, 0.999_999)).log10();
        *y = y.log10().max(bottom);
    }
    // 99.9 % is not exactly three nines in binary.
    let last = (span(&series, |point| point.0)?.end - 1e-6).ceil().max(1.0);
    let name = |nines: usize| match nines {
        0 => "min".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    };
    let x = Axis {
        name: x,
        range: 0.0..last,
        ticks: (0..=last as usize)
            .map(|nines| (nines as f64, name(nines)))
            .collect(),
        place: ACROSS,
    };
    let range = bottom..highest.log10().max(bottom + 1.0);
    let steps = |power: i32| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power));
    let steps = (bottom as i32..=range.end as i32).flat_map(steps);
    let steps = steps.map(|step| (step.log10(), shown(step)));
    let y = Axis {
        name: y,
        ticks: steps.filter(|(at, _)| *at <= range.end).collect(),
        range,
        place: DOWN,
    };
    curves(title, x, y, series)
}

/// From the lowest to the highest, never empty.
fn span(series: &Series<(f64, f64)>, of: fn(&(f64, f64)) -> f64) -> anyhow::Result<Range<f64>> {
    let figures = series.iter().flat_map(|(_, points)| points).map(of);
    let [mut lowest, mut highest] = [f64::INFINITY, f64::NEG_INFINITY];
    for figure in figures {
        ensure!(figure.is_finite(), NO_FIGURES);
        (lowest, highest) = (lowest.min(figure), highest.max(figure));
    }
    ensure!(lowest.is_finite(), NO_FIGURES);
    let is_range = highest > lowest;
    Ok(lowest..if is_range { highest } else { lowest + 1.0 })
}

impl<'a> Axis<'a> {
    /// With some five round figures at it.
    fn linear(name: &'a str, place: (f64, f64), range: Range<f64>) -> Self {
        let rough = (range.end - range.start) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let (first, last) = ((range.start / step).ceil(), (range.end / step).floor());
        let ticks = (0..=(last - first) as usize).map(|number| (first + number as f64) * step);
        Self {
            name,
            range,
            ticks: ticks.map(|at| (at, shown(at))).collect(),
            place,
        }
    }

    /// Where a figure lies in the drawing.
    fn at(&self, figure: &f64) -> String {
        let (Range { start, end }, (from, to)) = (self.range.clone(), self.place);
        let share = (figure.clamp(start, end) - start) / (end - start);
        format!("{:.1}", from + share * (to - from))
    }
}

/// A figure at an axis: `12k`, `0.5`.
fn shown(figure: f64) -> String {
    let (figure, suffix) = match figure.abs() {
        large if large >= 1e6 => (figure / 1e6, "M"),
        large if large >= 1e4 => (figure / 1e3, "k"),
        _ => (figure, ""),
    };
    let rounded = (figure * 1e4).round() / 1e4;
    format!("{rounded}{suffix}")
}

fn curves(
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    series: Series<(f64, f64)>,
) -> anyhow::Result<String> {
    let series = series.into_iter();
    let marks = series.map(|(name, points)| (name, Mark::Line(points)));
    draw(title, x, y, marks.collect())
}

fn draw(
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    marks: Vec<(String, Mark)>,
) -> anyhow::Result<String> {
    let is_line = marks.iter().any(|(_, mark)| matches!(mark, Mark::Line(_)));
    // Most lines end higher than they begin, and bars leave the room above them.
    let longest = marks.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let below = (
        ACROSS.1 - 34.0 - 7.0 * longest as f64,
        DOWN.0 - 8.0 - marks.len() as f64 * ENTRY,
    );
    let above = (ACROSS.0 + 10.0, DOWN.1 + 4.0);
    let (left, top) = if is_line { below } else { above };
    let entries = (0..).map(|entry| top + f64::from(entry) * ENTRY);
    let marks = entries.zip(SERIES.into_iter().cycle()).zip(marks);
    let marks = marks
        .map(|((top, colour), (name, mark))| (name, colour, top, mark))
        .collect();
    let drawing = Drawing {
        title,
        x,
        y,
        is_line,
        marks,
        left,
    };
    Ok(drawing.render()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_bars() -> String {
        let groups = ["100 B", "1 kB"].map(str::to_owned).to_vec();
        let series = [
            ("relay".into(), vec![300_000.0, 100_000.0]),
            ("peer".into(), vec![60_000.0, f64::NAN]),
        ];
        bars("rows & <rates>", "rows/s", groups, series.to_vec()).expect("an SVG")
    }

    #[test]
    fn bars_have_a_title_their_names_and_one_rectangle_a_figure() {
        let svg = some_bars();
        let title = "<title>rows &#38; &#60;rates&#62;</title>";
        assert!(svg.contains(title), "{svg}");
        for name in ["100 B", "1 kB", "relay", "peer", "rows/s"] {
            assert!(svg.contains(name), "{name} in {svg}");
        }
        // One for each figure, one in the legend.
        let fill = |colour: &str| format!("fill=\"{colour}\" stroke=\"none\"");
        let drawn = |colour| svg.matches(&fill(colour)).count();
        assert_eq!(drawn("#0072B2"), 3);
        assert_eq!(drawn("#D55E00"), 2);
        assert_eq!(svg.matches("<svg").count(), 1);
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn every_colour_has_another_one_on_dark_ground() {
        let svg = some_bars();
        let (style, drawing) = svg.split_once("</style>").expect("a style sheet");
        let fills = drawing.split("fill=\"#").skip(1);
        for part in fills.chain(drawing.split("stroke=\"#").skip(1)) {
            let colour = part.get(..6).expect("a colour");
            assert!(style.contains(colour), "{colour} is not in {style}");
        }
    }

    #[test]
    fn quantiles_name_the_nines_and_take_zero_on_a_logarithmic_axis() {
        let points = [(0.0, 0.0), (0.5, 1.0), (0.99, 5.0), (0.999, 12.0)];
        let series = vec![("idle".to_owned(), points.to_vec())];
        let axes = ["share of rows", "milliseconds"];
        let svg = quantiles("latency", axes, series.clone()).expect("an SVG");
        for name in ["90 %", "99 %", "99.9 %", "milliseconds", "idle"] {
            assert!(svg.contains(name), "{name} in {svg}");
        }
        let linear = lines("latency", axes, series).expect("an SVG");
        assert!(linear.contains("milliseconds"));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        assert!(bars("", "", Vec::new(), Vec::new()).is_err());
        assert!(lines("", ["", ""], Vec::new()).is_err());
        let endless = vec![("x".to_owned(), vec![(0.0, f64::INFINITY)])];
        assert!(lines("", ["", ""], endless).is_err());
    }

    #[test]
    fn figures_at_an_axis() {
        let figures = [0.0, 0.25, 9_000.0, 12_500.0, 2e6];
        assert_eq!(figures.map(shown), ["0", "0.25", "9000", "12.5k", "2M"]);
    }
}
