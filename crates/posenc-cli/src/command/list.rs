//! `posenc list`: the catalogue as two tables, one method in full, or data.

use posenc::Language;
use posenc::catalogue::{Entry, Measured, catalogue};
use serde::Serialize;

use super::{print, print_json};
use crate::args::list::ListArguments;
use crate::columns::table;
use crate::failure::Failure;

/// An entry with what is asked of it: the documents' claims beside what was measured.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: &'static Entry,
    measured: Option<&'static Measured>,
}

pub fn run(arguments: &ListArguments) -> Result<(), Failure> {
    let lang = arguments.lang;
    let entries = match arguments.encodings.as_slice() {
        [] => catalogue().iter().collect(),
        names => names.iter().map(|name| Entry::named(name)).collect::<Result<Vec<_>, _>>()?,
    };
    if arguments.json {
        let listed = |entry: &'static Entry| Listed {
            entry,
            measured: entry.measured(),
        };
        return print_json(&entries.into_iter().map(listed).collect::<Vec<_>>());
    }
    if !arguments.encodings.is_empty() {
        return print(&entries.iter().map(|entry| entry.text(lang)).collect::<Vec<_>>().join("\n"));
    }
    print(&format!(
        "{}\n{}\n{}",
        methods(&entries, lang),
        longer(&entries, lang),
        papers(&entries, lang)
    ))
}

fn say(lang: Language, english: &'static str, chinese: &'static str) -> &'static str {
    match lang {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// Columns of a name: `music-transformer`.
const NAME: usize = 17;

/// Where each acts, what it costs, where it ends, who uses it.
fn methods(entries: &[&Entry], lang: Language) -> String {
    let columns = [
        (say(lang, "encoding", "编码"), NAME),
        (say(lang, "acts on", "作用处"), 24),
        (say(lang, "parameters", "参数"), 19),
        (say(lang, "limit", "上限"), 20),
        (say(lang, "models that use it", "使用它的模型"), 32),
    ];
    let rows = entries.iter().map(|entry| {
        [
            vec![entry.name.to_string()],
            vec![entry.acts.get(lang).to_string()],
            vec![entry.parameters.get(lang).to_string()],
            vec![entry.limit.get(lang).to_string()],
            vec![entry.models.join(", ")],
        ]
    });
    table(columns, &rows.collect::<Vec<_>>())
}

/// Longer than trained? What the documents claim beside what was measured.
fn longer(entries: &[&Entry], lang: Language) -> String {
    let columns = [
        (say(lang, "encoding", "编码"), NAME),
        (say(lang, "longer than trained? the documents", "能更长吗？文档所说"), 55),
        (say(lang, "longer than trained? measured here", "能更长吗？实测"), 44),
    ];
    let rows = entries.iter().map(|entry| {
        let claims = match entry.claims {
            [] => vec![say(lang, "say nothing", "未提及").into()],
            claims => claims
                .iter()
                .map(|claim| format!("{}: “{}”", claim.document, claim.quote))
                .collect(),
        };
        let measured = match entry.measured() {
            None => say(lang, "not yet", "尚未测量").into(),
            Some(measured) => format!("L = {}: {}", measured.trained, measured.line(lang)),
        };
        [vec![entry.name.to_string()], claims, vec![measured]]
    });
    let mut text = table(columns, &rows.collect::<Vec<_>>());
    // One run measured all of them, as a rule: it is named once.
    let mut runs: Vec<&str> = entries.iter().filter_map(|entry| Some(entry.measured()?.run)).collect();
    runs.dedup();
    if !runs.is_empty() {
        text += &format!("{}: {}\n", say(lang, "measured in", "实测结果"), runs.join(", "));
    }
    text
}

fn papers(entries: &[&Entry], lang: Language) -> String {
    let columns = [(say(lang, "encoding", "编码"), NAME), (say(lang, "paper", "论文"), 101)];
    let rows = entries
        .iter()
        .map(|entry| [vec![entry.name.to_string()], vec![entry.paper.to_string()]]);
    table(columns, &rows.collect::<Vec<_>>())
}
