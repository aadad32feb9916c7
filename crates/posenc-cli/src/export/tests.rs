//! The page and the table over the pilot's numbers, and over comparisons that have next to nothing in them.

use posenc_lab::results::{Outcome, Reach, Results, Run, Verdict};
use posenc_lab::scalings::{Scaled, ScalingMethod, scaled_verdicts, scaling_checks};

use super::{command, fixture, html, table};

/// Every start tag has its end tag, in order, and every attribute is quoted. Small, but it reads the whole page.
fn well_formed(html: &str) -> Result<(), String> {
    const VOID: [&str; 4] = ["meta", "link", "br", "hr"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    while let Some(start) = rest.find('<') {
        if rest[..start].contains('>') && open.last() != Some(&"style") {
            return Err(format!("a bare > in {:?}", &rest[..start]));
        }
        let end = start + rest[start..].find('>').ok_or("a tag without end")?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?}"));
            }
        } else {
            if tag.matches('"').count() % 2 != 0
                || tag.matches('=').count()
                    > tag.matches("=\"").count() + tag.matches(", initial-scale=1").count() + tag.matches("width=device").count()
            {
                return Err(format!("an unquoted attribute in <{tag}>"));
            }
            if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("left open: {open:?}"))
    }
}

/// What must be true of everything that is written, whatever was measured.
fn check(results: &Results) -> String {
    let page = html::report(results);
    if let Err(fault) = well_formed(&page) {
        panic!("{fault}");
    }
    let text = table::table(results);
    for (what, text) in [("page", &page), ("table", &text)] {
        for bad in ["NaN", "inf,", ">inf", "None", "Some("] {
            assert!(!text.contains(bad), "{bad} in the {what}");
        }
    }
    for number in page.split(['"', ' ', 'M', 'L', 'H', 'V']) {
        assert!(number != "inf" && number != "-inf" && number != "nan");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    for outside in ["http", "src=", "<script", "@import", "url(h"] {
        assert!(!page.contains(outside), "{outside}: the page must stand alone");
    }
    page
}

/// The comparison with some encodings only.
fn only(names: &[&str]) -> Results {
    let mut results = fixture::pilot();
    let keep = |name: &String| names.contains(&name.as_str());
    results.config.encodings.retain(keep);
    results.runs.retain(|run| keep(&run.encoding));
    results.verdicts.retain(|verdict| keep(&verdict.encoding));
    judge_scaled(&mut results);
    results
}

/// What follows from the scaled readings that are left.
fn judge_scaled(results: &mut Results) {
    results.scaled_verdicts = scaled_verdicts(&results.config, &results.runs);
    results.scaling_checks = scaling_checks(&results.config, &results.runs);
}

fn first_lengths(results: &mut Results, n: usize) {
    results.config.lengths.truncate(n);
    results.runs.iter_mut().for_each(|run| run.lengths.truncate(n));
    results.verdicts.iter_mut().for_each(|verdict| verdict.lengths.truncate(n));
    let (lengths, trained) = (&results.config.lengths, results.config.training.length as f64);
    for run in &mut results.runs {
        let set_for = |scaled: &Scaled| (scaled.factor * trained) as usize;
        run.scaled.retain(|scaled| {
            lengths.contains(&scaled.length) && (scaled.scaling == ScalingMethod::Dynamic || lengths.contains(&set_for(scaled)))
        });
    }
    judge_scaled(results);
}

fn refuse_everything(results: &mut Results) {
    for run in &mut results.runs {
        run.training.clear();
        run.held_out.clear();
        run.scaled.clear();
        run.lengths
            .iter_mut()
            .for_each(|at| at.outcome = Outcome::Refused("head_dim 15 is odd: it cannot be rotated in pairs".into()));
    }
    for verdict in &mut results.verdicts {
        verdict.trained_loss = f64::NAN;
        verdict.converged = false;
        for at in &mut verdict.lengths {
            at.verdict = Reach::Refuses;
            at.rise.clear();
        }
    }
    judge_scaled(results);
}

#[test]
fn the_answer_comes_first_and_is_computed() {
    let page = check(&fixture::pilot());
    let lead = page
        .find("Trained on 64 tokens, <b>alibi</b> holds up to 8× (512 tokens), the longest length measured.")
        .unwrap();
    assert!(lead < page.find("<table").unwrap());
    for sentence in [
        "<b>clipped</b> and <b>t5</b> hold up to 2×, degrade at 4× and are broken at 8×.",
        "<b>rotary</b> holds up to 1.5× and is broken from 2× on.",
        "<b>learned</b> refuses from 1.5× on.",
        "<b>sinusoidal</b> is broken from 1.5× on.",
        "<b>none</b> is inconclusive at 1.5× (the seeds disagree).",
    ] {
        assert!(page.contains(sentence), "{sentence}");
    }
}

#[test]
fn the_report_contains_what_a_reader_needs() {
    let page = check(&fixture::pilot());
    for essential in [
        "Loss at 1× (64)",
        "1.5× (96)",
        "<b>broken</b>+0.97<small>+0.83 to +1.10</small>",
        "<b>inconclusive</b>+0.15",
        "<b>refuses</b>",
        "Aligned loss against context length",
        "Loss against position",
        "Mean loss over windows against context length",
        "Training curves",
        "bigram 2.43",
        "trained length 64",
        "position 64 is past the learned table of 64 positions",
        "How this was measured",
        "What this cannot say",
        "Nothing here is about retrieval",
        "Configuration",
        "1,500 steps (calibrated)",
        "posenc compare",
        "prefers-color-scheme: dark",
        "max-width: 760px",
    ] {
        assert!(page.contains(essential), "{essential}");
    }
    // Five plots, drawn for a wide and for a narrow page.
    assert_eq!(page.matches("<svg class=\"chart").count(), 10);
}

#[test]
fn the_table_fits_a_terminal() {
    let text = table::table(&fixture::pilot());
    assert!(text.starts_with("Trained on 64 tokens, alibi holds up to 8×"), "{text}");
    let rotary = text
        .lines()
        .find(|line| line.starts_with("rotary ") && line.contains("+0.07"))
        .unwrap();
    assert_eq!(
        rotary.split_whitespace().collect::<Vec<_>>(),
        ["rotary", "holds", "+0.07", "broken", "+0.97", "broken", "+2.47", "broken", "+2.85"]
    );
    assert!(text.contains("learned refuses 1.5× (96): position 64 is past the learned table of 64 positions"));
}

#[test]
fn the_scaled_model_has_its_section() {
    let page = check(&fixture::pilot());
    for essential in [
        "<h2>The trained rotary model, scaled</h2>",
        "<li><b>held</b>: Every scaling beats the unscaled model at 4× (256), where the difference of their losses is −0.69 to −0.50 (linear), ",
        "<li><b>held</b>: Linear scaling is worse than unscaled within the trained length: at 1× (64) by +0.61 (set for 1.5×), ",
        "change no bit: at 1× (64) the difference is 0 (linear), 0 (NTK-aware), 0 (YaRN) and 0 (dynamic NTK).",
        "<tr><th scope=\"row\">unscaled</th><td class=\"holds\"><b>holds</b>+0.07",
        "<tr><th scope=\"row\">YaRN</th><td class=\"holds\"><b>holds</b>+0.02",
        "but read at 1× (64)",
        "Aligned loss against context length, scaled",
        "<dt>Scalings</dt><dd>linear, ntk, yarn, dynamic</dd>",
    ] {
        assert!(page.contains(essential), "{essential}");
    }
    let text = table::table(&fixture::pilot());
    let line = |start: &str| -> Vec<String> {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
        lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(
        line("YaRN "),
        [
            "YaRN holds +0.02 holds +0.07 degrades +0.39 broken +1.07",
            "YaRN holds +0.01 holds +0.05 inconclusive +0.19 degrades +0.35"
        ]
    );
    assert_eq!(line("unscaled "), ["unscaled holds +0.07 broken +0.97 broken +2.47 broken +2.85"]);
    assert_eq!(line("held: ").len(), 3, "{text}");
    // Nothing scaled, no section.
    let without = only(&["learned", "alibi"]);
    assert!(!check(&without).contains("scaled</h2>") && !table::table(&without).contains("scaled"));
}

#[test]
fn a_claim_that_fails_is_said_with_its_numbers() {
    let mut results = fixture::pilot();
    let is = |scaled: &&mut Scaled, scaling, length| scaled.scaling == scaling && scaled.length == length;
    for run in results.runs.iter_mut().filter(|run| run.encoding == "rotary") {
        run.scaled
            .iter_mut()
            .find(|scaled| is(scaled, ScalingMethod::Linear, 256))
            .unwrap()
            .aligned = 4.35;
        let same = run.scaled.iter_mut().find(|scaled| is(scaled, ScalingMethod::Yarn, 64)).unwrap();
        same.aligned = f64::from_bits(same.aligned.to_bits() + 1);
        if run.seed == 1 {
            run.scaled
                .iter_mut()
                .find(|scaled| is(scaled, ScalingMethod::Linear, 64) && scaled.factor == 2.0)
                .unwrap()
                .aligned = f64::NAN;
        }
    }
    judge_scaled(&mut results);
    let page = check(&results);
    for said in [
        "<b>not held</b>: Every scaling beats the unscaled model at 4× (256), where the difference of their losses is +0.25 (linear, with no seed), ",
        "<b>not held</b>: A factor of 1",
        "2e−16 (YaRN, with no seed)",
        "<b>inconclusive</b>: Linear scaling is worse",
        "no number (set for 2×, the seeds disagree)",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(table::table(&results).contains("not held: Every scaling beats"));
}

#[test]
fn a_folder_can_hold_next_to_nothing() {
    for names in [&["rotary"][..], &["learned"], &["none", "alibi"], &[]] {
        for lengths in [1, 2, 5] {
            for seeds in [1, 2] {
                for refuse in [false, true] {
                    let mut results = only(names);
                    first_lengths(&mut results, lengths);
                    results.config.seeds.truncate(seeds);
                    let kept = results.config.seeds.clone();
                    results.runs.retain(|run| kept.contains(&run.seed));
                    judge_scaled(&mut results);
                    results
                        .verdicts
                        .iter_mut()
                        .flat_map(|verdict| &mut verdict.lengths)
                        .for_each(|at| at.rise.truncate(seeds));
                    if refuse {
                        refuse_everything(&mut results);
                    }
                    check(&results);
                }
            }
        }
    }
}

#[test]
fn a_single_length_is_no_statement_about_longer_ones() {
    let mut results = fixture::pilot();
    first_lengths(&mut results, 1);
    assert!(check(&results).contains("nothing past the trained length was measured"));
}

#[test]
fn a_diverged_run_is_shown_as_such() {
    let mut results = fixture::pilot();
    if let Outcome::Measured(losses) = &mut results.runs[6].lengths[4].outcome {
        (losses.mean, losses.aligned) = (f64::NAN, f64::INFINITY);
        losses.per_position.fill(f64::NAN);
    }
    results.runs[8].held_out[30].loss = f64::INFINITY;
    results.verdicts[3].lengths[4].rise[0] = f64::INFINITY;
    check(&results);
    // A loss far beyond the unigram's is cut off instead of flattening the rest.
    if let Outcome::Measured(losses) = &mut results.runs[6].lengths[3].outcome {
        losses.aligned = 1e6;
    }
    let page = check(&results);
    assert!(!page.contains("1000000"));
}

#[test]
fn an_unfinished_model_is_flagged_and_not_judged() {
    let mut results = fixture::pilot();
    results.verdicts[0].converged = false;
    let page = check(&results);
    assert!(page.contains("Not judged here: <b>none</b> has not converged."));
    assert_eq!(page.matches("<span class=\"flag\">not converged</span>").count(), 1);
    assert!(table::table(&results).lines().any(|line| line.starts_with("none *")));
    results.verdicts.iter_mut().for_each(|verdict| verdict.converged = false);
    assert!(check(&results).contains("No encoding had converged after 1,500 steps"));
}

#[test]
fn names_and_paths_cannot_break_what_is_written() {
    let mut results = fixture::pilot();
    let odd = "<b>&\"'>, an encoding with a name that is longer than any table has room for";
    results.config.encodings[3] = odd.into();
    results.config.text.name = "/tmp/it's <here>.txt".into();
    results
        .runs
        .iter_mut()
        .filter(|run| run.encoding == "rotary")
        .for_each(|run| run.encoding = odd.into());
    results.verdicts[3].encoding = odd.into();
    judge_scaled(&mut results);
    check(&results);
    assert!(command::command(&results.config).contains(r"--text '/tmp/it'\''s <here>.txt'"));
}

/// Four times the pilot's encodings: more than there are colours, dashes or markers.
fn many() -> Results {
    let pilot = fixture::pilot();
    let mut results = pilot.clone();
    for copy in 1..4 {
        let rename = |name: &str| format!("{name}-variant-{copy}");
        results
            .config
            .encodings
            .extend(pilot.config.encodings.iter().map(|name| rename(name)));
        results.runs.extend(pilot.runs.iter().cloned().map(|run| Run {
            encoding: rename(&run.encoding),
            ..run
        }));
        results.verdicts.extend(pilot.verdicts.iter().cloned().map(|verdict| Verdict {
            encoding: rename(&verdict.encoding),
            ..verdict
        }));
    }
    results
}

#[test]
fn many_encodings_still_fit() {
    check(&many());
}

#[test]
fn the_command_names_every_number() {
    let config = fixture::pilot().config;
    let command = command::command(&config);
    for part in [
        "none,learned,sinusoidal,rotary",
        "--seeds 0,1",
        "--steps 1500",
        "--lengths 64,96,128,256,512",
        "--learning-rate 0.003",
        "--betas 0.9,0.95",
    ] {
        assert!(command.contains(part), "{part} in {command}");
    }
    assert!(!command.contains("--text"), "the bundled text needs no path");
}

/// The pilot's report, a crowded and two almost empty ones are whole pages; in the folder that `POSENC_REPORT_DIR` names, if it does, they can be looked at in a browser.
#[test]
fn full_crowded_and_empty_reports_are_whole_pages() {
    let folder = std::env::var_os("POSENC_REPORT_DIR").map(std::path::PathBuf::from);
    let mut little = only(&["rotary", "learned"]);
    first_lengths(&mut little, 1);
    little.config.seeds.truncate(1);
    little.runs.retain(|run| run.seed == 0);
    little.verdicts[1].converged = false;
    let mut nothing = only(&["rotary"]);
    refuse_everything(&mut nothing);
    for (name, results) in [
        ("report", fixture::pilot()),
        ("many", many()),
        ("little", little),
        ("nothing", nothing),
    ] {
        let (page, text) = (html::report(&results), table::table(&results));
        assert!(
            page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"),
            "{name}"
        );
        for (what, contents) in [("page", &page), ("table", &text)] {
            assert!(
                !contents.contains("NaN") && !contents.contains("inf "),
                "{name}: the {what} shows a number that is none"
            );
        }
        if let Some(folder) = &folder {
            std::fs::write(folder.join(format!("{name}.html")), page).unwrap();
            std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
        }
    }
}
