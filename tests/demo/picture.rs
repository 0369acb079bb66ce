//! Requests per second by server over time, as a picture (SVG). Pure: numbers in, text out.
//!
//! It has no background of its own, and its greys are readable on white and on black.

mod axis;
mod chart;

use std::fmt::Write as _;
use std::time::Duration;

pub use chart::{BUCKET, Chart, Series};

/// A labelled vertical line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where, from the beginning of the load.
    pub at: Duration,
    /// Who, and what became of it.
    pub label: [String; 2],
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 380.0;
/// The plot's edges.
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = HEIGHT - 48.0;

/// Told apart also by those who see red and green alike, and visible on black and on white.
const COLOURS: [&str; 6] = [
    "#3b82c4", "#e69f00", "#1b9e77", "#c277b0", "#8c6d4f", "#56b4e9",
];
const FAILED_COLOUR: &str = "#e02b35";
/// Even a single failure shall be seen.
const FAILED_HEIGHT_MIN: f64 = 5.0;
const TEXT: &str = "#7d8590";
const GRID: &str = "#7d8590";
const MARK: &str = "#57606a";

/// Draws charts, one below the other.
pub fn draw(charts: &[&Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let titles: Vec<&str> = charts.iter().map(|chart| chart.title.as_str()).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         font-family=\"system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif\" \
         font-size=\"12\" fill=\"{TEXT}\">\n<title>{}</title>\n",
        escaped(&titles.join("; "))
    );
    for (number, chart) in charts.iter().enumerate() {
        let top = HEIGHT * number as f64;
        let _ = writeln!(svg, "<g transform=\"translate(0 {top})\">");
        draw_chart(&mut svg, chart);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_chart(svg: &mut String, chart: &Chart) {
    let plot = Plot {
        seconds: chart.seconds().max(1.0),
        rate: axis::ceiling(chart.highest()),
    };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"600\">{}</text>",
        escaped(&chart.title)
    );
    draw_legend(svg, chart);
    draw_areas(svg, &plot, chart);
    draw_axes(svg, &plot);
    draw_marks(svg, &plot, &chart.marks);
}

/// From seconds and requests per second to the picture's coordinates.
struct Plot {
    seconds: f64,
    rate: f64,
}

impl Plot {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * seconds / self.seconds
    }

    fn y(&self, rate: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * rate / self.rate
    }
}

/// The servers' areas and colours, the lowest first.
fn coloured(chart: &Chart) -> impl Iterator<Item = (&Series, &'static str)> {
    chart.servers.iter().zip(COLOURS.into_iter().cycle())
}

fn draw_legend(svg: &mut String, chart: &Chart) {
    let mut x = LEFT;
    let failed = chart.failed.highest() > 0.0;
    let failed = failed.then_some((&chart.failed, FAILED_COLOUR));
    for (series, colour) in coloured(chart).chain(failed) {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"34\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"44\">{}</text>",
            x + 18.0,
            escaped(&series.name)
        );
        // No font is at hand to measure with; a generous guess.
        x += 18.0 + 7.2 * series.name.chars().count() as f64 + 20.0;
    }
}

fn draw_areas(svg: &mut String, plot: &Plot, chart: &Chart) {
    let mut below = vec![0.0; chart.buckets()];
    for (series, colour) in coloured(chart) {
        let above: Vec<f64> = below
            .iter()
            .zip(&series.per_second)
            .map(|(below, own)| below + own)
            .collect();
        let at = |bucket: usize, rate: f64| {
            let middle = (bucket as f64 + 0.5) * BUCKET.as_secs_f64();
            format!("{:.1},{:.1}", plot.x(middle), plot.y(rate))
        };
        let there = above.iter().enumerate().map(|(i, rate)| at(i, *rate));
        let back = below.iter().enumerate().rev().map(|(i, rate)| at(i, *rate));
        let points: Vec<String> = there.chain(back).collect();
        let _ = writeln!(
            svg,
            "<polygon fill=\"{colour}\" fill-opacity=\"0.85\" points=\"{}\"/>",
            points.join(" ")
        );
        below = above;
    }
    draw_failures(svg, plot, &below, &chart.failed);
}

/// Failures stand as bars on the areas: a few of them would be lost in an area of their own.
fn draw_failures(svg: &mut String, plot: &Plot, below: &[f64], failed: &Series) {
    for (bucket, (below, rate)) in below.iter().zip(&failed.per_second).enumerate() {
        if *rate == 0.0 {
            continue;
        }
        let width = plot.x(BUCKET.as_secs_f64()) - LEFT;
        let height = (plot.y(0.0) - plot.y(*rate)).max(FAILED_HEIGHT_MIN);
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{FAILED_COLOUR}\"/>",
            LEFT + width * bucket as f64,
            plot.y(*below) - height,
        );
    }
}

fn draw_axes(svg: &mut String, plot: &Plot) {
    for rate in axis::ticks(plot.rate) {
        let y = plot.y(rate);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{GRID}\" \
             stroke-opacity=\"0.3\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            axis::thousands(rate)
        );
    }
    for seconds in axis::ticks(plot.seconds) {
        let x = plot.x(seconds);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{:.0}\" stroke=\"{GRID}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{seconds}</text>",
            BOTTOM + 5.0,
            BOTTOM + 19.0
        );
    }
    let middle = f64::midpoint(TOP, BOTTOM);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\" stroke=\"{GRID}\"/>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">seconds</text>\n\
         <text transform=\"translate(14 {middle:.0}) rotate(-90)\" text-anchor=\"middle\">requests \
         per second</text>",
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 10.0,
    );
}

fn draw_marks(svg: &mut String, plot: &Plot, marks: &[Mark]) {
    for mark in marks {
        let x = plot.x(mark.at.as_secs_f64());
        let [who, what] = &mark.label;
        let (top, text) = (TOP - 30.0, x + 4.0);
        // A pale line below the dashes keeps them visible on the areas.
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#fff\" \
             stroke-width=\"2\" stroke-opacity=\"0.35\"/>\
             <line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{BOTTOM}\" \
             stroke=\"{MARK}\" stroke-dasharray=\"4 3\"/>\n\
             <text x=\"{text:.1}\" y=\"{:.0}\" font-size=\"11\" font-weight=\"600\">{}</text>\
             <text x=\"{text:.1}\" y=\"{:.0}\" font-size=\"11\">{}</text>",
            TOP - 21.0,
            escaped(who),
            TOP - 9.0,
            escaped(what)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(failed: f64) -> Chart {
        Chart {
            title: "a < b".into(),
            servers: vec![
                Series::new("logic-1", vec![100.0, 0.0, 100.0]),
                Series::new("logic-2", vec![100.0, 200.0, 100.0]),
            ],
            failed: Series::new("failed", vec![0.0, failed, 0.0]),
            marks: vec![Mark {
                at: Duration::from_millis(100),
                label: ["logic-1".into(), "killed".into()],
            }],
        }
    }

    #[test]
    fn every_server_and_every_mark_is_drawn_and_named() {
        let svg = draw(&[&chart(0.0)]);
        assert_eq!(svg.matches("<polygon").count(), 2, "{svg}");
        for text in [">logic-1</text>", ">logic-2</text>", ">killed</text>"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
    }

    #[test]
    fn charts_stand_below_each_other() {
        let svg = draw(&[&chart(0.0), &chart(0.0)]);
        assert_eq!(svg.matches("<polygon").count(), 4, "{svg}");
        assert!(
            svg.contains("translate(0 380)") && svg.contains("height=\"760\""),
            "{svg}"
        );
    }

    #[test]
    fn failures_are_drawn_if_there_were_any() {
        assert!(!draw(&[&chart(0.0)]).contains(FAILED_COLOUR));
        let svg = draw(&[&chart(10.0)]);
        assert!(svg.contains(FAILED_COLOUR) && svg.contains(">failed</text>"));
    }

    #[test]
    fn areas_stand_on_each_other() {
        let svg = draw(&[&chart(0.0)]);
        let polygons: Vec<&str> = svg
            .lines()
            .filter(|line| line.contains("polygon"))
            .collect();
        let points = |line: &str| -> Vec<String> {
            let list = line.split("points=\"").nth(1).unwrap_or_default();
            let list = list.trim_end_matches("\"/>").split(' ');
            list.map(str::to_owned).collect()
        };
        let (lower, upper) = (points(polygons[0]), points(polygons[1]));
        let upper_bottom: Vec<String> = upper[3..].iter().rev().cloned().collect();
        assert_eq!(lower[..3], upper_bottom[..]);
    }

    #[test]
    fn an_empty_chart_is_a_picture_too() {
        let empty = Chart {
            title: String::new(),
            servers: Vec::new(),
            failed: Series::new("failed", Vec::new()),
            marks: Vec::new(),
        };
        let svg = draw(&[&empty]);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
