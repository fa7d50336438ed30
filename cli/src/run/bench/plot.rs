//! Benchmark plot: bars on a logarithmic scale, as SVG that is legible on light and dark.

use std::fmt::Write as _;

use super::STEPS;
use super::report::{BenchReport, How, ReportLine};
use crate::ui;

const WIDTH: u32 = 860;
const LABEL_WIDTH: u32 = 200;
const VALUE_WIDTH: u32 = 90;
const TOP: u32 = 84;
const BAR: u32 = 11;
const ROW: u32 = 2 * BAR + 12;

/// The plotted steps, with their classes.
const DRAWN: [(usize, &str); 2] = [(0, "first"), (1, "update")];

/// The colours follow the viewer's choice of light or dark.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}
.small{font-size:10px}
.title{font-size:14px;font-weight:600}
.grid{stroke:#8c959f;stroke-opacity:.35}
.first{fill:#8c959f}
.update{fill:#0969da}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.first{fill:#6e7681}.update{fill:#4493f8}}
";

/// Draws the plot.
pub(super) fn draw(report: &BenchReport) -> String {
    let lines: Vec<_> = report.lines.iter().collect();
    let scale = Scale::of(&lines);
    let height = TOP + lines.len() as u32 * ROW + 30;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Bytes of publishing, by each way</title>\n<style>{STYLE}</style>\n"
    );
    text(&mut svg, (10, 22), "title", "Bytes both ways, logarithmic");
    text(&mut svg, (10, 40), "small", &report.sentence());
    for (at, (step, class)) in DRAWN.into_iter().enumerate() {
        let x = LABEL_WIDTH + at as u32 * 120;
        rect(&mut svg, (x, 50), BAR, class);
        text(&mut svg, (x + 14, 59), "small", STEPS[step]);
    }
    grid(&mut svg, &scale, height - 24);
    for (at, line) in lines.iter().enumerate() {
        bars(&mut svg, &scale, TOP + at as u32 * ROW, line);
    }
    svg.push_str("</svg>\n");
    svg
}

fn bars(svg: &mut String, scale: &Scale, y: u32, line: &ReportLine) {
    text(svg, (10, y + 15), "", line.what);
    if let How::Absent(why) = &line.how {
        text(svg, (LABEL_WIDTH + 4, y + 15), "small", why);
        return;
    }
    for (at, (step, class)) in DRAWN.into_iter().enumerate() {
        let Some(cost) = line.cost(step) else {
            continue;
        };
        let y = y + at as u32 * BAR;
        let length = scale.length(cost.bytes());
        rect(svg, (LABEL_WIDTH, y), length, class);
        let x = LABEL_WIDTH + length + 4;
        text(svg, (x, y + 9), "small", &ui::bytes(cost.bytes()));
    }
}

fn grid(svg: &mut String, scale: &Scale, bottom: u32) {
    for power in scale.least..=scale.most {
        let bytes = 10_u64.pow(power);
        let x = LABEL_WIDTH + scale.length(bytes);
        let top = TOP - 6;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>"
        );
        text(svg, (x + 2, bottom + 12), "small", &ui::bytes(bytes));
    }
}

fn rect(svg: &mut String, (x, y): (u32, u32), width: u32, class: &str) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (u32, u32), class: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
    );
}

/// XML 1.0, section 2.4. Characters that XML does not allow appear as on the terminal.
fn escaped(text: &str) -> String {
    let text = ui::escaped(text);
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// Scale from bytes to the length of a bar.
struct Scale {
    least: u32,
    most: u32,
}

impl Scale {
    /// From the power of ten below the smallest number to the one above the greatest.
    fn of(lines: &[&ReportLine]) -> Self {
        let steps = DRAWN.map(|(step, _)| step);
        let costs = lines
            .iter()
            .flat_map(|line| steps.map(|step| line.cost(step)));
        let bytes = costs.flatten().map(|cost| cost.bytes().max(1));
        let least = bytes.clone().min().unwrap_or(1).ilog10();
        let most = bytes.max().unwrap_or(1).ilog10() + 1;
        Self {
            least,
            most: most.min(u64::MAX.ilog10()),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a bar is as long as some hundred pixels, and never negative"
    )]
    fn length(&self, bytes: u64) -> u32 {
        let room = f64::from(WIDTH - LABEL_WIDTH - VALUE_WIDTH);
        let powers = (bytes.max(1) as f64).log10() - f64::from(self.least);
        let share = powers / f64::from(self.most - self.least);
        (room * share.clamp(0.0, 1.0)).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Cost;
    use super::*;

    fn line(what: &'static str, bytes: &[u64], how: How) -> ReportLine {
        let cost = |sent: &u64| Cost {
            sent: *sent,
            ..Cost::default()
        };
        ReportLine {
            name: "pmx",
            what,
            how,
            costs: bytes.iter().map(cost).collect(),
        }
    }

    #[test]
    fn bars_grow_with_the_power_of_ten() {
        let lines = [
            line("a", &[1_000_000, 100], How::Computed),
            line("b", &[10_000, 0], How::Computed),
        ];
        let scale = Scale::of(&lines.iter().collect::<Vec<_>>());
        assert_eq!((scale.least, scale.most), (0, 7));
        let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
        for (bytes, length) in [(0, 0), (1, 0), (10_000_000, room), (u64::MAX, room)] {
            assert_eq!(scale.length(bytes), length, "{bytes}");
        }
        assert!(scale.length(1000) < scale.length(10_000));
        let none = Scale::of(&[]);
        assert_eq!((none.length(1), none.length(10)), (0, room));
    }

    #[test]
    fn text_can_not_end_an_element() {
        let why = "<script> & \"x\"\u{1b}".to_owned();
        let report = BenchReport {
            from: pmx_sync::manifest::Totals::default(),
            to: pmx_sync::manifest::Totals::default(),
            difference: pmx_sync::wire::Summary::default(),
            lines: vec![line("git", &[], How::Absent(why))],
        };
        let svg = draw(&report);
        assert!(svg.contains("&lt;script&gt; &amp; \"x\"\\u{1b}"), "{svg}");
        assert!(!svg.contains("<script"));
    }
}
