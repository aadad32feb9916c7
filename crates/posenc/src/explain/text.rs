//! An explanation as text: the answer first, then what it rests on.

use super::{Class, Common, Explanation, Finding, Unseen, What, percent};
use crate::dims::Dims;
use crate::words::{Language, Words, decimal, grouped, padded, said, words, wrap};
use std::fmt;

impl Class {
    /// The class in a few words.
    ///
    /// ```
    /// use posenc::{explain::Class, Language};
    /// assert_eq!(Class::CanButBreaks.words().get(Language::English), "can, but breaks");
    /// ```
    pub fn words(self) -> Words<&'static str> {
        match self {
            Class::NothingNew => said("nothing new", "没有新情况"),
            Class::SaturatesOrIgnores => said("can: saturates or ignores", "能：饱和或忽略远处"),
            Class::CanButBreaks => said("can, but breaks", "能，但会失效"),
            Class::Cannot => said("cannot", "不能"),
        }
    }
}

impl What {
    /// What is counted, in a word.
    ///
    /// ```
    /// use posenc::{explain::What, Language};
    /// assert_eq!(What::Angles.words().get(Language::Chinese), "角度");
    /// ```
    pub fn words(self) -> Words<&'static str> {
        match self {
            What::Ids => said("ids", "编号"),
            What::Pairs => said("pairs", "因果对"),
            What::Distances => said("distances", "距离"),
            What::Angles => said("angles", "角度"),
            What::Buckets => said("buckets", "桶"),
            What::Contexts => said("contexts", "上下文"),
        }
    }
}

impl Unseen {
    /// `952 of 3000 (31.73 %)`.
    fn counted(&self, language: Language) -> String {
        let (unseen, total, share) = (grouped(self.unseen), grouped(self.total), percent(self.share()));
        words!("{unseen} of {total} ({share})", "{unseen}\u{a0}/\u{a0}{total}（{share}）")
            .get(language)
            .to_string()
    }

    /// `952 of 3000`; of pairs, which are many, the share.
    fn brief(&self, language: Language) -> String {
        if matches!(self.what, What::Pairs | What::Distances) {
            return percent(self.share());
        }
        let (unseen, total) = (grouped(self.unseen), grouped(self.total));
        words!("{unseen} of {total}", "{unseen}/{total}")
            .get(language)
            .replace(' ', "\u{a0}")
    }
}

impl Common {
    /// The facts that hold for every encoding, as a paragraph.
    fn words(&self, trained: u32, length: u32) -> Words {
        let (ids, pairs) = (grouped(self.new_ids), grouped(self.pairs));
        let (distances, queries) = (grouped(self.new_distance_pairs), grouped(self.new_query_pairs));
        let share = |n: u64, of: u64| percent(n as f64 / of as f64);
        let ids_share = share(self.new_ids, u64::from(length));
        let distances_share = share(self.new_distance_pairs, self.pairs);
        let queries_share = share(self.new_query_pairs, self.pairs);
        let entropy = format!("{:.3}", self.extra_entropy);
        words!(
            "{ids} of {length} ids are new ({ids_share}). Of {pairs} causal pairs, {queries} ({queries_share}) have a query with a new id, which is what absolute encodings meet, \
             and {distances} ({distances_share}) are {trained} or more apart, which is what relative ones meet. The softmax runs over up to {length} keys instead of {trained}: \
             up to +{entropy} nat of entropy. A mean over the whole sequence hides most of the damage: look at the loss per position.",
            "{length} 个编号中有 {ids} 个是新的（{ids_share}）。在 {pairs} 个因果对中，{queries} 个（{queries_share}）的查询编号是新的，这是绝对位置编码要面对的；\
             {distances} 个（{distances_share}）的距离不小于 {trained}，这是相对位置编码要面对的。softmax 的键最多从 {trained} 个增加到 {length} 个：熵最多增加 {entropy} nat。\
             整段平均会掩盖大部分损害：请看逐位置的损失。"
        )
    }
}

impl Explanation {
    /// The explanation as text, the answer first, wrapped for a terminal.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Language, explain::explain};
    /// let e = explain(&Encoding::none(), Dims::new(64, 4)?, 2048, 3000)?;
    /// assert!(e.text(Language::Chinese).contains("因果掩码"));
    /// assert!(e.text(Language::English).lines().all(|line| line.chars().count() <= 100));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn text(&self, language: Language) -> String {
        let Explanation { trained, length, .. } = *self;
        let factor = decimal(self.common.factor, 3);
        let (encoding, Dims { heads, head_dim, .. }) = (&self.encoding, self.dims);
        let head = words!(
            "{encoding}, {heads} heads of {head_dim}: trained on {trained} tokens, given {length} (×\u{a0}{factor})",
            "{encoding}，{heads} 个宽度为 {head_dim} 的头：训练长度 {trained}，给定长度 {length}（×\u{a0}{factor}）"
        );
        let mut out = String::new();
        wrap(head.get(language), 0, &mut out);
        for finding in &self.methods {
            out.push('\n');
            if self.methods.len() > 1 {
                wrap(&finding.method, 0, &mut out);
            }
            finding.write(language, &mut out);
        }
        if length > trained {
            section(
                said("For any encoding", "对任何编码"),
                self.common.words(trained, length).get(language),
                language,
                &mut out,
            );
        }
        out
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Language::English))
    }
}

fn section(title: Words<&'static str>, text: &str, language: Language, out: &mut String) {
    out.push('\n');
    wrap(title.get(language), 0, out);
    out.push_str("  ");
    wrap(text, 2, out);
}

impl Finding {
    fn write(&self, language: Language, out: &mut String) {
        wrap(self.answer.get(language), 0, out);
        if !self.out_of_distribution.is_empty() {
            out.push('\n');
            wrap(said("Out of distribution", "分布之外").get(language), 0, out);
        }
        for unseen in &self.out_of_distribution {
            let label = padded(unseen.what.words().get(language), 11);
            out.push_str(&format!("  {label}"));
            let (counted, note) = (unseen.counted(language), unseen.note.get(language));
            wrap(words!("{counted}: {note}", "{counted}：{note}").get(language), 13, out);
        }
        section(said("What to expect", "预期表现"), self.expect.get(language), language, out);
        section(said("What to do", "怎么办"), self.advice.get(language), language, out);
    }
}

/// The answers of [`explain_all`](super::explain_all) as a table: one row per encoding.
///
/// ```
/// use posenc::{Dims, Language, explain::{explain_all, overview}};
/// let table = overview(&explain_all(Dims::new(1024, 8)?, 2048, 3000)?, Language::English);
/// assert!(table.lines().any(|row| row.starts_with("learned") && row.contains("cannot")));
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn overview(all: &[(&'static str, Explanation)], language: Language) -> String {
    let mut out = String::new();
    let Some((_, first)) = all.first() else { return out };
    let (trained, length) = (first.trained, first.length);
    wrap(
        words!(
            "Trained on {trained} tokens, given {length}:",
            "训练长度 {trained}，给定长度 {length}："
        )
        .get(language),
        0,
        &mut out,
    );
    out.push('\n');
    let columns = [
        said("encoding", "编码"),
        said("does it run?", "能否运行"),
        said("out of distribution", "分布之外"),
    ];
    let mut rows = vec![columns.map(|c| c.get(language).to_string())];
    for (name, explanation) in all {
        let unseen = explanation
            .methods
            .iter()
            .flat_map(|m| &m.out_of_distribution)
            .filter(|u| u.unseen > 0)
            .map(|u| format!("{}\u{a0}{}", u.what.words().get(language), u.brief(language)))
            .collect::<Vec<_>>();
        rows.push([
            name.to_string(),
            explanation.class.words().get(language).to_string(),
            if unseen.is_empty() {
                said("nothing", "无").get(language).to_string()
            } else {
                unseen.join(said(", ", "，").get(language))
            },
        ]);
    }
    let widths = [0, 1].map(|c| rows.iter().map(|row| crate::words::width(&row[c])).max().unwrap_or(0) + 2);
    for [name, class, unseen] in &rows {
        out.push_str(&padded(name, widths[0]));
        out.push_str(&padded(class, widths[1]));
        wrap(unseen, widths[0] + widths[1], &mut out);
    }
    out
}
