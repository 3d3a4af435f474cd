//! Plots as SVG: text that stands alone in a file or inline in a page, readable on light and on dark ground.
//!
//! plotters knows fixed colours only. So each drawing carries a style sheet that gives the same elements other colours on dark ground, found by the
//! colour that they were drawn in.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, KeyPointHint, ValueFormatter};
use plotters::prelude::*;

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// No figure, or one that is not finite, or none above zero on a logarithmic axis.
    #[error("a plot needs finite figures")]
    Figures,
    /// plotters gave up.
    #[error("the plot could not be drawn: {0}")]
    Drawing(String),
}

/// Groups of bars, one bar of each series in each group.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// The unit of the figures.
    pub unit: String,
    /// The names of the groups.
    pub groups: Vec<String>,
    /// Name, and one figure for each group. A figure that was not measured is NaN and leaves its place empty.
    pub series: Vec<(String, Vec<f64>)>,
    /// A line across at this figure, and its name.
    pub reference: Option<(f64, String)>,
}

/// Lines through points.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// What is shown.
    pub title: String,
    /// What is along the x axis, with its unit.
    pub x: String,
    /// What is along the y axis, with its unit.
    pub y: String,
    /// Whether the y axis is logarithmic; figures of zero are drawn at its lower end.
    pub logarithmic: bool,
    /// Name, and points (x, y) with ascending x.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

const SIZE: (u32, u32) = (760, 380);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xd4, 0xd4, 0xd4);
/// Told apart also by those who do not see all colours; each with what it becomes on dark ground.
const SERIES: [(RGBColor, &str); 6] = [
    (RGBColor(0x00, 0x72, 0xb2), "#4DB4EC"),
    (RGBColor(0xd5, 0x5e, 0x00), "#FF9142"),
    (RGBColor(0x00, 0x9e, 0x73), "#2FCFA2"),
    (RGBColor(0xcc, 0x79, 0xa7), "#E59AC4"),
    (RGBColor(0x8a, 0x6d, 0x00), "#E6C229"),
    (RGBColor(0x6b, 0x6b, 0x6b), "#B5B5B5"),
];

/// Draws groups of bars.
pub fn bars(plot: &Bars) -> Result<String, PlotError> {
    let figures = plot.series.iter().flat_map(|(_, figures)| figures);
    let highest = figures
        .chain(plot.reference.as_ref().map(|(figure, _)| figure))
        .filter(|figure| !figure.is_nan())
        .fold(0.0, |highest: f64, figure| highest.max(*figure));
    if plot.groups.is_empty() || !highest.is_finite() {
        return Err(PlotError::Figures);
    }
    // The legend stands above the bars.
    let entries = plot.series.len() + usize::from(plot.reference.is_some());
    let room = (entries as f64 * 17.0 + 22.0) / 290.0;
    let room = room.min(0.5);
    let top = if highest > 0.0 { highest } else { 1.0 } / (1.0 - room);
    let groups = plot.groups.len() as f64;
    let draw = |area: &Area<'_>| -> Result<(), Failure> {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(78)
            .build_cartesian_2d(Groups(0.0..groups), 0.0..top)?;
        let name = |at: &f64| plot.groups.get(*at as usize).cloned().unwrap_or_default();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(text())
            .x_label_formatter(&name)
            .y_label_formatter(&|figure| shown(*figure))
            .y_desc(&plot.unit)
            .draw()?;
        let width = 0.8 / plot.series.len() as f64;
        for (index, (name, figures)) in plot.series.iter().enumerate() {
            let colour = colour(index);
            let bar = |(group, figure): (usize, &f64)| {
                let left = group as f64 + 0.1 + index as f64 * width;
                Rectangle::new(
                    [(left, 0.0), (left + width * 0.92, *figure)],
                    colour.filled(),
                )
            };
            let measured = figures
                .iter()
                .enumerate()
                .filter(|(_, figure)| figure.is_finite());
            chart
                .draw_series(measured.map(bar))?
                .label(name)
                .legend(move |at| swatch(at, colour));
        }
        if let Some((figure, name)) = &plot.reference {
            chart
                .draw_series(LineSeries::new(
                    [(0.0, *figure), (groups, *figure)],
                    INK.stroke_width(2),
                ))?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], INK.stroke_width(2)));
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    };
    drawn(&plot.title, draw)
}

/// Draws lines.
pub fn lines(plot: &Lines) -> Result<String, PlotError> {
    let along = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let points = plot.series.iter().flat_map(|(_, points)| points);
        points.map(of).collect()
    };
    let (x, y) = (span(&along(|point| point.0))?, along(|point| point.1));
    draw_lines(plot, x.clone(), &y, x, &|at| shown(*at))
}

/// Draws quantiles: `series` has points (quantile from 0 to below 1, figure), and the axis gives each further nine the same room.
pub fn quantiles(plot: &Lines) -> Result<String, PlotError> {
    let nines = |quantile: f64| -(1.0 - quantile.clamp(0.0, 0.999_999)).log10();
    let mut plot = plot.clone();
    for (x, _) in plot.series.iter_mut().flat_map(|(_, points)| points) {
        *x = nines(*x);
    }
    let figures = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let points = plot.series.iter().flat_map(|(_, points)| points);
        points.map(of).collect()
    };
    let (x, y) = (figures(|point| point.0), figures(|point| point.1));
    // 99.9 % is not exactly three nines in binary.
    let last = (span(&x)?.end - 1e-6).ceil().max(1.0);
    let name = |nines: &f64| match *nines {
        whole if whole.fract() != 0.0 => String::new(),
        0.0 => "min".to_owned(),
        1.0 => "90 %".to_owned(),
        2.0 => "99 %".to_owned(),
        whole => format!("99.{} %", "9".repeat(whole as usize - 2)),
    };
    draw_lines(&plot, Whole(0.0..last), &y, 0.0..last, &name)
}

fn draw_lines<X>(
    plot: &Lines,
    x: X,
    y: &[f64],
    domain: Range<f64>,
    name: &dyn Fn(&f64) -> String,
) -> Result<String, PlotError>
where
    X: AsRangedCoord<Value = f64> + Clone,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let range = span(y)?;
    let top = if range.end > 0.0 {
        range.end * 1.1
    } else {
        1.0
    };
    if plot.logarithmic {
        let lowest = y.iter().filter(|figure| **figure > 0.0);
        let lowest = lowest.fold(f64::INFINITY, |lowest, figure| lowest.min(*figure));
        if !lowest.is_finite() {
            return Err(PlotError::Figures);
        }
        let bottom = 10_f64.powf(lowest.log10().floor());
        let draw = |area: &Area<'_>| {
            let mut builder = ChartBuilder::on(area);
            let axis = (bottom..top.max(bottom * 10.0)).log_scale();
            let chart = with_room(&mut builder).build_cartesian_2d(x.clone(), axis)?;
            curves(chart, plot, &domain, bottom, name)
        };
        drawn(&plot.title, draw)
    } else {
        let draw = |area: &Area<'_>| {
            let mut builder = ChartBuilder::on(area);
            let chart = with_room(&mut builder).build_cartesian_2d(x.clone(), 0.0..top)?;
            curves(chart, plot, &domain, 0.0, name)
        };
        drawn(&plot.title, draw)
    }
}

fn with_room<'a, 'b, 'c>(
    builder: &'c mut ChartBuilder<'a, 'b, SVGBackend<'b>>,
) -> &'c mut ChartBuilder<'a, 'b, SVGBackend<'b>> {
    builder
        .margin(12)
        .margin_right(40)
        .x_label_area_size(48)
        .y_label_area_size(78)
}

/// The mesh and the lines, whatever the scales.
fn curves<'a, X, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    plot: &Lines,
    domain: &Range<f64>,
    bottom: f64,
    name: &dyn Fn(&f64) -> String,
) -> Result<(), Failure>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(text())
        .x_label_formatter(name)
        .y_label_formatter(&|figure| shown(*figure))
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .draw()?;
    for (index, (name, points)) in plot.series.iter().enumerate() {
        let colour = colour(index);
        let points = points.iter().map(|(x, y)| {
            let within = x.clamp(domain.start, domain.end);
            (within, y.max(bottom))
        });
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |at| swatch(at, colour));
    }
    // Most lines end higher than they begin.
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failure = DrawingAreaErrorKind<std::io::Error>;

/// The SVG of what `draw` draws, with its title and colours.
fn drawn(
    title: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let draw = || -> Result<(), Failure> {
            let area = area.titled(title, ("sans-serif", 17).into_font().color(&INK))?;
            draw(&area)?;
            area.present()
        };
        draw().map_err(|failure| PlotError::Drawing(failure.to_string()))?;
    }
    let (start, rest) = svg
        .split_once("<svg ")
        .and_then(|(_, rest)| rest.split_once('>'))
        .ok_or_else(|| PlotError::Drawing("no SVG".into()))?;
    let label = escaped(title);
    Ok(format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{label}\" {start}>\n<title>{label}</title>\n<style>{}</style>{rest}",
        dark()
    ))
}

/// What becomes of each colour on dark ground.
fn dark() -> String {
    let mut rules = String::from("@media (prefers-color-scheme: dark) {");
    let fixed = [(INK, "#E8E8E8"), (GRID, "#4A4A4A")];
    for (RGBColor(red, green, blue), dark) in fixed.iter().chain(&SERIES) {
        for property in ["fill", "stroke"] {
            write!(
                rules,
                " svg.plot [{property}=\"#{red:02X}{green:02X}{blue:02X}\"] {{ {property}: {dark} }}"
            )
            .expect("writing into a String cannot fail");
        }
    }
    rules + " }"
}

/// A text as XML wants it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn legend<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), Failure>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .label_font(text())
        .border_style(TRANSPARENT)
        .draw()
}

fn text() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()].0
}

fn swatch((x, y): (i32, i32), colour: RGBColor) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled())
}

/// From the lowest to the highest, never empty.
fn span(figures: &[f64]) -> Result<Range<f64>, PlotError> {
    if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
        return Err(PlotError::Figures);
    }
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(lowest..if highest > lowest {
        highest
    } else {
        lowest + 1.0
    })
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

/// An axis of groups: a label in the middle of each.
#[derive(Clone)]
struct Groups(Range<f64>);

/// An axis with labels at whole numbers only.
#[derive(Clone)]
struct Whole(Range<f64>);

impl Ranged for Groups {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        on_line(&self.0, *value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.0.end as usize)
            .map(|group| group as f64 + 0.5)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl Ranged for Whole {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        on_line(&self.0, *value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..=self.0.end as usize)
            .map(|whole| whole as f64)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

/// Where a value lies between two pixels.
fn on_line(range: &Range<f64>, value: f64, (from, to): (i32, i32)) -> i32 {
    let share = (value - range.start) / (range.end - range.start);
    from + (share * f64::from(to - from)).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_bars() -> Bars {
        Bars {
            title: "rows & <rates>".into(),
            unit: "rows/s".into(),
            groups: vec!["100 B".into(), "1 kB".into()],
            series: vec![
                ("relay".into(), vec![300_000.0, 100_000.0]),
                ("peer".into(), vec![60_000.0, f64::NAN]),
            ],
            reference: Some((250_000.0, "the limit".into())),
        }
    }

    #[test]
    fn bars_have_a_title_their_names_and_one_rectangle_a_figure() {
        let svg = bars(&some_bars()).expect("an SVG");
        assert!(
            svg.contains("<title>rows &amp; &lt;rates&gt;</title>"),
            "{svg}"
        );
        for name in ["100 B", "1 kB", "relay", "peer", "the limit", "rows/s"] {
            assert!(svg.contains(name), "{name} in {svg}");
        }
        // one for the figure, one in the legend
        let drawn = |colour: &str| {
            svg.matches(&format!("fill=\"{colour}\" stroke=\"none\""))
                .count()
        };
        assert_eq!(drawn("#0072B2"), 3);
        assert_eq!(drawn("#D55E00"), 2);
        assert_eq!(svg.matches("<svg").count(), 1);
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn every_colour_has_another_one_on_dark_ground() {
        let svg = bars(&some_bars()).expect("an SVG");
        let (style, drawing) = svg.split_once("</style>").expect("a style sheet");
        for part in drawing
            .split("fill=\"#")
            .chain(drawing.split("stroke=\"#"))
            .skip(1)
        {
            let colour = part.get(..6).expect("a colour");
            if colour.chars().all(|c| c.is_ascii_hexdigit()) && !part.contains("opacity=\"0\"") {
                assert!(style.contains(colour), "{colour} is not in {style}");
            }
        }
    }

    #[test]
    fn quantiles_name_the_nines_and_take_zero_on_a_logarithmic_axis() {
        let plot = Lines {
            title: "latency".into(),
            x: "share of rows".into(),
            y: "milliseconds".into(),
            logarithmic: true,
            series: vec![(
                "idle".into(),
                vec![(0.0, 0.0), (0.5, 1.0), (0.99, 5.0), (0.999, 12.0)],
            )],
        };
        let svg = quantiles(&plot).expect("an SVG");
        for name in ["90 %", "99 %", "99.9 %", "milliseconds", "idle"] {
            assert!(svg.contains(name), "{name} in {svg}");
        }
        let linear = lines(&Lines {
            logarithmic: false,
            ..plot
        })
        .expect("an SVG");
        assert!(linear.contains("milliseconds"));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        assert!(matches!(bars(&Bars::default()), Err(PlotError::Figures)));
        assert!(matches!(lines(&Lines::default()), Err(PlotError::Figures)));
        let endless = Lines {
            series: vec![("x".into(), vec![(0.0, f64::INFINITY)])],
            ..Lines::default()
        };
        assert!(matches!(lines(&endless), Err(PlotError::Figures)));
    }

    #[test]
    fn figures_at_an_axis() {
        for (figure, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (9_000.0, "9000"),
            (12_500.0, "12.5k"),
            (2e6, "2M"),
        ] {
            assert_eq!(shown(figure), text);
        }
    }
}
