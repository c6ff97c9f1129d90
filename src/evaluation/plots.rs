//! The plots of a page, as SVG: report in, text out. Drawn by `plotters`, whose SVG backend needs no fonts of the system.
//!
//! Axes and letters are drawn in [`INK`], which becomes the page's own colour of text, so that they read on light and on dark paper; the other
//! colours have a contrast of 3 or more on both.

use plotters::{coord::Shift, prelude::*};

use super::{
    html::name,
    policies::Contender,
    report::{Figure, PolicyReport, Report},
    tally::{CUTS, DEPTH},
};

/// Stands for the page's colour of text; of no plot's own.
const INK: RGBColor = RGBColor(1, 2, 3);
const WRITTEN_INK: &str = "#010203";
const WIDTH: u32 = 900;
/// Of a row of bars.
const ROW: u32 = 34;

/// A plot cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a plot cannot be drawn: {0}")]
pub struct PlotError(String);

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Ours => RGBColor(217, 72, 15),
        Contender::Popularity => RGBColor(125, 130, 138),
        Contender::ItemKnn => RGBColor(38, 132, 120),
        Contender::Ease => RGBColor(52, 120, 208),
        Contender::Als => RGBColor(196, 70, 130),
        Contender::Bm25 => RGBColor(140, 106, 20),
        Contender::Dense => RGBColor(158, 84, 190),
    }
}

/// Draws on a fresh canvas, and hands the letters over to the page.
fn draw(height: u32, paint: impl FnOnce(&Root<'_>) -> Result<(), Box<dyn std::error::Error>>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&root).map_err(|error| PlotError(error.to_string()))?;
        root.present().map_err(|error| PlotError(error.to_string()))?;
    }
    Ok(svg.replace(WRITTEN_INK, "currentColor"))
}

/// One row of a plot of intervals.
struct Row {
    label: String,
    figure: Figure,
    colour: RGBColor,
}

/// One measure of each contender, with intervals.
pub(super) fn measure(report: &Report, measure: &str) -> Result<String, PlotError> {
    let row = |policy: &PolicyReport| {
        let figure = *policy.measures.get(measure)?;
        Some(Row { label: format!("{} (n = {})", policy.title, figure.n), figure, colour: colour(policy.name) })
    };
    intervals(&report.policies.iter().filter_map(row).collect::<Vec<_>>())
}

/// Differences of NDCG@10, with intervals.
pub(super) fn differences(report: &Report) -> Result<String, PlotError> {
    let shown = report.differences.iter().filter(|one| one.measure == "ndcg@10");
    let row = |one: &super::report::Difference| Row {
        label: format!("less {} (n = {})", one.against.title(), one.figure.n),
        figure: one.figure,
        colour: colour(one.against),
    };
    intervals(&shown.map(row).collect::<Vec<_>>())
}

/// NDCG@10 of each contender in each segment.
pub(super) fn segments(report: &Report) -> Result<String, PlotError> {
    let mut rows = Vec::new();
    for segment in &report.segments {
        for one in &segment.ndcg_at_10 {
            let label = format!("{} {}: {} (n = {})", segment.by, name(segment), one.name.title(), one.figure.n);
            rows.push(Row { label, figure: one.figure, colour: colour(one.name) });
        }
    }
    intervals(&rows)
}

/// Rows from the top, each a dot on its interval, over one axis that holds 0.
fn intervals(rows: &[Row]) -> Result<String, PlotError> {
    let (least, most) = rows.iter().fold((0.0f64, 0.0f64), |(least, most), row| (least.min(row.figure.low), most.max(row.figure.high)));
    let margin = 0.05 * (most - least).max(1e-3);
    let height = ROW * rows.len() as u32 + 50;
    let widest = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0) as u32;
    draw(height, |root| {
        let (low, high) = (least - if least < 0.0 { margin } else { 0.0 }, most + margin);
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .x_label_area_size(30)
            .y_label_area_size((7 * widest + 14).min(WIDTH / 2))
            .build_cartesian_2d(low..high, 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .axis_style(INK)
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.15))
            .label_style(letters())
            .draw()?;
        let at = |place: usize| rows.len() as f64 - place as f64 - 0.5;
        if low < 0.0 {
            chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, rows.len() as f64)], INK.mix(0.6).stroke_width(1))])?;
        }
        for (place, row) in rows.iter().enumerate() {
            let (y, figure) = (at(place), row.figure);
            chart.draw_series([PathElement::new([(figure.low, y), (figure.high, y)], row.colour.stroke_width(3))])?;
            chart.draw_series([Circle::new((figure.mean, y), 5, row.colour.filled())])?;
            let (_, pixel) = chart.backend_coord(&(figure.mean, y));
            let style =
                letters().pos(plotters::style::text_anchor::Pos::new(plotters::style::text_anchor::HPos::Left, plotters::style::text_anchor::VPos::Center));
            root.draw_text(&row.label, &style, (8, pixel))?;
        }
        Ok(())
    })
}

/// NDCG at each cut.
pub(super) fn curves(report: &Report) -> Result<String, PlotError> {
    let line = |policy: &PolicyReport| -> Vec<(f64, f64)> {
        CUTS.iter().filter_map(|k| Some(((*k as f64).log10(), policy.measures.get(&format!("ndcg@{k}"))?.mean))).collect()
    };
    let title = |policy: &PolicyReport| format!("{} (n = {})", policy.title, policy.n);
    lines(report, (0.0, (DEPTH as f64).log10()), line, title, "k (logarithmic)", |x| short(10f64.powf(*x)))
}

/// With one decimal at most, so that labels of ticks do not run into each other.
fn short(number: f64) -> String {
    let written = format!("{number:.1}");
    written.strip_suffix(".0").map_or(written.clone(), str::to_owned)
}

/// How the places of lists are spread over the catalogue.
pub(super) fn lorenz(report: &Report) -> Result<String, PlotError> {
    let title = |policy: &PolicyReport| format!("{}, Gini {:.3} (n = {})", policy.title, policy.gini_at_10, policy.n);
    lines(report, (0.0, 1.0), |policy| policy.lorenz.clone(), title, "share of the catalogue, least shown first", |x| format!("{x:.1}"))
}

/// One line a contender, ours on top.
fn lines(
    report: &Report,
    across: (f64, f64),
    line: impl Fn(&PolicyReport) -> Vec<(f64, f64)>,
    title: impl Fn(&PolicyReport) -> String,
    says: &str,
    tick: impl Fn(&f64) -> String,
) -> Result<String, PlotError> {
    let lines: Vec<(&PolicyReport, Vec<(f64, f64)>)> = report.policies.iter().map(|policy| (policy, line(policy))).collect();
    let most = lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(1e-3, f64::max);
    draw(380, |root| {
        let mut chart =
            ChartBuilder::on(root).margin(8).x_label_area_size(44).y_label_area_size(60).build_cartesian_2d(across.0..across.1, 0.0..1.05 * most)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.15))
            .label_style(letters())
            .x_desc(says)
            .axis_desc_style(letters())
            .x_label_formatter(&tick)
            .draw()?;
        for (policy, points) in lines.iter().rev() {
            let (colour, width) = (colour(policy.name), if policy.name == Contender::Ours { 4 } else { 2 });
            let series = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(width)))?;
            series.label(title(policy)).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width)));
        }
        chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(letters()).border_style(INK.mix(0.2)).draw()?;
        Ok(())
    })
}

fn letters() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_one_decimal_at_most() {
        assert_eq!([1.0, 10f64.powf(0.2), 3.98, 99.96, 0.04].map(short), ["1", "1.6", "4", "100", "0"]);
    }
}
