//! What all pictures share: background, title, caption, text.

use crate::machine::Machine;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub mod colour {
    use plotters::style::RGBColor;

    pub const VERMILLION: RGBColor = RGBColor(213, 94, 0);
    pub const PALE_VERMILLION: RGBColor = RGBColor(240, 170, 120);
    pub const BLUE: RGBColor = RGBColor(0, 114, 178);
    pub const SKY: RGBColor = RGBColor(86, 180, 233);
    pub const GREEN: RGBColor = RGBColor(0, 158, 115);
    pub const PURPLE: RGBColor = RGBColor(204, 121, 167);
    pub const ORANGE: RGBColor = RGBColor(230, 159, 0);
    pub const GREY: RGBColor = RGBColor(175, 175, 175);
    pub const DARK_GREY: RGBColor = RGBColor(110, 110, 110);
    pub const INK: RGBColor = RGBColor(30, 30, 30);
    pub const GRID: RGBColor = RGBColor(226, 226, 226);
    pub const PAPER: RGBColor = RGBColor(255, 255, 255);
}

/// Above and below what is drawn.
pub const HEAD: u32 = 74;
pub const FOOT: u32 = 58;
pub const MARGIN: u32 = 22;

#[derive(Clone, Copy)]
pub enum Align {
    Left,
    Middle,
    Right,
}

/// Writes a line of text, centred on the height of its point.
pub fn write(
    area: &Area,
    text: &str,
    at: (i32, i32),
    align: Align,
    size: i32,
    is_bold: bool,
    colour: RGBColor,
) -> Result<(), String> {
    let horizontal = match align {
        Align::Left => HPos::Left,
        Align::Middle => HPos::Center,
        Align::Right => HPos::Right,
    };
    let weight = if is_bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    let style = ("sans-serif", size, weight)
        .into_font()
        .color(&colour)
        .pos(Pos::new(horizontal, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style))
        .map_err(failure)
}

pub fn failure(error: impl std::fmt::Display) -> String {
    format!("a chart cannot be drawn: {error}")
}

/// Draws a picture whose inside has this size, with a title and the machine around it.
pub fn picture(
    title: &str,
    subtitle: &str,
    (width, height): (u32, u32),
    machine: &Machine,
    inside: impl FnOnce(&Area) -> Result<(), String>,
) -> Result<String, String> {
    let mut svg = String::new();
    let (full_width, full_height) = (width + 2 * MARGIN, height + HEAD + FOOT);
    {
        let root = SVGBackend::with_string(&mut svg, (full_width, full_height)).into_drawing_area();
        root.fill(&colour::PAPER).map_err(failure)?;
        let left = MARGIN as i32;
        write(&root, title, (left, 26), Align::Left, 22, true, colour::INK)?;
        write(
            &root,
            subtitle,
            (left, 52),
            Align::Left,
            14,
            false,
            colour::DARK_GREY,
        )?;
        let caption = wrapped(&machine.caption(), full_width as usize / 7);
        let foot = (full_height - FOOT) as i32 + 18;
        for (line, text) in (0..).zip(&caption) {
            let at = (left, foot + 17 * line);
            write(&root, text, at, Align::Left, 12, false, colour::DARK_GREY)?;
        }
        let (x, y) = (MARGIN, HEAD);
        let area = root.margin(y, FOOT, x, x);
        inside(&area)?;
        root.present().map_err(failure)?;
    }
    Ok(svg)
}

/// The first line as it is, and the rest so that no line has more letters than fit.
fn wrapped(lines: &[String; 2], letters: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    for line in lines {
        let mut text = String::new();
        for part in line.split_inclusive(", ") {
            if text.len() + part.len() > letters {
                wrapped.push(std::mem::take(&mut text).trim().to_string());
            }
            text += part;
        }
        wrapped.push(text);
    }
    wrapped
}
