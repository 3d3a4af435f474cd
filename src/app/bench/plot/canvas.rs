//! What every drawing has: its title, its colours, a legend, axes.
//!
//! plotters knows fixed colours only. So each drawing carries a style sheet that gives the same elements other colours on dark ground, found by the
//! colour that they were drawn in.

use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::PlotError;

const SIZE: (u32, u32) = (760, 380);
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const GRID: RGBColor = RGBColor(0xd4, 0xd4, 0xd4);
/// Told apart also by those who do not see all colours; each with what it becomes on dark ground.
const SERIES: [(RGBColor, &str); 6] = [
    (RGBColor(0x00, 0x72, 0xb2), "#4DB4EC"),
    (RGBColor(0xd5, 0x5e, 0x00), "#FF9142"),
    (RGBColor(0x00, 0x9e, 0x73), "#2FCFA2"),
    (RGBColor(0xcc, 0x79, 0xa7), "#E59AC4"),
    (RGBColor(0x8a, 0x6d, 0x00), "#E6C229"),
    (RGBColor(0x6b, 0x6b, 0x6b), "#B5B5B5"),
];

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Failure = DrawingAreaErrorKind<std::io::Error>;

/// The SVG of what `draw` draws, with its title and colours.
pub(super) fn drawn(
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
pub(in crate::app::bench) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

pub(super) fn legend<'a, X, Y>(
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

pub(super) fn text() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

pub(super) fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()].0
}

pub(super) fn swatch((x, y): (i32, i32), colour: RGBColor) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled())
}

/// A figure at an axis: `12k`, `0.5`.
pub(super) fn shown(figure: f64) -> String {
    let (figure, suffix) = match figure.abs() {
        large if large >= 1e6 => (figure / 1e6, "M"),
        large if large >= 1e4 => (figure / 1e3, "k"),
        _ => (figure, ""),
    };
    let rounded = (figure * 1e4).round() / 1e4;
    format!("{rounded}{suffix}")
}

/// Where a value lies between two pixels.
pub(super) fn on_line(range: &Range<f64>, value: f64, (from, to): (i32, i32)) -> i32 {
    let share = (value - range.start) / (range.end - range.start);
    from + (share * f64::from(to - from)).round() as i32
}
