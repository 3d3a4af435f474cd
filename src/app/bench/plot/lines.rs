//! Lines, and curves of quantiles.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::prelude::*;

use super::PlotError;
use super::canvas::{
    Area, Failure, GRID, INK, colour, drawn, legend, on_line, shown, swatch, text,
};

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

/// An axis with labels at whole numbers only.
#[derive(Clone)]
struct Whole(Range<f64>);

impl Ranged for Whole {
    type FormatOption = DefaultFormatting;
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
