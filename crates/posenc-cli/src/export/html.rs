//! `report.html`: one page that needs nothing else, no script, no network, no font. The answer stands first, then what it rests on, then what it cannot say.

use std::fmt::Write;

use posenc_lab::results::{Results, VerdictAt};
use posenc_lab::text::BUNDLED_NAME;
use posenc_lab::verdict::{BROKEN_ABOVE, HOLDS_BELOW, STILL_FALLING_ABOVE};

use super::answer::{self, Row};
use super::words::{self, escape};
use super::{command, plots, scaled, svg};

/// The page.
pub fn report(results: &Results) -> String {
    let rows = answer::rows(results);
    let title = match results.config.encodings.as_slice() {
        [one] => format!("What {one} does past its trained length"),
        many => format!("What {} position encodings do past their trained length", many.len()),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
        escape(&title),
        include_str!("style.css")
    );
    lead(&mut page, results);
    verdicts(&mut page, results, &rows);
    figures(&mut page, results, &rows);
    scaled::section(&mut page, results, &rows);
    refusals(&mut page, results, &rows);
    method(&mut page, results);
    limits(&mut page, results);
    configuration(&mut page, results, &rows);
    let _ = write!(
        page,
        "<footer>Written by posenc {} from <code>results.json</code> (schema {}), which holds every number shown here.</footer>\n</main>\n</body>\n</html>\n",
        escape(&results.posenc),
        results.schema
    );
    page
}

fn lead(page: &mut String, results: &Results) {
    let sentences = answer::answer(results, &|name| format!("<b>{}</b>", escape(name)));
    let mut sentences = sentences.into_iter();
    if let Some(first) = sentences.next() {
        let _ = writeln!(page, "<p class=\"lead\">{first}</p>");
    }
    let rest: Vec<String> = sentences.collect();
    if !rest.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", rest.join(" "));
    }
}

fn verdicts(page: &mut String, results: &Results, rows: &[Row]) {
    let trained = results.config.training.length;
    let past = || results.config.lengths.iter().copied().filter(move |&length| length != trained);
    let _ = write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Verdicts\">\n<table class=\"verdicts\">\n<thead><tr><th scope=\"col\">Encoding</th>\
         <th scope=\"col\">Loss at {}</th>",
        words::length(trained, trained)
    );
    for length in past() {
        let _ = write!(page, "<th scope=\"col\">{}</th>", words::length(length, trained));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}", escape(&row.verdict.encoding));
        if !row.verdict.converged && !row.runs.is_empty() && row.verdict.trained_loss.is_finite() {
            page.push_str("<small><span class=\"flag\">not converged</span></small>");
        }
        page.push_str("</th>");
        trained_cell(page, row, trained);
        for length in past() {
            match row.verdict.lengths.iter().find(|at| at.length == length) {
                Some(at) => cell(page, row, at),
                None => {
                    let _ = write!(page, "<td>{}</td>", words::NOTHING);
                }
            }
        }
        page.push_str("</tr>\n");
    }
    let seeds = results.config.seeds.len();
    let of_seeds = if seeds > 1 {
        format!("; the large number is the mean of {seeds} seeds, the small ones are the seeds’ range")
    } else {
        String::new()
    };
    let _ = write!(
        page,
        "</tbody>\n</table>\n</div>\n<p class=\"note\">Each cell: the verdict, and by how many nats per token the loss on the <em>same</em> targets rises when the context grows from \
         the trained length{of_seeds}. <b>holds</b>: by less than {HOLDS_BELOW}. <b>degrades</b>: by {HOLDS_BELOW} to {BROKEN_ABOVE}. <b>broken</b>: by more than {BROKEN_ABOVE}. <b>inconclusive</b>: the seeds fall into \
         different classes. <b>refuses</b>: the encoding does not run. <b>not converged</b>: held-out loss still fell by more than {STILL_FALLING_ABOVE} over the last tenth of the steps, or does not \
         beat the bigram. Rows stand by how far they hold, then by the loss at the trained length; a difference of that loss below about twice the seeds’ range is no ranking.</p>\n"
    );
}

fn trained_cell(page: &mut String, row: &Row, trained: usize) {
    let losses: Vec<f64> = row.losses(trained).map(|losses| losses.mean).collect();
    let _ = write!(
        page,
        "<td class=\"loss\">{}",
        row.mean(trained).map_or_else(|| "refuses".into(), words::loss)
    );
    if let (Some((low, high)), true) = (words::extent(losses.iter().copied()), losses.len() > 1) {
        let _ = write!(page, "<small>{} to {}</small>", words::loss(low), words::loss(high));
    }
    page.push_str("</td>");
}

fn cell(page: &mut String, row: &Row, at: &VerdictAt) {
    let word = words::reach(at.verdict);
    let seeds: Vec<String> = row
        .runs
        .iter()
        .zip(&at.rise)
        .map(|(run, rise)| format!("seed {}: {}", run.seed, words::rise(*rise)))
        .collect();
    let refused = row.refusals().into_iter().map(|(_, text)| text.to_string()).next();
    let hover = if seeds.is_empty() {
        refused.unwrap_or_default()
    } else {
        seeds.join(", ")
    };
    let _ = write!(page, "<td class=\"{word}\" title=\"{}\"><b>{word}</b>", escape(&hover));
    if let Some(rise) = words::mean(at.rise.iter().copied()) {
        page.push_str(&words::rise(rise));
    }
    if let Some(range) = words::range(&at.rise) {
        let _ = write!(page, "<small>{range}</small>");
    }
    page.push_str("</td>");
}

fn figures(page: &mut String, results: &Results, rows: &[Row]) {
    let plots = plots::plots(results, rows);
    page.push_str("<h2>The curves</h2>\n");
    if plots.is_empty() {
        page.push_str("<p>Nothing could be measured, so there is nothing to draw.</p>\n");
        return;
    }
    let band = if results.config.seeds.len() > 1 {
        " A line is the mean over the seeds, the band around it their range."
    } else {
        ""
    };
    let _ = writeln!(
        page,
        "<p class=\"note\">Losses in nats per token, on held-out text; lower is better.{band}</p>"
    );
    for plot in plots {
        let see = plot.see.iter().map(|text| escape(text)).collect::<Vec<_>>().join(" ");
        let _ = write!(
            page,
            "<figure id=\"{}\">\n<h3>{}</h3>\n<p class=\"see\">{see}</p>\n",
            plot.chart.id, plot.heading
        );
        page.push_str(&svg::figure(&plot.chart));
        page.push_str("</figure>\n");
    }
}

fn refusals(page: &mut String, results: &Results, rows: &[Row]) {
    let mut items = String::new();
    for row in rows {
        for (length, text) in row.refusals() {
            let at = words::length(length, results.config.training.length);
            let _ = writeln!(
                items,
                "<li><b>{}</b>, first at {at}: <code>{}</code></li>",
                escape(&row.verdict.encoding),
                escape(text)
            );
        }
    }
    if !items.is_empty() {
        let _ = write!(
            page,
            "<h2>Refusals</h2>\n<p>An encoding that is not defined at a length says so instead of guessing. The errors, in their own words:</p>\n\
             <ul>\n{items}</ul>\n"
        );
    }
}

fn method(page: &mut String, results: &Results) {
    let config = &results.config;
    let (model, training, text) = (&config.model, &config.training, &config.text);
    let _ = write!(
        page,
        "<h2>How this was measured</h2>\n\
         <p>Each encoding was put into the same decoder: {}, {} wide, {}, GELU, layer norm before each block, the head tied to the embedding. For a given seed all models \
         start from the same weights, apart from the encoding’s own, and see the same batches: {} of {} sequences of {} tokens.</p>\n\
         <p>The text is {}, as {}. The models were trained on {} and never saw {}, on which every loss here is measured.</p>\n\
         <p><b>Aligned loss.</b> At {} places in the held-out text, the last {} tokens before the place are predicted from windows of every length that end there. The targets are the \
         same at every length, so a difference can only come from the context. The verdict compares this loss with its value at the trained length, seed by seed.</p>\n\
         <p><b>Mean over windows.</b> {} held-out tokens are cut into windows that do not overlap, and the loss is averaged over all of their positions. \
         <b>Loss against position</b> is the same reading, averaged per position instead.</p>\n\
         <p><b>Marks to beat.</b> A unigram (every token as frequent as in training) reaches {} nats per token, a bigram {}.</p>\n\
         <p>The rule that turns numbers into verdicts was fixed before the first run.</p>\n",
        words::plural(model.layers, "layer"),
        model.model_dim,
        words::plural(model.heads, "attention head"),
        words::plural(training.steps, "step"),
        training.batch,
        training.length,
        escape(&text.name),
        escape(&text.tokens),
        titles(&text.trained_on),
        titles(&text.held_out),
        words::count(config.aligned_places),
        words::count(config.aligned_targets),
        words::count(config.window_tokens),
        words::loss(results.baselines.unigram),
        words::loss(results.baselines.bigram),
    );
}

fn titles(titles: &[String]) -> String {
    words::list(&titles.iter().map(|title| format!("<i>{}</i>", escape(title))).collect::<Vec<_>>())
}

fn limits(page: &mut String, results: &Results) {
    let config = &results.config;
    let seeds = match config.seeds.len() {
        1 => "One seed shows no spread at all: nothing here says how far another seed would have come out.".to_string(),
        2 => "Two seeds show whether an effect is larger than the luck of a start; they do not give a confidence interval.".to_string(),
        n => format!("{n} seeds show whether an effect is larger than the luck of a start; they do not give a confidence interval."),
    };
    let tokens = match config.text.tokens.as_str() {
        "characters" => "character",
        "bytes" => "byte",
        other => other,
    };
    let _ = write!(
        page,
        "<h2>What this cannot say</h2>\n<ul>\n\
         <li>This is a small {} model of {}, and text at this scale is local: most of a token is decided by the few before it. Nothing here is about retrieval, that is, about finding \
         something far back.</li>\n\
         <li>A flat line is not the use of far context. An encoding that fades out distant tokens, as ALiBi does, is flat past the trained length because it hardly looks there; a flat line \
         only says that the longer context does no harm.</li>\n\
         <li>Means hide damage past the trained length, because every window begins with positions that were trained. Read the aligned loss, and the loss against position.</li>\n\
         <li>{seeds}</li>\n\
         <li>Which encoding reaches how far depends on the trained length ({} tokens here), the model and its training. The order may change at another size; what was continued or \
         fine-tuned for longer contexts is another experiment.</li>\n\
         <li>A model that has not converged says little about its encoding, in either direction.</li>\n</ul>\n",
        escape(tokens),
        if config.text.name == BUNDLED_NAME { "prose" } else { "one text" },
        config.training.length,
    );
}

fn configuration(page: &mut String, results: &Results, rows: &[Row]) {
    let config = &results.config;
    let (model, training, text) = (&config.model, &config.training, &config.text);
    let numbers = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let seeds = config.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let total: f64 = results.runs.iter().map(|run| run.training_seconds + run.evaluation_seconds).sum();
    let entries = [
        (
            "Model",
            format!(
                "{} layers, width {}, {} heads, MLP {}",
                model.layers, model.model_dim, model.heads, model.mlp_dim
            ),
        ),
        (
            "Training",
            format!(
                "{} steps ({}) of {} × {} tokens",
                words::count(training.steps),
                training.steps_from,
                training.batch,
                training.length
            ),
        ),
        (
            "Optimiser",
            format!(
                "AdamW, learning rate {} (cosine to a tenth, warm-up {} % of the steps), betas {} and {}, weight decay {}, gradient norm clipped to {}",
                training.learning_rate,
                (training.warmup * 1e4).round() / 100.0,
                training.betas[0],
                training.betas[1],
                training.weight_decay,
                training.clip
            ),
        ),
        ("Seeds", seeds),
        (
            "Text",
            format!(
                "{}: {} to train on, {} held out, vocabulary {}, hash {}",
                text.name,
                words::plural(text.train_tokens, "token"),
                words::count(text.held_out_tokens),
                text.vocabulary,
                text.hash
            ),
        ),
        ("Lengths", numbers(&config.lengths)),
        (
            "Evaluation",
            format!(
                "{} tokens in windows; {} places × {} aligned targets",
                words::count(config.window_tokens),
                words::count(config.aligned_places),
                words::count(config.aligned_targets)
            ),
        ),
        (
            "Scalings",
            config.scalings.iter().map(|scaling| scaling.name()).collect::<Vec<_>>().join(", "),
        ),
        ("Version", format!("posenc {}, results schema {}", results.posenc, results.schema)),
        (
            "Time",
            format!("{} of training and evaluation, all runs together", words::seconds(total)),
        ),
    ];
    page.push_str("<h2>Configuration</h2>\n<dl>\n");
    for (term, value) in entries.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(page, "<dt>{term}</dt><dd>{}</dd>", escape(&value));
    }
    page.push_str(
        "</dl>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Encodings\">\n<table>\n<thead><tr><th scope=\"col\">Encoding</th><th scope=\"col\">Plan</th>\
         <th scope=\"col\" class=\"number\">Own parameters</th><th scope=\"col\" class=\"number\">Model’s parameters</th><th scope=\"col\" class=\"number\">Training per seed</th></tr></thead>\n<tbody>\n",
    );
    for row in rows {
        let Some(run) = row.runs.first() else { continue };
        let time = words::mean(row.runs.iter().map(|run| run.training_seconds)).map_or_else(|| words::NOTHING.into(), words::seconds);
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td class=\"prose\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{time}</td></tr>",
            escape(&run.encoding),
            escape(&run.plan),
            words::count(run.encoding_parameters),
            words::count(run.parameters),
        );
    }
    let calibrated = if training.steps_from == "calibrated" {
        " The number of steps was calibrated to the first machine’s speed and is given here, so that another machine takes the same steps."
    } else {
        ""
    };
    let _ = write!(
        page,
        "</tbody>\n</table>\n</div>\n<h3>To repeat it</h3>\n<p>The same seeds give the same numbers, apart from the times.{calibrated}</p>\n<pre><code>{}</code></pre>\n",
        escape(&command::command(config))
    );
}
