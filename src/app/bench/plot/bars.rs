//! Groups of bars.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

use super::PlotError;
use super::canvas::{
    Area, Failure, GRID, INK, colour, drawn, legend, on_line, shown, swatch, text,
};

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

/// An axis of groups: a label in the middle of each.
#[derive(Clone)]
struct Groups(Range<f64>);

impl Ranged for Groups {
    type FormatOption = DefaultFormatting;
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
