//! Draws the results of the intervals: a panel for each figure, one above the other.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::intervals::Point;

const WIDTH_PX: u32 = 720;
const PANEL_PX: u32 = 200;
/// The name of a panel, and its lines: the colour of each, and the function that reads its figure
/// from a point.
type Panel = (&'static str, &'static [(RGBColor, fn(&Point) -> f64)]);

const BLUE: RGBColor = RGBColor(31, 119, 180);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const RED: RGBColor = RGBColor(214, 39, 40);
const ORANGE: RGBColor = RGBColor(255, 127, 14);

const PANELS: [Panel; 4] = [
    ("commands a second, thousands", &[(BLUE, |at| at.commands_per_second / 1e3)]),
    ("a snapshot wrote, MB", &[(GREEN, |at| at.written_bytes / 1e6)]),
    ("disk use at most, MB", &[(GREEN, |at| at.disk_bytes / 1e6)]),
    (
        "next open, ms: at once (red), on demand (orange)",
        &[(RED, |at| at.open_seconds * 1e3), (ORANGE, |at| at.late_open_seconds * 1e3)],
    ),
];

pub fn draw(path: &Path, points: &[Point]) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let size = (WIDTH_PX, PANEL_PX * PANELS.len() as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, area) in PANELS.into_iter().zip(area.split_evenly((PANELS.len(), 1))) {
            draw_panel(&area, panel, points)?;
        }
        area.present()?;
    }
    // For rustdoc an empty line ends a block of HTML.
    let lines = svg.lines().filter(|line| !line.trim().is_empty());
    std::fs::write(path, lines.map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(())
}

fn draw_panel<'a, B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    (name, lines): Panel,
    points: &[Point],
) -> Result<(), Box<dyn Error + 'a>>
where
    B::ErrorType: 'a,
{
    let every = |at: &Point| at.every_commands as f64;
    let least = points.iter().map(every).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(every).fold(0.0, f64::max);
    let figures = lines.iter().flat_map(|(_, figure)| points.iter().map(figure));
    let highest = figures.fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..highest * 1.15)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(5)
        .x_label_formatter(&|every| format!("{every:.0}"))
        .y_label_formatter(&|figure| format!("{figure:.0}"))
        .x_desc("commands between snapshots")
        .draw()?;
    for (colour, figure) in lines {
        let line = points.iter().map(|at| (every(at), figure(at)));
        chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        chart.draw_series(line.map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    Ok(())
}
