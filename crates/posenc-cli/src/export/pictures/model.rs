//! What a model's file says, drawn: the wavelengths of its pairs against the lengths that it names and the one that was asked for.

use posenc::explain::{ModelExplanation, PlanExplanation};

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
    let (mut series, mut references) = (Vec::<(String, Vec<(f64, f64)>)>::new(), Vec::<(f64, String)>::new());
    let mut notes = Vec::new();
    for part in &model.parts {
        let plans: Vec<&PlanExplanation> = part
            .plans
            .iter()
            .filter(|plan| plan.rotary.as_ref().is_some_and(|facts| !facts.grid && facts.turning > 0))
            .collect();
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
            let name = name(part.path.as_str(), plan);
            let mut line = |name: &str, waves: &[Option<f64>]| {
                let points = waves.iter().enumerate().filter_map(|(pair, wave)| Some((pair as f64, (*wave)?)));
                let points: Vec<(f64, f64)> = points.collect();
                for (pair, wave) in &points {
                    csv.row(&[&part.path, &name, pair, wave]);
                }
                // Another plan may turn by the same frequencies.
                let twin = series.iter_mut().find(|other: &&mut (String, Vec<(f64, f64)>)| other.1 == points);
                match twin {
                    Some((other, _)) if other != name => *other += &format!(", {name}"),
                    Some(_) => {}
                    None => series.push((name.to_string(), points)),
                }
            };
            line(&name, &facts.wavelengths);
            if let Some(scaled) = &facts.scaled {
                line(&format!("{name}, before scaling"), &scaled.wavelengths_before);
            }
            for incomplete in facts.incomplete.iter().filter(|incomplete| incomplete.pairs > 0) {
                let how = if incomplete.scaled || facts.scaled.is_none() {
                    ""
                } else {
                    " before scaling"
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
        .map(|(i, (name, points))| Series::over_seeds(i, &name, &[points]))
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

fn name(path: &str, plan: &PlanExplanation) -> String {
    let own = plan.kind.as_deref().or(plan.dictionary.as_deref()).unwrap_or("all layers");
    match path {
        "" => own.replace('_', " "),
        path => format!("{path}: {}", own.replace('_', " ")),
    }
}
