//! An explained model as text: a header, then each group of layers with its values and how fast it turns, then what the given length meets, then what can be done.

use super::at::{AtLength, Standing};
use super::values::{table, temperature};
use super::{Lengths, ModelExplanation, PartExplanation, PlanExplanation};
use crate::attention::Attention;
use crate::config::Provenance;
use crate::words::{Language, Words, decimal, said, words, wrap};
use std::fmt;

mod turning;
pub(super) use turning::pairs;

impl Standing {
    /// The standing in a few words.
    pub fn words(self) -> Words<&'static str> {
        match self {
            Standing::Within => said("nothing new", "没有新情况"),
            Standing::Provided => said("as the file provides for", "在文件所覆盖的范围内"),
            Standing::Beyond => said("past what the file provides for", "超出文件所覆盖的范围"),
            Standing::Cannot => said("no answer", "没有答案"),
        }
    }
}

impl fmt::Display for ModelExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Language::English))
    }
}

impl ModelExplanation {
    /// The explanation as text, wrapped for a terminal of 100 columns.
    pub fn text(&self, language: Language) -> String {
        let mut out = String::new();
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            part.write(&self.model_type, language, &mut out);
        }
        list(
            said("Not read", "未读取"),
            self.left.iter().map(|left| format!("{}: {}", left.path, left.reason)),
            language,
            &mut out,
        );
        list(said("Warnings", "警告"), self.warnings.iter().cloned(), language, &mut out);
        out
    }
}

pub(super) fn list(title: Words<&'static str>, items: impl Iterator<Item = String>, language: Language, out: &mut String) {
    for (i, item) in items.enumerate() {
        if i == 0 {
            out.push('\n');
            wrap(title.get(language), 0, out);
        }
        out.push_str("  ");
        wrap(&item, 2, out);
    }
}

/// A sentence on a line of its own, hanging by two more columns.
pub(super) fn sentence(indent: usize, text: &Words, language: Language, out: &mut String) {
    out.push_str(&" ".repeat(indent));
    wrap(text.get(language), indent + 2, out);
}

impl PartExplanation {
    fn write(&self, of: &str, language: Language, out: &mut String) {
        let mut head = if self.path.is_empty() {
            self.model_type.clone()
        } else {
            format!("{} · {} ({})", of, self.path, self.model_type)
        };
        match (self.stack, language) {
            (Some(stack), Language::English) => head += &format!(", {stack}"),
            (Some("encoder"), Language::Chinese) => head += "，编码器",
            (Some(_), Language::Chinese) => head += "，解码器",
            (None, _) => {}
        }
        let plain = |en: String, zh: String| Words { en, zh }.get(language).to_string();
        head += if language == Language::English { ": " } else { "：" };
        let mut facts = Vec::new();
        if self.layers > 0 {
            let layers = self.layers;
            facts.push(plain(
                format!("{layers} layer{}", if layers == 1 { "" } else { "s" }),
                format!("{layers} 层"),
            ));
        }
        let mut widths: Vec<String> = Vec::new();
        for plan in &self.plans {
            let d = plan.dims;
            let keys = if d.kv_heads == d.heads {
                String::new()
            } else {
                plain(format!(" ({} of keys)", d.kv_heads), format!("（键 {} 个）", d.kv_heads))
            };
            let text = plain(
                format!("{} heads{keys} × {}", d.heads, d.head_dim),
                format!("{} 个头{keys} × {}", d.heads, d.head_dim),
            );
            if !widths.contains(&text) {
                widths.push(text);
            }
        }
        facts.push(widths.join(if language == Language::English { " or " } else { "或" }));
        facts.push(self.lengths.words().get(language).to_string());
        head += &facts.join(if language == Language::English { ", " } else { "，" });
        wrap(&head, 0, out);
        if self.embeddings != "none" {
            let added = &self.embeddings;
            out.push('\n');
            sentence(0, &words!("Embeddings: {added}", "词嵌入：{added}"), language, out);
            table(
                self.values.iter().map(|value| (value.value, value.shown.clone(), &value.source)),
                language,
                out,
            );
        }
        if !self.note.is_empty() {
            let note = &self.note;
            sentence(0, &words!("Also: {note}", "另外：{note}"), language, out);
        }
        for plan in &self.plans {
            out.push('\n');
            plan.write(self.layers, self.embeddings != "none", language, out);
        }
        self.write_length(language, out);
    }

    fn write_length(&self, language: Language, out: &mut String) {
        let Some(length) = self.length else {
            return self.conclude(language, out);
        };
        let says: Vec<(String, bool, &AtLength)> = self
            .plans
            .iter()
            .filter(|plan| self.layers == 0 || !plan.layers.is_empty())
            .filter_map(|plan| Some((plan.who(self.layers, language), plan.attention.chunk.is_some(), plan.at.as_ref()?)))
            .filter(|(_, _, at)| at.standing.is_some() || at.rotary.is_some())
            .collect();
        if says.is_empty() && self.on_embeddings.is_empty() {
            return;
        }
        out.push('\n');
        wrap(words!("At {length} tokens", "{length} 个词元时").get(language), 0, out);
        for finding in &self.on_embeddings {
            let answer = &finding.answer;
            let said = Words {
                en: format!("Embeddings: {}", answer.en),
                zh: format!("词嵌入：{}", answer.zh),
            };
            sentence(2, &said, language, out);
        }
        let several = says.len() > 1 || self.plans.len() > 1 && !says.is_empty();
        for (who, chunked, at) in &says {
            if several {
                out.push_str("  ");
                wrap(who, 4, out);
            }
            at.write(*chunked, if several { 4 } else { 2 }, language, out);
        }
        self.conclude(language, out);
    }

    /// The verdict and what can be done.
    fn conclude(&self, language: Language, out: &mut String) {
        if let Some(verdict) = &self.verdict {
            out.push('\n');
            wrap(verdict.get(language), 0, out);
        }
        for advice in &self.advice {
            out.push_str("  ");
            // A command stays on one line, to be copied.
            match advice.get(language).split_once("   ") {
                Some((command, what)) => {
                    out.push_str(command);
                    out.push_str("\n    ");
                    wrap(what, 4, out);
                }
                None => wrap(advice.get(language), 4, out),
            }
        }
    }
}

impl Lengths {
    fn words(&self) -> Words {
        let Lengths {
            named,
            key,
            by_default,
            original,
            reach,
        } = self;
        let Some(named) = named else {
            return match original.zip(*reach) {
                Some((original, reach)) => words!(
                    "reads {reach} tokens, scaled from {original}",
                    "可读 {reach} 个词元，由 {original} 缩放而来"
                ),
                None => words!("no length named", "没有写明长度"),
            };
        };
        let at = match key {
            _ if *by_default => words!(" (class default)", "（类的默认值）"),
            Some(key) => words!(" ({key})", "（{key}）"),
            None => Words::default(),
        };
        let mut text = words!("reads {named} tokens", "可读 {named} 个词元");
        text = Words {
            en: text.en + &at.en,
            zh: text.zh + &at.zh,
        };
        let more = match (original, reach) {
            (Some(original), Some(reach)) if reach > named => words!(
                ", by its scaling {reach}, from {original} before it",
                "，按其缩放为 {reach}，缩放之前为 {original}"
            ),
            (Some(original), _) if original != named => words!(", {original} before its scaling", "，缩放之前为 {original}"),
            _ => Words::default(),
        };
        Words {
            en: text.en + &more.en,
            zh: text.zh + &more.zh,
        }
    }
}

/// `0–4, 6–10, 12`; of many runs the first three and the last.
pub(super) fn ranges(layers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &layer in layers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == layer => *last = layer,
            _ => runs.push((layer, layer)),
        }
    }
    let one = |(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}–{last}"),
    };
    match runs.as_slice() {
        [a, b, c, _, _, .., last] => format!("{}, {}, {}, …, {}", one(a), one(b), one(c), one(last)),
        few => few.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

impl PlanExplanation {
    /// `Layers 0–4, 6–10 (10)`.
    fn who(&self, all: usize, language: Language) -> String {
        let n = self.layers.len();
        let which = ranges(&self.layers);
        let which = match (n, all) {
            (0, 0) => words!("All layers", "所有层"),
            (0, _) => {
                let name = self.dictionary.as_deref().or(self.kind.as_deref()).unwrap_or_default();
                words!("No layer, but the dictionary `{name}`", "没有任何层，但有字典 `{name}`")
            }
            (1, _) => words!("Layer {which}", "第 {which} 层"),
            (n, all) if n == all => words!("Layers {which}", "第 {which} 层"),
            _ => words!("Layers {which} ({n})", "第 {which} 层（{n} 层）"),
        };
        which.get(language).to_string()
    }

    fn write(&self, all: usize, embedded: bool, language: Language, out: &mut String) {
        let mut title = self.who(all, language);
        title += if language == Language::English { ": " } else { "：" };
        let mut what = Vec::new();
        if let Some(kind) = &self.kind {
            what.push(kind.clone());
        }
        if self.attends {
            what.push(attention(&self.attention).get(language).to_string());
            what.push(self.positions(embedded).get(language).to_string());
        } else {
            let text = said("no softmax attention, so no positions", "没有 softmax 注意力，因此没有位置编码");
            what.push(text.get(language).to_string());
        }
        title += &what.join(if language == Language::English { ", " } else { "，" });
        wrap(&title, 0, out);
        if !self.attends {
            return;
        }
        self.table(language, out);
        if let Some(rotary) = &self.rotary {
            rotary.write(language, out);
        }
    }

    fn positions(&self, embedded: bool) -> Words {
        match (&self.rotary, self.encoding.as_str()) {
            (_, "none") if embedded => words!("no positions of its own", "本层没有位置编码"),
            (_, "none") => words!("no positions (NoPE)", "没有位置编码（NoPE）"),
            (Some(_), _) => words!("rotary positions", "旋转位置编码"),
            (None, encoding) => words!("{encoding}", "{encoding}"),
        }
    }

    /// Each value and where it comes from.
    fn table(&self, language: Language, out: &mut String) {
        /// What says something of rotary positions alone.
        const OF_ROTARY: [&str; 9] = [
            "base",
            "rotary_dim",
            "rope_type",
            "scaling",
            "original_len",
            "factor",
            "pairing",
            "precision",
            "axes",
        ];
        let nope = self.rotary.is_none() && self.encoding == "none";
        let shown = self.values.iter().filter(|value| !(nope && OF_ROTARY.contains(&value.value)));
        let value_of = |value: &Provenance| match value.value {
            // What every model's are; the rest of it is said below.
            "precision" if self.rotary.is_some() => "f32 angles".to_string(),
            "softmax factor" => self
                .rotary
                .as_ref()
                .map_or_else(|| value.shown.clone(), |facts| decimal(facts.softmax_factor, 6)),
            "temperature" => self.attention.temperature.map_or_else(|| value.shown.clone(), temperature),
            _ => value.shown.clone(),
        };
        table(shown.map(|value| (value.value, value_of(value), &value.source)), language, out);
    }
}

/// How far a query sees, and what else is done to scores by position.
fn attention(attention: &Attention) -> Words {
    let mut all = match attention.window.map(|window| (window.left, window.right)) {
        Some((Some(left), Some(right))) if left == right => {
            let keys = left + 1;
            words!("sees keys less than {keys} away", "只看距离小于 {keys} 的键")
        }
        Some((Some(left), Some(right))) => words!("sees {left} keys back and {right} ahead", "向前看 {left} 个键，向后看 {right} 个键"),
        Some((Some(left), None)) => words!("sees {left} keys back", "向前看 {left} 个键"),
        _ => match attention.chunk {
            Some(chunk) => words!("sees every key of its chunk of {chunk}", "看长度 {chunk} 的块内所有的键"),
            None => words!("sees every key", "看所有的键"),
        },
    };
    let mut more = |en: String, zh: String| {
        all.en += &format!(", {en}");
        all.zh += &format!("，{zh}");
    };
    if let Some(chunk) = attention.chunk.filter(|_| attention.window.is_some()) {
        more(format!("of its chunk of {chunk}"), format!("限于长度 {chunk} 的块内"));
    }
    if attention.temperature.is_some() {
        more("queries scaled by position".into(), "查询按位置缩放".into());
    }
    if attention.sinks {
        more("with sinks".into(), "有汇点（sink）".into());
    }
    all
}
