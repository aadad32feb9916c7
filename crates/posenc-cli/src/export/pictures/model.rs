//! What a model's file says, drawn: the wavelengths of its pairs against the lengths that it names and the one that was asked for.

use posenc::explain::{Incomplete, ModelExplanation, PlanExplanation};

use super::{Csv, Picture, chart};
use crate::export::axis::{Scale, decades};
use crate::export::svg::{Chart, Series};
use crate::export::words::{count, extent};
use crate::failure::Failure;

/// Tokens for a turn of each pair, a line for each way in which layers turn by tokens.
///
/// # Errors
/// A file whose layers do not turn by tokens.
pub fn wavelengths(model: &ModelExplanation) -> Result<Picture, Failure> {
    let mut csv = Csv::new("part,layers,pair,wavelength");
    let (mut series, mut references) = (Vec::<Line>::new(), Vec::<(f64, String)>::new());
    let mut notes = Vec::new();
    let turn = |plan: &&PlanExplanation| plan.rotary.as_ref().is_some_and(|facts| !facts.grid && facts.turning > 0);
    // A part is named where several turn.
    let several = model.parts.iter().filter(|part| part.plans.iter().any(|plan| turn(&plan))).count() > 1;
    for part in &model.parts {
        let plans: Vec<&PlanExplanation> = part.plans.iter().filter(turn).collect();
        if plans.is_empty() {
            continue;
        }
        let lengths = [
            (part.lengths.original, "before scaling"),
            (part.lengths.named, "as the file says"),
            (part.lengths.reach, "by its scaling"),
            (part.length, "the sequence"),
        ];
        for (length, what) in lengths {
            let Some(at) = length.map(|length| length as f64) else { continue };
            match references.iter_mut().find(|(other, _)| *other == at) {
                Some((_, text)) if what == "the sequence" => *text += ", the sequence",
                Some(_) => {}
                None => references.push((at, format!("{} tokens, {what}", count(at as usize)))),
            }
        }
        for plan in plans {
            let Some(facts) = &plan.rotary else { continue };
            let name = name(if several { &part.path } else { "" }, plan);
            let mut line = |before: bool, waves: &[Option<f64>]| {
                let points = waves.iter().enumerate().filter_map(|(pair, wave)| Some((pair as f64, (*wave)?)));
                let points: Vec<(f64, f64)> = points.collect();
                let label = if before { format!("{name}, before scaling") } else { name.clone() };
                for (pair, wave) in &points {
                    csv.row(&[&part.path, &label, pair, wave]);
                }
                // Another plan may turn by the same frequencies.
                match series.iter_mut().find(|other| other.before == before && other.points == points) {
                    Some(other) if !other.names.contains(&name) => other.names.push(name.clone()),
                    Some(_) => {}
                    None => series.push(Line {
                        names: vec![name.clone()],
                        before,
                        points,
                    }),
                }
            };
            line(false, &facts.wavelengths);
            if let Some(scaled) = &facts.scaled {
                line(true, &scaled.wavelengths_before);
            }
            for incomplete in facts.incomplete.iter().filter(|incomplete| incomplete.pairs > 0) {
                let at = incomplete.length as f64;
                if references.iter().all(|(other, _)| *other != at) {
                    references.push((at, format!("{} tokens, {name}", count(incomplete.length))));
                }
                // Behind a window both are the same.
                let twin = |other: &Incomplete| other.scaled && (other.length, other.pairs) == (incomplete.length, incomplete.pairs);
                let how = match incomplete.scaled {
                    false if facts.scaled.is_some() && facts.incomplete.iter().any(twin) => continue,
                    false if facts.scaled.is_some() => " before scaling",
                    _ => "",
                };
                notes.push(format!(
                    "{name}: {} of {} pairs never complete a turn in {} tokens{how}.",
                    incomplete.pairs,
                    facts.turning,
                    count(incomplete.length)
                ));
            }
        }
    }
    if series.is_empty() {
        return Err(Failure::Usage(
            "--plot draws how fast pairs turn by tokens, and no layer of this file does; leave it out".into(),
        ));
    }
    let series: Vec<Series> = series
        .into_iter()
        .enumerate()
        .map(|(i, line)| Series::over_seeds(i, &line.label(), &[line.points]))
        .collect();
    let values = series.iter().flat_map(|series: &Series| &series.points).map(|point| point.y);
    let (low, high) = extent(values.chain(references.iter().map(|(at, _)| *at))).unwrap_or((1.0, 10.0));
    let (low, high) = (low / 1.5, high * 1.5);
    let lines = Chart {
        id: "model",
        description: String::new(),
        scale: Scale::Linear,
        x_title: "pair of coordinates".into(),
        y_title: "wavelength: tokens per turn (log scale)".into(),
        y_scale: Scale::Log2,
        x_range: None,
        x_ticks: Vec::new(),
        y_range: (low, high),
        y_ticks: decades(low, high),
        marker: None,
        references,
        series,
    };
    notes.insert(
        0,
        "A pair above a line does not come round within that many tokens: training of that length showed only an arc of its circle.".into(),
    );
    Ok(Picture {
        name: "model".into(),
        title: format!("How fast the pairs of {} turn", model.model_type),
        notes,
        rows: vec![vec![chart("", &lines, 460.0)]],
        tables: vec![csv.table("")],
    })
}

/// A line of the picture.
struct Line {
    /// The plans that turn so.
    names: Vec<String>,
    /// As they would without their scaling.
    before: bool,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// `sliding and full attention, before scaling`; as short as there is room beside the lines.
    fn label(&self) -> String {
        /// Characters that fit.
        const LONGEST: usize = 44;
        let stems: Option<Vec<&str>> = self.names.iter().map(|name| name.strip_suffix(" attention")).collect();
        let label = match stems {
            Some(stems) if stems.len() > 1 => format!("{} attention", stems.join(" and ")),
            _ => self.names.join(" and "),
        };
        let before = if self.before { ", before scaling" } else { "" };
        match label.chars().count() + before.len() <= LONGEST {
            true => label + before,
            false => format!("{} kinds of layers{before}", self.names.len()),
        }
    }
}

fn name(path: &str, plan: &PlanExplanation) -> String {
    let own = plan.kind.as_deref().or(plan.dictionary.as_deref()).unwrap_or("all layers");
    match path {
        "" => own.replace('_', " "),
        path => format!("{path}: {}", own.replace('_', " ")),
    }
}
