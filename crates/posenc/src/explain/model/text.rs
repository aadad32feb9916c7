//! An explained model as text: a header, then each group of layers with its values and how fast it turns, then what the given length meets, then what can be done.

use super::at::{AtLength, RotaryAt, Standing, tokens};
use super::facts::{Incomplete, RotaryFacts, Scaled};
use super::{Lengths, ModelExplanation, PartExplanation, PlanExplanation};
use crate::attention::{Attention, Temperature};
use crate::config::{Provenance, Source};
use crate::words::{COLUMNS, Language, Words, decimal, padded, said, significant, width, words, wrap};
use std::fmt;

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
        let Some(length) = self.length else { return };
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
        let several = says.len() > 1;
        for (who, chunked, at) in &says {
            if several {
                out.push_str("  ");
                wrap(who, 4, out);
            }
            at.write(*chunked, if several { 4 } else { 2 }, language, out);
        }
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
        let at = key.as_ref().map_or_else(Words::default, |key| words!(" ({key})", "（{key}）"));
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
            let none = words!("no attention, and so no positions", "没有注意力，因此也没有位置编码");
            what.push(none.get(language).to_string());
        }
        title += &what.join(if language == Language::English { ", " } else { "，" });
        wrap(&title, 0, out);
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
            "temperature" => self.attention.temperature.map_or_else(|| value.shown.clone(), temperature),
            _ => value.shown.clone(),
        };
        table(shown.map(|value| (value.value, value_of(value), &value.source)), language, out);
    }
}

/// Names, values and where they come from, in columns.
fn table<'v>(values: impl Iterator<Item = (&'v str, String, &'v Source)>, language: Language, out: &mut String) {
    let rows: Vec<[String; 3]> = values
        .map(|(name, shown, from)| [name.to_string(), shown, source(from).get(language).to_string()])
        .collect();
    let widest = |column: usize, most: usize| rows.iter().map(|row| width(&row[column])).filter(|w| *w <= most).max().unwrap_or(0) + 2;
    let (first, second) = (widest(0, 30), widest(1, 32));
    for [name, value, from] in &rows {
        out.push_str("  ");
        out.push_str(&padded(name, first));
        let at = 2 + first + second;
        if width(value) + 2 > second {
            wrap(value, 2 + first, out);
            out.push_str(&" ".repeat(at));
        } else {
            out.push_str(&padded(value, second));
        }
        // A path that is one long word begins further left, on a line of its own.
        let longest = from.split(' ').map(width).max().unwrap_or(0);
        if at + longest > COLUMNS {
            let at = COLUMNS.saturating_sub(longest).min(at);
            while out.ends_with(' ') {
                out.pop();
            }
            out.push('\n');
            out.push_str(&" ".repeat(at));
            wrap(from, at, out);
        } else {
            wrap(from, at, out);
        }
    }
}

/// What a query at position p is multiplied by.
fn temperature(temperature: Temperature) -> String {
    match temperature {
        Temperature::Steps { scale, length, first: 0.0 } => format!("1 + {scale}·ln(1 + ⌊p / {length}⌋)"),
        Temperature::Steps { scale, length, first } => format!("1 + {scale}·ln(1 + ⌊(p + {first}) / {length}⌋)"),
        Temperature::Smooth { scale, length } => format!("1 + {scale}·ln(max(1, (p + 1) / {length}))"),
    }
}

fn source(source: &Source) -> Words {
    match source {
        Source::ClassDefault => words!("class default", "类的默认值"),
        Source::Model => words!("the model type", "由模型类型决定"),
        Source::Key(path) => words!("{path}", "{path}"),
        Source::Derived(from) => words!("= {from}", "= {from}"),
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
        _ => words!("sees every key", "看所有的键"),
    };
    let mut more = |en: String, zh: String| {
        all.en += &format!(", {en}");
        all.zh += &format!("，{zh}");
    };
    if let Some(chunk) = attention.chunk {
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

impl RotaryFacts {
    fn write(&self, language: Language, out: &mut String) {
        let Self { pairs, turning, .. } = self;
        let still = pairs - turning;
        if still > 0 {
            let text = words!(
                "{turning} of {pairs} pairs turn, {still} stand still.",
                "{pairs} 个坐标对中有 {turning} 个旋转，{still} 个不动。"
            );
            sentence(2, &text, language, out);
        }
        for axis in &self.axes {
            let (index, pairs) = (axis.axis, axis.pairs);
            let (fastest, slowest) = (tokens(axis.fastest.tokens), tokens(axis.slowest.tokens));
            let (first, last) = (axis.fastest.pair, axis.slowest.pair);
            let unit = if self.grid {
                said("patches", "图块")
            } else {
                said("tokens", "词元")
            };
            let (en, zh) = (unit.en, unit.zh);
            let of_axis = if self.axes.len() > 1 {
                words!(" by axis {index}", "（轴 {index}）")
            } else {
                Words::default()
            };
            let (of_en, of_zh) = (of_axis.en, of_axis.zh);
            let text = Words {
                en: format!("{pairs} pairs turn{of_en}: once in {fastest} {en} (pair {first}) to once in {slowest} (pair {last})."),
                zh: format!(
                    "{pairs} 个坐标对旋转{of_zh}：最快每 {fastest} 个{zh}一圈（第 {first} 对），最慢每 {slowest} 个（第 {last} 对）。"
                ),
            };
            sentence(2, &text, language, out);
        }
        if let Some(scaled) = &self.scaled {
            sentence(2, &scaled.words(), language, out);
            if !self.grid && self.incomplete.iter().all(|incomplete| incomplete.scaled) {
                let text = words!(
                    "The file does not say how many tokens it was trained on before that: what follows takes its length as the one after it.",
                    "文件没有说明缩放之前的训练长度：以下把文件写明的长度当作缩放之后的长度。"
                );
                sentence(2, &text, language, out);
            }
        }
        if self.table_factor != 1.0 {
            let (factor, squared) = (decimal(self.table_factor, 6), decimal(self.table_factor.powi(2), 4));
            let text = words!(
                "Cosines and sines are multiplied by {factor}, so the turned part of a score by {squared}.",
                "余弦与正弦乘以 {factor}，因此分数中旋转的部分乘以 {squared}。"
            );
            sentence(2, &text, language, out);
        }
        if self.softmax_factor != 1.0 {
            let factor = decimal(self.softmax_factor, 6);
            let text = words!("The softmax scale is multiplied by {factor}.", "softmax 的缩放乘以 {factor}。");
            sentence(2, &text, language, out);
        }
        for incomplete in &self.incomplete {
            sentence(2, &incomplete.words(self.turning, self.scaled.is_some()), language, out);
        }
        if self.grid {
            let text = words!(
                "Positions are rows and columns of a picture: no length in tokens bounds them.",
                "位置是图像的行与列：不受词元长度的限制。"
            );
            sentence(2, &text, language, out);
        }
    }
}

/// `pairs 35–63`, `pair 12`.
pub(super) fn pairs(range: Option<(usize, usize)>) -> Words {
    match range {
        Some((first, last)) if first == last => words!("pair {first}", "第 {first} 对"),
        Some((first, last)) => words!("pairs {first}–{last}", "第 {first}–{last} 对"),
        None => Words::default(),
    }
}

impl Scaled {
    pub(super) fn words(&self) -> Words {
        let Scaled {
            by,
            length,
            kept,
            between,
            slowed,
            divisors,
            ..
        } = self;
        let (least, most) = (decimal(divisors.0, 3), decimal(divisors.1, 3));
        let all = kept + slowed + between;
        match (*kept, *slowed, *between) {
            (_, 0, 0) => words!(
                "Scaled by {by}: at {length} tokens every pair still turns as without it.",
                "缩放：{by}。{length} 个词元时，每一对的转速都不变。"
            ),
            (0, _, 0) => words!(
                "Scaled by {by}: every pair turns {most} times slower.",
                "缩放：{by}。每一对都慢 {most} 倍。"
            ),
            (0, 0, _) => words!(
                "Scaled by {by}: at {length} tokens each pair is slowed by its own factor, {least} to {most} times.",
                "缩放：{by}。{length} 个词元时，每一对各按自己的倍数减慢，{least} 到 {most} 倍。"
            ),
            (kept, 0, between) => words!(
                "Scaled by {by}: at {length} tokens {kept} of {all} pairs turn as without it, {between} slower, each by its own factor, up to {most} times.",
                "缩放：{by}。{length} 个词元时，{all} 对中 {kept} 对转速不变，{between} 对各按自己的倍数减慢，至多 {most} 倍。"
            ),
            (kept, slowed, 0) => words!(
                "Scaled by {by}: {kept} of {all} pairs turn as without it, {slowed} turn {most} times slower.",
                "缩放：{by}。{all} 对中 {kept} 对转速不变，{slowed} 对慢 {most} 倍。"
            ),
            (kept, slowed, between) => words!(
                "Scaled by {by}: {kept} of {all} pairs turn as without it, {slowed} turn {most} times slower, {between} in between.",
                "缩放：{by}。{all} 对中 {kept} 对转速不变，{slowed} 对慢 {most} 倍，{between} 对介于其间。"
            ),
        }
    }
}

impl Incomplete {
    fn words(&self, turning: usize, is_scaled: bool) -> Words {
        let Incomplete { length, pairs: n, .. } = self;
        let which = pairs(self.range);
        let (which_en, which_zh) = (which.en, which.zh);
        let how = match (is_scaled, self.scaled) {
            (false, _) => Words::default(),
            (true, false) => words!(", before scaling", "（缩放之前）"),
            (true, true) => words!(", as scaled", "（缩放之后）"),
        };
        let (how_en, how_zh) = (how.en, how.zh);
        if *n == 0 {
            return words!(
                "Every pair completes a turn within {length} tokens{how_en}.",
                "每个坐标对在 {length} 个词元之内都能转满一圈{how_zh}。"
            );
        }
        words!(
            "Never complete a turn in {length} tokens{how_en}: {n} of {turning} ({which_en}).",
            "在 {length} 个词元之内转不满一圈{how_zh}：{turning} 对中的 {n} 对（{which_zh}）。"
        )
    }
}

impl AtLength {
    fn write(&self, chunked: bool, indent: usize, language: Language, out: &mut String) {
        let below = self.distances_below;
        if below < self.length {
            let (en, zh) = match chunked {
                true => ("its chunk", "分块"),
                false => ("the window", "窗口"),
            };
            let text = match self.standing {
                Some(Standing::Within) => words!(
                    "Nothing is new, at this or any length: {en} keeps every distance below {below}.",
                    "无论多长都没有新情况：{zh}使所有距离小于 {below}。"
                ),
                _ => words!("{en} keeps every distance below {below}.", "{zh}使所有距离小于 {below}。"),
            };
            sentence(indent, &text, language, out);
        }
        for finding in &self.findings {
            sentence(indent, &finding.answer, language, out);
        }
        if let Some(rotary) = &self.rotary {
            rotary.write(self, indent, language, out);
        }
    }
}

impl RotaryAt {
    fn write(&self, at: &AtLength, indent: usize, language: Language, out: &mut String) {
        let length = at.length;
        if at.standing.is_none() {
            let text = words!(
                "The file names no length, so what training showed is not known.",
                "文件没有写明长度，因此无法知道训练见过什么。"
            );
            sentence(indent, &text, language, out);
        }
        // Behind a window that training filled there is nothing to count.
        let counts = at.distances_below == length || at.standing != Some(Standing::Within);
        for arcs in self.arcs.iter().filter(|_| counts) {
            let (trained, whole, kept, new) = (arcs.trained, arcs.whole, arcs.within, arcs.beyond);
            let how = match (self.arcs.len() > 1, arcs.scaled) {
                (false, _) => words!("{trained} tokens", "{trained} 个词元"),
                (true, false) => words!("{trained} tokens before scaling", "缩放之前的 {trained} 个词元"),
                (true, true) => words!("{trained} tokens as scaled", "缩放之后的 {trained} 个词元"),
            };
            let (how_en, how_zh) = (how.en, how.zh);
            let which = pairs(arcs.range);
            let (which_en, which_zh) = (which.en, which.zh);
            let text = match (whole, kept, new) {
                (_, 0, 0) if at.distances_below > trained => words!(
                    "{how_en} turn every pair round: each angle is known, but how they stand together at longer distances is not.",
                    "{how_zh}使每一对都转满一圈：每个角度都见过，但它们在更长距离上的组合没有见过。"
                ),
                (_, 0, 0) => words!(
                    "{how_en} turn every pair round: all angles are known.",
                    "{how_zh}使每一对都转满一圈：所有角度都见过。"
                ),
                (whole, kept, 0) => words!(
                    "{how_en} turn {whole} pairs round, and the other {kept} stay on the arc that those showed: no angle is new.",
                    "{how_zh}使 {whole} 对转满一圈，其余 {kept} 对仍在已见过的弧上：没有新的角度。"
                ),
                (whole, 0, new) => words!(
                    "{how_en} turn {whole} pairs round, so all their angles are known; the other {new} leave the arc that those showed ({which_en}).",
                    "{how_zh}使 {whole} 对转满一圈，其角度全部见过；其余 {new} 对越出已见过的弧（{which_zh}）。"
                ),
                (whole, kept, new) => words!(
                    "{how_en} turn {whole} pairs round, so all their angles are known; {kept} stay on the arc that those showed, {new} leave it ({which_en}).",
                    "{how_zh}使 {whole} 对转满一圈，其角度全部见过；{kept} 对仍在已见过的弧上，{new} 对越出（{which_zh}）。"
                ),
            };
            sentence(indent, &text, language, out);
        }
        if let Some(past) = self.changes_past {
            let text = match (self.changes_each, length > past) {
                (true, true) => words!(
                    "Past {past} tokens each new token slows the frequencies further: keys cached before were turned faster. Turn them anew, recompute them, or fix the length for the whole sequence; \
                     transformers does none of this and keeps the old keys.",
                    "超过 {past} 个词元后，每个新词元都使频率更慢：此前缓存的键转得更快。应重新旋转、重新计算，或为整个序列固定长度；transformers 不做这些，沿用旧的键。"
                ),
                (true, false) => words!(
                    "Up to {past} tokens the frequencies are those of training; past it each new token slows them.",
                    "在 {past} 个词元之内频率与训练时相同；超过之后每个新词元都使其变慢。"
                ),
                (false, true) => words!(
                    "Past {past} tokens it turns by its long factors: keys cached up to there were turned by the short ones. transformers drops its cache there and recomputes; vLLM uses the long \
                     factors from the start.",
                    "超过 {past} 个词元后改用长因子：此前缓存的键按短因子旋转。transformers 在此丢弃缓存并重新计算；vLLM 从一开始就使用长因子。"
                ),
                (false, false) => words!(
                    "Up to {past} tokens it turns by its short factors, past it by the long ones.",
                    "在 {past} 个词元之内按短因子旋转，超过之后按长因子旋转。"
                ),
            };
            sentence(indent, &text, language, out);
        }
        if let Some(rounding) = &self.rounding
            && rounding.radians > 0.0
        {
            let (radians, pair, last) = (significant(rounding.radians), rounding.pair, length - 1);
            let text = words!(
                "f32 angles, which the model was trained with, are up to {radians} rad from exact ones at position {last} (pair {pair}).",
                "模型训练时使用的 f32 角度，在位置 {last} 处与精确值相差至多 {radians} 弧度（第 {pair} 对）。"
            );
            sentence(indent, &text, language, out);
        }
    }
}
