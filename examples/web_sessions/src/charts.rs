//! Lines over time, as SVG that takes its colours from the stylesheet.

use std::fmt::Write;

/// One line: its name, the unit of its values, and how they are shown.
pub struct Chart<'v> {
    pub title: &'static str,
    pub unit: &'static str,
    /// One value for each second, the newest at the end.
    pub values: &'v [f64],
    /// The least that the top of the chart stands for.
    pub top: f64,
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 90.0;

impl Chart<'_> {
    /// A figure of `seconds` seconds, which end now.
    pub fn svg(&self, seconds: usize) -> String {
        let most = self.values.iter().copied().fold(self.top, f64::max);
        let step = WIDTH / (seconds - 1) as f64;
        let start = WIDTH - step * self.values.len().saturating_sub(1) as f64;
        let mut line = String::new();
        for (index, value) in self.values.iter().enumerate() {
            let (x, y) = (start + step * index as f64, HEIGHT - HEIGHT * value / most);
            let _ = write!(line, "{x:.1},{y:.1} ");
        }
        let last = self.values.last().copied().unwrap_or_default();
        format!(
            r#"<figure class="chart"><figcaption><span>{title}</span><b>{last}{unit}</b></figcaption>
<svg viewBox="0 -2 {WIDTH} 94" role="img" aria-label="{title} over the last {minutes} minutes, now {last}{unit}" preserveAspectRatio="none">
<line class="grid" x1="0" x2="{WIDTH}" y1="0" y2="0"/><line class="grid" x1="0" x2="{WIDTH}" y1="45" y2="45"/><line class="axis" x1="0" x2="{WIDTH}" y1="90" y2="90"/>
<polygon class="area" points="{start:.1},{HEIGHT} {line}{WIDTH},{HEIGHT}"/><polyline class="line" points="{line}"/></svg>
<div class="scale"><span>{minutes} min ago</span><span>top: {most}{unit}</span><span>now</span></div></figure>"#,
            title = self.title,
            unit = self.unit,
            last = short(last),
            most = short(most),
            minutes = seconds / 60,
        )
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_and_the_greatest_at_the_top() {
        let chart = |values| Chart {
            title: "load",
            unit: "/s",
            values,
            top: 1.0,
        };
        let svg = chart(&[0.0, 2.0, 1.0]).svg(5);
        assert!(
            svg.contains(r#"polyline class="line" points="160.0,90.0 240.0,0.0 320.0,45.0 ""#),
            "{svg}"
        );
        assert!(
            svg.contains("<b>1/s</b>") && svg.contains("top: 2/s"),
            "{svg}"
        );
        let empty = chart(&[]).svg(5);
        assert!(empty.contains(r#"points="""#), "{empty}");
    }
}
