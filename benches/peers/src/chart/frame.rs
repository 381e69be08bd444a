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

/// Above what is drawn, and at its sides.
const HEAD: u32 = 74;
const MARGIN: u32 = 22;

/// The height of a line of the caption.
const LINE: u32 = 17;

/// The room for a caption of so many lines, below what is drawn.
fn foot(lines: usize) -> u32 {
    24 + LINE * lines as u32
}

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
    let full_width = width + 2 * MARGIN;
    let caption = wrapped(&machine.caption(), full_width as usize / 7);
    let foot = foot(caption.len());
    let full_height = height + HEAD + foot;
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
        for (line, text) in (0..).zip(&caption) {
            let at = (left, (HEAD + height + 18 + LINE * line) as i32);
            write(&root, text, at, Align::Left, 12, false, colour::DARK_GREY)?;
        }
        let area = root.margin(HEAD, foot, MARGIN, MARGIN);
        inside(&area)?;
        root.present().map_err(failure)?;
    }
    Ok(svg)
}

/// The lines so that none has more letters than fit. Versions and the like stay whole; where there
/// is no list of them, a line ends between two words or after a comma.
fn wrapped(lines: &[String], letters: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    for line in lines {
        let parts: Vec<&str> = if line.contains(", ") {
            line.split_inclusive(", ").collect()
        } else {
            line.split_inclusive([' ', ',']).collect()
        };
        let mut text = String::new();
        for part in parts {
            let part = shortened(part, letters);
            if !text.is_empty() && text.chars().count() + part.trim_end().chars().count() > letters
            {
                wrapped.push(std::mem::take(&mut text).trim().to_string());
            }
            text += &part;
        }
        wrapped.push(text.trim().to_string());
    }
    wrapped
}

/// A text of so many letters at most: its beginning and its end, where it has more.
pub fn shortened(text: &str, letters: usize) -> String {
    let count = text.chars().count();
    if count <= letters {
        return text.to_string();
    }
    let kept = letters.saturating_sub(1);
    let start = text.chars().take(kept.div_ceil(2));
    let end = text.chars().skip(count - kept / 2);
    start.chain(['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("zipf", 4), "zipf");
        assert_eq!(shortened("abcdefgh", 5), "ab…gh");
        assert_eq!(shortened("äöüäöüäö", 4), "äö…ö");
    }

    #[test]
    fn lines_are_no_longer_than_fits() {
        let long = "x".repeat(50);
        let lines = [
            "moka 0.12.1, scc 3.4.5, papaya 0.2.3".to_string(),
            format!("--only hits --peers haybox,moka,quick_cache --trace {long}"),
        ];
        let wrapped = wrapped(&lines, 26);
        assert_eq!(wrapped[..2], ["moka 0.12.1, scc 3.4.5,", "papaya 0.2.3"]);
        assert_eq!(wrapped[2], "--only hits --peers");
        assert_eq!(wrapped[3], "haybox,moka,quick_cache");
        assert!(
            wrapped.iter().all(|line| line.chars().count() <= 26),
            "{wrapped:?}"
        );
    }

    /// The number behind the first place where this name is.
    fn attribute(text: &str, name: &str) -> i32 {
        let rest = text.split_once(name).unwrap().1;
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn a_long_caption_is_drawn_below_the_picture_and_within_its_height() {
        let machine = Machine {
            command: "--only hits ".to_string() + &"--trace some-file.u64 ".repeat(30),
            ..Machine::default()
        };
        let svg = picture("title", "", (200, 100), &machine, |_| Ok(())).unwrap();
        let height = attribute(&svg, "height=\"");
        let texts = svg.split("<text ").skip(3);
        let at: Vec<i32> = texts.map(|text| attribute(text, " y=\"")).collect();
        assert!(at.len() > 4, "{svg}");
        assert!(at[0] > (HEAD + 100) as i32, "{at:?}");
        assert!(
            at.is_sorted_by(|above, below| above + 12 < *below),
            "{at:?}"
        );
        assert!(at[at.len() - 1] + 6 < height, "{at:?} of {height}");
    }
}
