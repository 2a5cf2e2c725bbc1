//! Both tables as a picture: a bar for each row's wall time, with its speed-up.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::BenchError;
use super::results::{Results, Row};

const WIDTH: i32 = 900;
const MARGIN: i32 = 24;
const LINE: i32 = 30;
const BAR: i32 = 18;
const NAMES: i32 = 230;
const FIGURES: i32 = 150;

const ORIGIN: RGBColor = RGBColor(150, 150, 150);
const OURS: RGBColor = RGBColor(38, 110, 180);
const INK: RGBColor = RGBColor(40, 40, 40);

/// An SVG, with the text left to whatever fonts its reader has.
pub fn chart(results: &Results) -> Result<String, BenchError> {
    let written = |rows: &[Row]| (rows.len() as i32 + 2) * LINE;
    let height = 2 * MARGIN + LINE + written(&results.fixed) + written(&results.product) + LINE;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        draw(&area, results).map_err(|error| BenchError::Chart(error.to_string()))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(area: &Area, results: &Results) -> Drawn {
    area.fill(&WHITE)?;
    let machine = &results.machine;
    let device = machine.card.as_ref().unwrap_or(&machine.cpu);
    let (model, answers) = (&results.model, results.answers);
    let title = format!("{} ({}), {answers} answers, {device}", model.name, model.precision);
    text(area, &title, (MARGIN, MARGIN), 17, HPos::Left)?;
    let mut top = MARGIN + LINE;
    top = table(area, "Fixed shape", &results.fixed, top)?;
    top = table(area, "Product (the bundled interview)", &results.product, top)?;
    let going = &results.as_it_goes;
    let last = format!(
        "Its narrative takes {:.1} s. Scored as it goes, the report is there {:.1} s after the last answer.",
        results.narrative.median.wall_s, going.finish_to_report_s
    );
    text(area, &last, (MARGIN, top), 14, HPos::Left)?;
    area.present()?;
    Ok(())
}

/// Gives where the next one begins.
fn table(area: &Area, title: &str, rows: &[Row], top: i32) -> Result<i32, Box<dyn std::error::Error>> {
    text(
        area,
        &format!("{title}: wall time, speed-up"),
        (MARGIN, top),
        15,
        HPos::Left,
    )?;
    let longest = rows
        .iter()
        .map(|row| row.median.wall_s)
        .fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - 2 * MARGIN - NAMES - FIGURES;
    for (index, row) in rows.iter().enumerate() {
        let at = top + (index as i32 + 1) * LINE;
        let left = MARGIN + NAMES;
        let right = left + ((row.median.wall_s / longest * f64::from(room)) as i32).max(1);
        let colour = if index == 0 { ORIGIN } else { OURS };
        text(area, &row.name, (left - 10, at + BAR / 2), 14, HPos::Right)?;
        area.draw(&Rectangle::new([(left, at), (right, at + BAR)], colour.filled()))?;
        let figures = format!("{:.1} s   {:.2}×", row.median.wall_s, row.median.speedup);
        text(area, &figures, (right + 8, at + BAR / 2), 14, HPos::Left)?;
    }
    Ok(top + (rows.len() as i32 + 2) * LINE)
}

fn text(area: &Area, words: &str, at: (i32, i32), size: i32, side: HPos) -> Drawn {
    // plotters takes a size as that of the whole line and writes a smaller one.
    let style = ("sans-serif", f64::from(size) * 1.24).into_text_style(area).color(&INK);
    area.draw(&Text::new(
        words.to_owned(),
        at,
        style.pos(Pos::new(side, VPos::Center)),
    ))?;
    Ok(())
}
