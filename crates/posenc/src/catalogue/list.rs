//! The catalogue as text.

use super::{Entry, catalogue};
use crate::words::{Language, padded, said, width, words, wrap};

impl Entry {
    /// What the documents say about longer sequences and what a committed comparison measured, side by side.
    fn longer(&self, language: Language) -> String {
        let claims: Vec<String> = self
            .claims
            .iter()
            .map(|claim| {
                let (quote, document) = (claim.quote, claim.document);
                words!("“{quote}” (document {document})", "“{quote}”（文档 {document}）")
                    .get(language)
                    .to_string()
            })
            .collect();
        let said_by = if claims.is_empty() {
            said("the documents do not say", "文档未提及").get(language).to_string()
        } else {
            claims.join(said(", ", "，").get(language))
        };
        let measured = match self.measured() {
            None => said("not measured here", "本项目未测量").get(language).to_string(),
            Some(measured) => {
                let (line, trained, run) = (measured.line(language), measured.trained, measured.run);
                words!(
                    "measured with L = {trained}: {line} ({run})",
                    "实测（L = {trained}）：{line}（{run}）"
                )
                .get(language)
                .to_string()
            }
        };
        words!("{said_by}; {measured}", "{said_by}；{measured}").get(language).to_string()
    }

    /// Everything about the entry but its formulas, a few lines of a terminal.
    ///
    /// ```
    /// use posenc::{catalogue::Entry, Language};
    /// assert!(Entry::named("alibi")?.text(Language::English).contains("2108.12409"));
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn text(&self, language: Language) -> String {
        let lines = [
            (said("acts on", "作用处"), self.acts.get(language).to_string()),
            (said("parameters", "参数"), self.parameters.get(language).to_string()),
            (said("limit", "上限"), self.limit.get(language).to_string()),
            (said("models", "使用者"), self.models.join(", ")),
            (said("paper", "论文"), self.paper.to_string()),
            (said("longer?", "更长？"), self.longer(language)),
        ];
        let labels = lines.iter().map(|(label, _)| width(label.get(language))).max().unwrap_or(0) + 2;
        let mut out = padded(self.name, 19);
        wrap(self.title.get(language), 19, &mut out);
        for (label, text) in lines {
            out.push_str(&format!("  {}", padded(label.get(language), labels)));
            wrap(&text, labels + 2, &mut out);
        }
        out
    }
}

/// All entries as text: where each acts, parameters, limit, models, paper, and "longer than trained?" as claimed and as measured.
///
/// ```
/// let text = posenc::catalogue::list(posenc::Language::English);
/// assert!(text.contains("token embeddings, once") && text.contains("document 003"));
/// ```
pub fn list(language: Language) -> String {
    let texts: Vec<String> = catalogue().iter().map(|entry| entry.text(language)).collect();
    texts.join("\n")
}
