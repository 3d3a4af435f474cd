//! Plots as SVG: text that stands alone in a file or inline in a page, readable on light and on dark ground.
//!
//! | file | what |
//! |---|---|
//! | `bars` | groups of bars |
//! | `lines` | lines, and curves of quantiles |
//! | `canvas` | title, colours, legend, axes |

mod bars;
mod canvas;
mod lines;

pub use bars::{Bars, bars};
pub(super) use canvas::escaped;
pub use lines::{Lines, lines, quantiles};

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
            assert_eq!(canvas::shown(figure), text);
        }
    }
}
