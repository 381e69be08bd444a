//! Small panels of horizontal bars, each with its name before it and its figure after it.

use super::colour_of;
use super::frame::{Align, Area, colour, failure, picture, write};
use crate::machine::Machine;
use crate::peers::Info;
use plotters::prelude::*;

pub struct Bar {
    label: &'static str,
    value: f64,
    /// The least and the most, where there were several.
    spread: Option<(f64, f64)>,
    text: String,
    colour: RGBColor,
    is_ours: bool,
}

impl Bar {
    pub fn new(info: &Info, value: f64, text: String) -> Self {
        Self {
            label: info.label,
            value,
            spread: None,
            text,
            colour: colour_of(info.class, info.id),
            is_ours: info.id == "haybox",
        }
    }

    /// With a whisker from the least to the most.
    pub fn with_spread(mut self, least: f64, most: f64) -> Self {
        self.spread = Some((least, most));
        self
    }
}

pub struct Panel {
    title: String,
    pub bars: Vec<Bar>,
}

impl Panel {
    pub fn new(title: &str, bars: Vec<Bar>) -> Self {
        Self {
            title: title.to_string(),
            bars,
        }
    }
}

const WIDTH: u32 = 470;
const ROW: i32 = 19;
const TITLE: i32 = 30;
const GAP: i32 = 16;
/// Room for the names, and for the figures behind the longest bar.
const NAMES: i32 = 158;
const FIGURES: i32 = 130;

pub fn draw(
    title: &str,
    subtitle: &str,
    panels: &[Panel],
    columns: usize,
    machine: &Machine,
) -> Result<String, String> {
    let columns = columns.min(panels.len()).max(1);
    let height = |row: &[Panel]| {
        let bars = row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        TITLE + GAP + ROW * bars as i32
    };
    let total: i32 = panels.chunks(columns).map(height).sum();
    let size = (WIDTH * columns.max(2) as u32, total as u32);
    picture(title, subtitle, size, machine, |area| {
        let mut top = 0;
        for row in panels.chunks(columns) {
            for (column, panel) in (0..).zip(row) {
                one(area, panel, (column * WIDTH as i32, top))?;
            }
            top += height(row);
        }
        Ok(())
    })
}

fn one(area: &Area, panel: &Panel, (left, top): (i32, i32)) -> Result<(), String> {
    write(
        area,
        &panel.title,
        (left, top + 10),
        Align::Left,
        15,
        true,
        colour::INK,
    )?;
    let end = |bar: &Bar| {
        bar.spread
            .map_or(bar.value, |(_, most)| most.max(bar.value))
    };
    let longest = panel.bars.iter().map(end).fold(f64::MIN_POSITIVE, f64::max);
    let start = left + NAMES;
    let width = f64::from(WIDTH as i32 - NAMES - FIGURES);
    for (row, bar) in (0..).zip(&panel.bars) {
        let middle = top + TITLE + ROW * row + ROW / 2;
        let ink = if bar.is_ours {
            colour::VERMILLION
        } else {
            colour::INK
        };
        let name = (start - 8, middle);
        write(area, bar.label, name, Align::Right, 13, bar.is_ours, ink)?;
        let place = |value: f64| (value / longest * width).max(1.0) as i32;
        let length = place(bar.value);
        let corners = [
            (start, middle - ROW / 2 + 3),
            (start + length, middle + ROW / 2 - 3),
        ];
        area.draw(&Rectangle::new(corners, bar.colour.filled()))
            .map_err(failure)?;
        if let Some((least, most)) = bar.spread {
            let ends = vec![
                (start + place(least), middle),
                (start + place(most), middle),
            ];
            area.draw(&PathElement::new(ends, colour::INK))
                .map_err(failure)?;
        }
        let figure = (start + place(end(bar)) + 6, middle);
        write(area, &bar.text, figure, Align::Left, 12, bar.is_ours, ink)?;
    }
    Ok(())
}
