//! Panels of lines with a common legend at the right.

use super::frame::{Align, Area, colour, failure, picture, shortened, write};
use crate::machine::Machine;
use crate::peers;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

/// An axis in the coordinates that are drawn: what is logarithmic is so already.
pub struct Axis {
    pub label: String,
    pub range: (f64, f64),
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From a round number to a round one, with ticks at 1, 3 and 10.
    pub fn logarithmic(
        label: &str,
        values: impl Iterator<Item = f64>,
        name: &dyn Fn(f64) -> String,
    ) -> Self {
        let steps = |value: f64| value.log10() * 2.0;
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            least = least.min((steps(value) + 0.05).floor());
            most = most.max((steps(value) - 0.05).ceil());
        }
        let tick = |step: i32| {
            let power = 10f64.powi(step.div_euclid(2));
            let value = if step % 2 == 0 { power } else { 3.0 * power };
            (value.log10(), name(value))
        };
        Self {
            label: label.to_string(),
            range: (least / 2.0, most / 2.0),
            ticks: (least as i32..=most as i32).map(tick).collect(),
        }
    }

    /// Over this range, rounded to tens of percent.
    pub fn linear(label: &str, (least, most): (f64, f64)) -> Self {
        let step = if most - least > 45.0 { 10.0 } else { 5.0 };
        let (least, most) = ((least / step).floor() * step, (most / step).ceil() * step);
        let count = ((most - least) / step).round() as i32;
        let tick = |number: i32| {
            let value = least + step * f64::from(number);
            (value, format!("{value:.0}"))
        };
        Self {
            label: label.to_string(),
            range: (least, most.max(least + step)),
            ticks: (0..=count).map(tick).collect(),
        }
    }

    /// Where a value is on the axis, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (least, most) = self.range;
        ((value - least) / (most - least)).clamp(0.0, 1.0)
    }
}

pub struct Line {
    id: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    pub fn new(id: &str, mut points: Vec<(f64, f64)>) -> Self {
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        Self {
            id: id.to_string(),
            points,
        }
    }
}

pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

struct Look {
    colour: RGBColor,
    width: u32,
    /// Lengths of dashes and gaps.
    dashes: Option<(i32, i32)>,
}

fn look(id: &str) -> Look {
    let (colour, width, dashes) = match id {
        "haybox" => (colour::VERMILLION, 4, None),
        "haybox-no-ttl" => (colour::VERMILLION, 2, Some((6, 4))),
        "moka" => (colour::BLUE, 2, None),
        "moka-prompt" => (colour::BLUE, 2, Some((2, 3))),
        "mini-moka" => (colour::BLUE, 2, Some((6, 4))),
        "quick_cache" => (colour::GREEN, 2, None),
        "foyer-s3fifo" => (colour::PURPLE, 2, None),
        "foyer-lfu" => (colour::PURPLE, 2, Some((6, 4))),
        "stretto" => (colour::ORANGE, 2, None),
        "scc" => (colour::SKY, 2, None),
        "optimum" => (colour::INK, 2, None),
        "lru" => (colour::INK, 2, Some((3, 4))),
        "hashbrown" => (colour::DARK_GREY, 2, None),
        "hashbrown-lock" => (colour::DARK_GREY, 2, Some((6, 4))),
        "dashmap" => (colour::GREY, 2, None),
        "papaya" => (colour::GREY, 2, Some((6, 4))),
        "redis" => (colour::ORANGE, 2, Some((6, 4))),
        "redis-pipelined" => (colour::ORANGE, 2, Some((2, 3))),
        "clock" => (colour::INK, 1, Some((2, 3))),
        _ => (colour::GREEN, 2, Some((3, 4))),
    };
    Look {
        colour,
        width,
        dashes,
    }
}

/// The order of the legend; haybox is drawn last, so that nothing covers it. What is not in it is
/// not drawn.
const ORDER: [&str; 19] = [
    "optimum",
    "haybox",
    "haybox-no-ttl",
    "moka",
    "moka-prompt",
    "mini-moka",
    "quick_cache",
    "foyer-s3fifo",
    "foyer-lfu",
    "stretto",
    "scc",
    "lru",
    "hashbrown",
    "hashbrown-lock",
    "dashmap",
    "papaya",
    "redis",
    "redis-pipelined",
    "clock",
];

const LEGEND: u32 = 190;
const LEFT: i32 = 62;
const BOTTOM: i32 = 58;
const TOP: i32 = 30;
const RIGHT: i32 = 30;

pub fn draw(
    title: &str,
    subtitle: &str,
    panels: &[Panel],
    columns: usize,
    (width, height): (u32, u32),
    machine: &Machine,
) -> Result<String, String> {
    let columns = columns.max(1);
    let rows = panels.len().div_ceil(columns) as u32;
    let panels_width = width * columns as u32;
    let size = (panels_width + LEGEND, height * rows);
    picture(title, subtitle, size, machine, |area| {
        for (number, panel) in panels.iter().enumerate() {
            let at = (
                (number % columns) as i32 * width as i32,
                (number / columns) as i32 * height as i32,
            );
            one(area, panel, at, (width as i32, height as i32))?;
        }
        let is_drawn = |id: &&str| {
            panels
                .iter()
                .flat_map(|panel| &panel.lines)
                .any(|line| line.id == **id && !line.points.is_empty())
        };
        let shown: Vec<&str> = ORDER.into_iter().filter(is_drawn).collect();
        legend(area, &shown, panels_width as i32 + 6)
    })
}

fn legend(area: &Area, ids: &[&str], left: i32) -> Result<(), String> {
    for (row, id) in (0..).zip(ids) {
        let middle = TOP + 10 + 22 * row;
        path(area, id, &[(left, middle), (left + 34, middle)])?;
        let is_ours = *id == "haybox";
        let ink = if is_ours {
            colour::VERMILLION
        } else {
            colour::INK
        };
        write(
            area,
            peers::label(id),
            (left + 42, middle),
            Align::Left,
            13,
            is_ours,
            ink,
        )?;
    }
    Ok(())
}

fn path(area: &Area, id: &str, points: &[(i32, i32)]) -> Result<(), String> {
    let look = look(id);
    let style = look.colour.stroke_width(look.width);
    match look.dashes {
        None => area
            .draw(&PathElement::new(points.to_vec(), style))
            .map_err(failure),
        Some((dash, gap)) => {
            let path = DashedPathElement::new(points.iter().copied(), dash, gap, style);
            area.draw(&path).map_err(failure)
        }
    }
}

/// How many letters of a title fit beside the name of the vertical axis, which stands in the same
/// line.
fn letters_of_title(width: i32, beside: &str) -> usize {
    /// About what a letter takes up, in the size of each.
    const LETTER: (i32, i32) = (8, 7);
    let beside = LETTER.1 * beside.chars().count() as i32;
    ((width - beside - 12) / LETTER.0).max(0) as usize
}

fn one(
    area: &Area,
    panel: &Panel,
    (left, top): (i32, i32),
    (width, height): (i32, i32),
) -> Result<(), String> {
    let inner_width = f64::from(width - LEFT - RIGHT);
    let inner_height = f64::from(height - TOP - BOTTOM);
    let x = |value: f64| left + LEFT + (panel.x.share(value) * inner_width) as i32;
    let y = |value: f64| top + height - BOTTOM - (panel.y.share(value) * inner_height) as i32;
    let (x_range, y_range) = (panel.x.range, panel.y.range);
    let (first, last) = (x(x_range.0), x(x_range.1));
    let (lowest, highest) = (y(y_range.0), y(y_range.1));

    write(
        area,
        &shortened(&panel.title, letters_of_title(last - first, &panel.y.label)),
        (first, top + 12),
        Align::Left,
        15,
        true,
        colour::INK,
    )?;
    let rule = |from, to| {
        area.draw(&PathElement::new(vec![from, to], colour::GRID))
            .map_err(failure)
    };
    for (value, name) in &panel.y.ticks {
        let at = y(*value);
        rule((first, at), (last, at))?;
        write(
            area,
            name,
            (first - 6, at),
            Align::Right,
            12,
            false,
            colour::DARK_GREY,
        )?;
    }
    for (value, name) in &panel.x.ticks {
        let at = x(*value);
        rule((at, lowest), (at, highest))?;
        let below = (at, lowest + 14);
        write(
            area,
            name,
            below,
            Align::Middle,
            12,
            false,
            colour::DARK_GREY,
        )?;
    }
    let below = (i32::midpoint(first, last), lowest + 34);
    write(
        area,
        &panel.x.label,
        below,
        Align::Middle,
        12,
        false,
        colour::INK,
    )?;
    // The other axis is named where a reader begins, without text that stands upright.
    let above = (last, top + 14);
    write(
        area,
        &panel.y.label,
        above,
        Align::Right,
        12,
        false,
        colour::INK,
    )?;

    // From the back of the legend to its front, haybox at the end.
    let others = ORDER.iter().rev().filter(|id| **id != "haybox");
    for id in others.chain(&["haybox"]) {
        for line in panel.lines.iter().filter(|line| line.id == *id) {
            let points: Vec<(i32, i32)> = line
                .points
                .iter()
                .map(|(across, up)| (x(*across), y(*up)))
                .collect();
            if points.len() > 1 {
                path(area, id, &points)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// All that a part draws lines of.
    fn drawn() -> Vec<&'static str> {
        let peers = peers::ALL.iter().chain([&peers::PROMPT_MOKA]);
        let others = ["lru", "optimum", "clock"];
        peers.map(|info| info.id).chain(others).collect()
    }

    #[test]
    fn every_line_is_in_the_legend() {
        for id in drawn() {
            assert!(ORDER.contains(&id), "{id} would not be drawn");
        }
    }

    #[test]
    fn no_two_lines_look_alike() {
        let mut looks = HashSet::new();
        for id in drawn() {
            let Look {
                colour: RGBColor(red, green, blue),
                width,
                dashes,
            } = look(id);
            assert!(
                looks.insert((red, green, blue, width, dashes)),
                "{id} looks as another does"
            );
        }
    }

    /// A picture of one panel with a single line.
    fn drawing(title: &str, id: &str) -> String {
        let axis = |label: &str| Axis {
            label: label.to_string(),
            range: (0.0, 1.0),
            ticks: Vec::new(),
        };
        let panel = Panel {
            title: title.to_string(),
            x: axis("x"),
            y: axis("hits, percent"),
            lines: vec![Line::new(id, vec![(0.0, 0.0), (1.0, 1.0)])],
        };
        let size = (440, 330);
        draw("title", "", &[panel], 1, size, &Machine::default()).unwrap()
    }

    #[test]
    fn moka_that_keeps_its_bound_is_drawn() {
        assert!(drawing("zipf", "moka-prompt").contains("moka, bound kept"));
    }

    #[test]
    fn a_long_title_does_not_run_into_the_name_of_the_axis() {
        let name = "a-name-of-more-than-forty-letters-of-the-year-2024";
        let svg = drawing(name, "moka");
        assert!(!svg.contains(name));
        // Names of traces tell themselves apart at either end.
        assert!(
            svg.contains("a-name-of-more") && svg.contains("the-year-2024"),
            "{svg}"
        );
        assert!(drawing("zipf+scans", "moka").contains("zipf+scans"));
    }

    #[test]
    fn the_titles_of_the_latency_fit() {
        for id in ["grow", "grow-unbounded", "evict", "read-beside-writer"] {
            let title = crate::latency::label(id);
            let letters = letters_of_title(560 - LEFT - RIGHT, "time of an operation");
            assert_eq!(shortened(title, letters), title);
        }
    }
}
