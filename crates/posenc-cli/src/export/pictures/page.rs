//! A picture as one SVG file that stands alone: title, notes and panels on a sheet, with colours for light and dark.

use std::fmt::Write;

use super::{Panel, Picture};
use crate::columns::wrap;
use crate::export::words::escape;

/// Which colours a sheet has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Theme {
    /// Light, or dark where the viewer prefers that and reads media queries.
    Viewer,
    Light,
    Dark,
}

/// Stands in every file, so that a picture is known from a file that only has its name.
pub const MARK: &str = "posenc show";

/// Width of a chart, and of a full row of panels.
pub const WIDTH: f64 = 900.0;
const MARGIN: f64 = 28.0;
const GAP: f64 = 16.0;
/// Height of a panel's heading.
const HEADING: f64 = 26.0;
/// Baselines of the title and the first note, and from note to note.
const TITLE: f64 = 46.0;
const NOTES: f64 = 72.0;
const LEADING: f64 = 19.0;
/// Characters of a note's line that surely fit the sheet.
const COLUMNS: usize = 122;

/// The report's style sheet: its colours are the only ones.
const REPORT: &str = include_str!("../style.css");

/// What panels draw with, in terms of the colours' names. `--c` is the colour of the group `.s0` … `.s7` that holds the element, `--p` of the group `.p0` … `.p7`.
const RULES: &str = "\
text { font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \"Liberation Sans\", Arial, \"DejaVu Sans\", sans-serif; }
.paper { fill: var(--bg); }
.heading { font-size: 21px; fill: var(--ink); } .panel { font-size: 15px; fill: var(--ink); } .note { font-size: 13px; fill: var(--muted); }
.tick { font-size: 12px; fill: var(--muted); } .title { font-size: 12px; fill: var(--ink); } .label { font-size: 13px; fill: var(--ink); } .muted { fill: var(--muted); }
.halo { paint-order: stroke; stroke: var(--bg); stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; } .axis { stroke: var(--muted); stroke-width: 1; fill: none; }
.mark { stroke: var(--ink); stroke-width: 1.25; } .reference { stroke: var(--muted); stroke-dasharray: 1 4; stroke-width: 1.5; stroke-linecap: round; }
.blank { fill: var(--grid); } .hatch { stroke: var(--muted); stroke-width: 1; opacity: .55; fill: none; }
.line { fill: none; stroke: var(--c); stroke-width: 2.25; stroke-linejoin: round; } .band { fill: var(--c); opacity: .16; }
.dot { fill: var(--c); stroke: var(--bg); stroke-width: 1; } .open { fill: var(--bg); stroke: var(--c); stroke-width: 1.75; }
.leader { stroke: var(--c); opacity: .55; } .stop { stroke: var(--c); stroke-width: 2.25; fill: none; }
.shaft { stroke: var(--p); fill: none; } .head { fill: var(--p); } .tie { stroke: var(--p); stroke-width: 1; fill: none; opacity: .6; }
";

/// The document's colours of positions, in its order: black, red, blue, green; then others.
pub const ARROWS: [&str; 8] = ["ink", "red", "c0", "c2", "c1", "c3", "c5", "c4"];
const SERIES: [&str; 8] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];

/// The picture as a file.
pub fn svg(picture: &Picture, theme: Theme) -> String {
    let notes: Vec<String> = picture.notes.iter().flat_map(|note| wrap(note, COLUMNS)).collect();
    let mut y = NOTES + LEADING * notes.len() as f64 + 8.0;
    let mut panels = String::new();
    for row in &picture.rows {
        let heading = if row.iter().any(|panel| !panel.heading.is_empty()) {
            HEADING
        } else {
            0.0
        };
        let mut x = MARGIN;
        for Panel {
            heading: text,
            width,
            body,
            ..
        } in row
        {
            if !text.is_empty() {
                let _ = write!(
                    panels,
                    "<text class=\"panel\" x=\"{x}\" y=\"{:.1}\">{}</text>",
                    y + 16.0,
                    escape(text)
                );
            }
            let _ = writeln!(panels, "<g transform=\"translate({x} {:.1})\">{body}</g>", y + heading);
            x += width + GAP;
        }
        y += heading + row.iter().map(|panel| panel.height).fold(0.0, f64::max) + GAP;
    }
    let (width, height) = (WIDTH + 2.0 * MARGIN, y + MARGIN - GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" viewBox=\"0 0 {width} {height:.0}\" role=\"img\">\n\
         <title>{0}</title>\n<desc>{1} Written by {MARK}.</desc>\n<style>\n{2}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height:.0}\"/>\n\
         <text class=\"heading\" x=\"{MARGIN}\" y=\"{TITLE}\">{0}</text>\n",
        escape(&picture.title),
        escape(&picture.notes.join(" ")),
        style(theme),
    );
    for (i, note) in notes.iter().enumerate() {
        let at = NOTES + LEADING * i as f64;
        let _ = writeln!(out, "<text class=\"note\" x=\"{MARGIN}\" y=\"{at}\">{}</text>", escape(note));
    }
    out.push_str(&panels);
    out.push_str("</svg>\n");
    out
}

fn style(theme: Theme) -> String {
    match theme {
        Theme::Light => rules(&palette(false)),
        Theme::Dark => rules(&palette(true)),
        Theme::Viewer => format!(
            "{}@media (prefers-color-scheme: dark) {{\n{}}}\n",
            rules(&palette(false)),
            rules(&palette(true))
        ),
    }
}

/// Names and values of the colours in the report's style sheet, its first set or its second.
fn palette(dark: bool) -> Vec<(&'static str, &'static str)> {
    let set = REPORT
        .split(":root {")
        .nth(1 + usize::from(dark))
        .and_then(|rest| rest.split('}').next());
    let declarations = set.unwrap_or_default().split(';');
    declarations
        .filter_map(|declaration| declaration.trim().strip_prefix("--")?.split_once(": "))
        .collect()
}

/// The rules with the colours filled in: viewers of pictures do not all read variables.
fn rules(palette: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for rule in RULES.split_inclusive('}') {
        let groups: &[(&str, &[&str])] = match rule {
            rule if rule.contains("var(--c)") => &[("s", &SERIES)],
            rule if rule.contains("var(--p)") => &[("p", &ARROWS)],
            _ => &[("", &[""])],
        };
        for (group, colours) in groups {
            for (i, colour) in colours.iter().enumerate() {
                let variable = if *group == "s" { "var(--c)" } else { "var(--p)" };
                let rule = rule.trim_start().replace(variable, &format!("var(--{colour})"));
                if !group.is_empty() {
                    let _ = write!(out, ".{group}{i} ");
                }
                let _ = writeln!(out, "{}", filled(&rule, palette));
            }
        }
    }
    out
}

fn filled(rule: &str, palette: &[(&str, &str)]) -> String {
    palette.iter().fold(rule.to_string(), |rule, (name, value)| {
        rule.replace(&format!("var(--{name})"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_filled_in() {
        for theme in [Theme::Light, Theme::Dark, Theme::Viewer] {
            let style = style(theme);
            assert!(!style.contains("var("), "{style}");
            assert!(style.contains(".s7 .line") && style.contains(".p1 .shaft") && style.contains(".paper"));
        }
        assert!(palette(false).contains(&("bg", "#fff")) && palette(true).contains(&("bg", "#14171b")));
        assert!(style(Theme::Viewer).contains("prefers-color-scheme: dark") && !style(Theme::Dark).contains("@media"));
    }
}
