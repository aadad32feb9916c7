//! A pair of coordinates as arrows from the origin, one per position.

use std::f64::consts::{PI, TAU};
use std::fmt::Write;

use posenc::curves::Arrow;

use super::page::ARROWS;
use super::{Panel, number, short};
use crate::export::axis::spread;
use crate::export::words::escape;

/// Dashes of the arrows, by position: with the labels they tell the arrows apart in grey.
const DASHES: [&str; 8] = ["", "9 4", "3 3", "12 3 3 3", "6 3", "2 4", "14 4", "5 2 1 2"];
/// Widths, by position: where arrows lie on each other, the first is the widest and all can be seen.
const WIDTHS: [f64; 8] = [5.0, 3.5, 2.75, 2.0, 1.75, 1.5, 1.5, 1.5];
/// Room beside the circle for labels, and above and below it for labels and titles.
const BESIDE: f64 = 38.0;
const ABOVE: f64 = 50.0;

/// Arrows of one pair; `titles`: the coordinate that runs to the right stands below, the one that runs upwards above.
pub fn panel(heading: String, captions: &[String], arrows: &[Arrow], titles: [&str; 2], width: f64) -> Panel {
    let top = 18.0 * captions.len() as f64;
    let radius = width / 2.0 - BESIDE;
    let (cx, cy) = (width / 2.0, top + ABOVE + radius);
    let longest = arrows.iter().map(|arrow| arrow.x.hypot(arrow.y)).fold(0.0, f64::max);
    let unit = if longest > 0.0 { radius / longest } else { radius };
    let mut body = String::new();
    for (i, caption) in captions.iter().enumerate() {
        let _ = write!(
            body,
            "<text class=\"tick\" x=\"0\" y=\"{}\">{}</text>",
            12.0 + 18.0 * i as f64,
            escape(caption)
        );
    }
    let reach = radius + 10.0;
    let _ = write!(
        body,
        "<circle class=\"grid\" cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\"/><path class=\"axis\" d=\"M{} {cy}H{}M{cx} {}V{}\"/>\
         <text class=\"title\" x=\"{cx}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"title\" x=\"{cx}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        cx - reach,
        cx + reach,
        cy - reach,
        cy + reach,
        cy + radius + 42.0,
        escape(titles[0]),
        cy - radius - 34.0,
        escape(titles[1])
    );
    ruler(&mut body, (cx, cy), radius, longest);
    let angles: Vec<f64> = arrows.iter().map(|arrow| arrow.y.atan2(arrow.x)).collect();
    // Labels at the rim, apart by what a line of text needs.
    let placed = spread(&angles, 24.0 / radius, -2.0 * PI, 2.0 * PI);
    for (i, (arrow, label)) in arrows.iter().zip(placed).enumerate() {
        let tip = (cx + arrow.x * unit, cy - arrow.y * unit);
        let _ = write!(body, "<g class=\"p{}\">", i % ARROWS.len());
        shaft(&mut body, (cx, cy), tip, i);
        let at = |r: f64| (cx + r * label.cos(), cy - r * label.sin());
        let (from, to) = ((radius + 4.0), (radius + 12.0));
        let tie = (cx + from * angles[i].cos(), cy - from * angles[i].sin());
        let _ = write!(
            body,
            "<path class=\"tie\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/></g>",
            tie.0,
            tie.1,
            at(to).0,
            at(to).1
        );
        let (x, y) = at(radius + 16.0);
        let anchor = match label.cos() {
            c if c > 0.35 => "start",
            c if c < -0.35 => "end",
            _ => "middle",
        };
        let _ = write!(
            body,
            "<text class=\"label halo\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + 4.5 - 5.0 * label.sin(),
            number(arrow.position)
        );
    }
    Panel {
        heading,
        width,
        height: top + 2.0 * (ABOVE + radius),
        body,
    }
}

/// One end of each axis, in the arrows' unit: the other ends are left to labels.
fn ruler(body: &mut String, (cx, cy): (f64, f64), radius: f64, longest: f64) {
    let text = number(if longest > 0.0 { longest } else { 1.0 });
    let _ = write!(
        body,
        "<path class=\"axis\" d=\"M{:.1} {cy}m0-3v6M{cx} {:.1}m-3 0h6\"/>\
         <text class=\"tick halo\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">−{text}</text><text class=\"tick halo\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        cx - radius,
        cy - radius,
        cx - radius,
        cy + 17.0,
        cx - 6.0,
        cy - radius + 16.0
    );
}

fn shaft(body: &mut String, from: (f64, f64), tip: (f64, f64), index: usize) {
    let (dx, dy) = (tip.0 - from.0, tip.1 - from.1);
    let length = dx.hypot(dy);
    if length < 1.0 {
        return;
    }
    let (ux, uy) = (dx / length, dy / length);
    let width = WIDTHS[index % WIDTHS.len()];
    let (long, half) = (8.0 + 1.6 * width, 3.0 + 0.9 * width);
    let neck = (tip.0 - ux * long, tip.1 - uy * long);
    let _ = write!(
        body,
        "<path class=\"shaft\" stroke-width=\"{width}\" stroke-dasharray=\"{}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>\
         <path class=\"head\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z\"/>",
        DASHES[index % DASHES.len()],
        from.0,
        from.1,
        neck.0 + ux,
        neck.1 + uy,
        tip.0,
        tip.1,
        neck.0 - uy * half,
        neck.1 + ux * half,
        neck.0 + uy * half,
        neck.1 - ux * half
    );
}

/// What each arrow is, one line each.
pub fn legend(arrows: &[Arrow], width: f64) -> Panel {
    let mut body = String::from(
        "<text class=\"title\" x=\"0\" y=\"14\">position</text><text class=\"title\" x=\"150\" y=\"14\">turned since 0</text>",
    );
    for (i, arrow) in arrows.iter().enumerate() {
        let y = 40.0 + 26.0 * i as f64;
        let _ = write!(body, "<g class=\"p{}\">", i % ARROWS.len());
        shaft(&mut body, (0.0, y - 4.0), (64.0, y - 4.0), i);
        let _ = write!(
            body,
            "</g><text class=\"label\" x=\"80\" y=\"{y}\">{}</text><text class=\"label\" x=\"150\" y=\"{y}\">{:.1}° ({} turns)</text>",
            number(arrow.position),
            arrow.angle.to_degrees(),
            short(arrow.angle / TAU)
        );
    }
    Panel {
        heading: String::new(),
        width,
        height: 40.0 + 26.0 * arrows.len() as f64,
        body,
    }
}
