//! Plots as SVG to stand in a page: lines over a plane with a grid. Knows scales and colours, nothing of figures.
//!
//! Colours are the page's own (`var(--s1)` and so on), so that a plot is light or dark as its page is: the plotter gets numbers
//! that stand for them, and they are replaced in what it wrote.

use plotters::prelude::*;

/// Octets of a plot's plane; the page scales it.
const SIZE: (u32, u32) = (900, 300);

/// Stand-ins, and the colours of the page that they become.
const INK: RGBColor = RGBColor(1, 2, 1);
const GRID: RGBColor = RGBColor(1, 2, 2);
const LINES: [RGBColor; 4] = [RGBColor(1, 2, 11), RGBColor(1, 2, 12), RGBColor(1, 2, 13), RGBColor(1, 2, 14)];
const NAMED: [(&str, &str); 6] = [
    ("#010201", "var(--soft)"),
    ("#010202", "var(--line)"),
    ("#01020B", "var(--s1)"),
    ("#01020C", "var(--s2)"),
    ("#01020D", "var(--s3)"),
    ("#01020E", "var(--s4)"),
];

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    /// In ascending order of the first.
    pub points: Vec<(f64, f64)>,
}

/// How many lines a plot tells apart by colour; more of them begin again with the first.
pub const COLOURS: usize = LINES.len();

/// A value over time, from 0 up. `unit` stands at the axis. None where there is nothing to draw.
pub fn over_time(lines: &[Line], unit: &str) -> Option<String> {
    let (_, right, _, top) = extent(lines)?;
    let mut svg = String::new();
    let drawn = (|| {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(18)
            .x_label_area_size(34)
            .y_label_area_size(78)
            .build_cartesian_2d(0.0..right.max(1e-3), 0.0..(top * 1.08).max(1e-3))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", 13, &INK))
            .axis_desc_style(("sans-serif", 13, &INK))
            .x_desc("seconds")
            .y_desc(unit)
            .y_labels(6)
            .y_label_formatter(&|value| short(*value))
            .x_label_formatter(&|value| short(*value))
            .draw()?;
        for (line, colour) in lines.iter().zip(LINES.iter().cycle()) {
            if lines.len() == 1 {
                chart.draw_series(AreaSeries::new(line.points.iter().copied(), 0.0, colour.mix(0.16)))?;
            }
            chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        }
        area.present()
    })();
    finished(drawn, svg)
}

/// A distribution: the value that so many are not above, both axes logarithmic, the right one in the distance to 100 %. Points
/// are a quantile from 0 to below 1, and microseconds.
pub fn percentiles(lines: &[Line]) -> Option<String> {
    let nines = |quantile: f64| -(1.0 - quantile.min(0.999_999)).log10();
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| Line {
            name: line.name.clone(),
            points: line.points.iter().map(|(quantile, value)| (nines(*quantile), value.max(1.0))).collect(),
        })
        .collect();
    let (_, right, low, top) = extent(&lines)?;
    // A tick for each nine.
    let right = right.ceil().max(2.0);
    let mut svg = String::new();
    let drawn = (|| {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(28)
            .x_label_area_size(34)
            .y_label_area_size(78)
            .build_cartesian_2d(0.0..right, (decade_below(low)..decade_above(top)).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", 13, &INK))
            .axis_desc_style(("sans-serif", 13, &INK))
            .x_desc("percentile")
            .x_labels(right as usize + 1)
            .x_label_formatter(&|nines| percentile(*nines))
            .y_label_formatter(&|value| crate::report::microseconds(*value))
            .draw()?;
        for (line, colour) in lines.iter().zip(LINES.iter().cycle()) {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        }
        area.present()
    })();
    finished(drawn, svg)
}

/// A rate over a size that grows by decades, from 0 up.
pub fn over_decades(lines: &[Line], along: &str, unit: &str) -> Option<String> {
    let (left, right, _, top) = extent(lines).filter(|(left, ..)| *left > 0.0)?;
    let mut svg = String::new();
    let drawn = (|| {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(28)
            .x_label_area_size(34)
            .y_label_area_size(78)
            .build_cartesian_2d((left * 0.8..right * 1.25).log_scale(), 0.0..(top * 1.08).max(1e-3))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", 13, &INK))
            .axis_desc_style(("sans-serif", 13, &INK))
            .x_desc(along)
            .y_desc(unit)
            .y_labels(6)
            .x_label_formatter(&|value| round(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for (line, colour) in lines.iter().zip(LINES.iter().cycle()) {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(line.points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
        }
        area.present()
    })();
    finished(drawn, svg)
}

/// Left, right, lowest and highest of all lines. None without two points, or with one that is no number.
fn extent(lines: &[Line]) -> Option<(f64, f64, f64, f64)> {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().count() < 2 || points().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let fold = |by: fn(f64, f64) -> f64, of: fn(&(f64, f64)) -> f64| points().map(of).reduce(by);
    Some((fold(f64::min, |p| p.0)?, fold(f64::max, |p| p.0)?, fold(f64::min, |p| p.1)?, fold(f64::max, |p| p.1)?))
}

/// The plot in the colours of the page, as wide as the page has room.
fn finished<E>(drawn: Result<(), DrawingAreaErrorKind<E>>, svg: String) -> Option<String>
where
    E: std::error::Error + Send + Sync,
{
    drawn.ok()?;
    let (width, height) = SIZE;
    let mut svg = svg.replacen(&format!("width=\"{width}\" height=\"{height}\""), "class=\"plot\"", 1);
    for (number, name) in NAMED {
        svg = svg.replace(number, name);
    }
    Some(svg)
}

fn decade_below(value: f64) -> f64 {
    10f64.powf(value.max(1.0).log10().floor())
}

fn decade_above(value: f64) -> f64 {
    10f64.powf(value.max(10.0).log10().ceil())
}

/// 0 nines is 0 %, 1 is 90 %, 3 is 99.9 %; places in between are not whole and are named by what they are.
fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    let digits = (nines.ceil() as usize).saturating_sub(2) + usize::from(nines.fract() > 1e-9);
    format!("{percent:.digits$} %")
}

/// A number that begins with 1, 2 or 5; those between would stand upon one another on a logarithmic axis.
fn round(value: f64) -> String {
    let first = value / 10f64.powf((value.max(f64::MIN_POSITIVE).log10() + 1e-9).floor());
    let is_round = [1.0, 2.0, 5.0].iter().any(|digit| (first - digit).abs() < 1e-6);
    if is_round { short(value) } else { String::new() }
}

/// 1,200,000 as 1.2 M.
fn short(value: f64) -> String {
    let trimmed = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        size if size >= 1e9 => format!("{} G", trimmed(value / 1e9)),
        size if size >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        size if size >= 1e3 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { name: "a".into(), points: points.to_vec() }
    }

    #[test]
    fn axes_are_labelled_as_people_write_numbers() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1_200_000.0), "1.2 M");
        assert_eq!([10_000.0, 20_000.0, 30_000.0, 1e6].map(round), ["10 k", "20 k", "", "1 M"]);
        assert_eq!(short(250_000.0), "250 k");
        assert_eq!(percentile(0.0), "0 %");
        assert_eq!(percentile(1.0), "90 %");
        assert_eq!(percentile(2.0), "99 %");
        assert_eq!(percentile(3.0), "99.9 %");
        assert_eq!(percentile(0.5), "68.4 %");
    }

    #[test]
    fn colours_are_those_of_the_page() {
        let svg = over_time(&[line(&[(0.0, 1.0), (1.0, 3.0)]), line(&[(0.0, 2.0), (1.0, 2.0)])], "messages/s").unwrap();
        assert!(svg.contains("var(--s1)") && svg.contains("var(--s2)") && svg.contains("class=\"plot\""));
        assert!(!svg.contains("#0102"), "no stand-in is left");
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(over_time(&[], "x").is_none());
        assert!(over_time(&[line(&[(0.0, 1.0)])], "x").is_none());
        assert!(over_time(&[line(&[(0.0, f64::NAN), (1.0, 1.0)])], "x").is_none());
        assert!(over_decades(&[line(&[(0.0, 1.0), (1.0, 1.0)])], "x", "y").is_none());
        assert!(over_time(&[line(&[(0.0, 0.0), (0.0, 0.0)])], "x").is_some(), "nothing happened: a plain line");
        assert!(percentiles(&[line(&[(0.0, 0.0), (0.9999999, 1e9)])]).is_some());
    }
}
