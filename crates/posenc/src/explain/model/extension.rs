//! What an extended file does that it did not: before and after, and what the method asks for.

use super::at::{Arcs, tokens};
use super::facts::{Scaled, compared, wavelengths};
use super::frequencies;
use super::text::{list, pairs, ranges, sentence};
use crate::config::extend::{By, Change, Extended};
use crate::error::Result;
use crate::rotate::Scaling;
use crate::words::{Language, Words, decimal, words, wrap};
use serde::Serialize;
use std::fmt;

/// What changed with an extended file: plain data. `Display` is the English text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExtensionReport {
    /// The model type of the part that was extended.
    pub model_type: String,
    /// Path of its object; empty at the top.
    pub path: String,
    /// The method, as files name it.
    pub method: &'static str,
    /// Tokens before any scaling.
    pub original: usize,
    /// Tokens now.
    pub to: usize,
    /// By how much frequencies are scaled.
    pub factor: f64,
    /// Which keys are others than before.
    pub changes: Vec<Change>,
    /// Layers that turn.
    pub plans: Vec<PlanReport>,
    /// What the method does to short texts, and what it needs.
    pub needs: Vec<Words>,
    /// What was wrong with the file and was read all the same.
    pub warnings: Vec<String>,
}

/// Layers that turn, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanReport {
    /// Which layers.
    pub layers: Vec<usize>,
    /// The layer type, where the file has several.
    pub kind: Option<String>,
    /// Keys that a query sees at most, where that is less than the new length.
    pub window: Option<usize>,
    /// Their frequencies are others than before.
    pub changed: bool,
    /// Tokens for a turn of each pair before, in a call of the new length; `None` where a pair does not turn. `[pairs]`
    pub wavelengths_before: Vec<Option<f64>>,
    /// The same now.
    pub wavelengths: Vec<Option<f64>>,
    /// How the frequencies were changed.
    pub scaled: Option<Scaled>,
    /// What cosines and sines were multiplied by, and are.
    pub table_factor: (f64, f64),
    /// Frequencies at lengths that the file read before are others.
    pub short_changed: bool,
    /// What the new length meets, against the original one: before, and now.
    pub arcs: (Arcs, Arcs),
}

/// Says what an extended file does that it did not.
///
/// # Errors
/// None that [`extend`](crate::config::extend::extend) lets through.
pub fn explain_extension(extended: &Extended) -> Result<ExtensionReport> {
    let Extended { original, to, factor, .. } = *extended;
    let mut plans = Vec::new();
    for plan in &extended.plans {
        let head_dim = plan.dims.head_dim;
        let span = |n: usize| plan.window.map_or(n, |keys| n.min(keys));
        let plain = frequencies(&plan.before, head_dim, original, false)?;
        let (was, is) = (
            frequencies(&plan.before, head_dim, to, true)?,
            frequencies(&plan.after, head_dim, to, true)?,
        );
        let short = frequencies(&plan.before, head_dim, original, true)? != frequencies(&plan.after, head_dim, original, true)?;
        let tables = |rotary: &crate::Rotary| Ok::<_, crate::Error>(rotary.frequencies(head_dim, to)?.table_factor);
        let table_factor = (tables(&plan.before)?, tables(&plan.after)?);
        let changed = plan.before != plan.after;
        let by = match &extended.by {
            By::Ntk => format!("base {} in place of {}", plan.after.base, plan.before.base),
            _ => plan.after.scaling.to_string(),
        };
        plans.push(PlanReport {
            layers: plan.layers.clone(),
            kind: plan.kind.clone(),
            window: plan.window,
            changed,
            wavelengths_before: wavelengths(&was),
            wavelengths: wavelengths(&is),
            scaled: changed.then(|| compared(by, &plain, &is, factor, to)),
            short_changed: changed && (short || table_factor.0 != table_factor.1),
            table_factor,
            arcs: (
                Arcs::of(&plain, &was, span(original), span(to), false),
                Arcs::of(&plain, &is, span(original), span(to), true),
            ),
        });
    }
    let part = extended.after.parts.iter().find(|part| part.path == extended.path);
    Ok(ExtensionReport {
        model_type: part.map(|part| part.model_type.clone()).unwrap_or_default(),
        path: extended.path.clone(),
        method: extended.by.name(),
        original,
        to,
        factor,
        changes: extended.changes.clone(),
        needs: needs(extended),
        plans,
        warnings: extended.after.warnings.iter().map(ToString::to_string).collect(),
    })
}

/// What a method asks of who uses it, with the source.
fn needs(extended: &Extended) -> Vec<Words> {
    let Extended { original, to, .. } = *extended;
    let mut needs = vec![match extended.by {
        By::Linear => words!(
            "Needs fine-tuning: every distance looks shorter than in training, short ones too. Chen et al. (arXiv 2306.15595) trained 1000 steps; without, expect a loss at every length.",
            "需要微调：所有距离都显得比训练时更短，短距离也是。Chen et al.（arXiv 2306.15595）训练了 1000 步；不训练则在任何长度上都有损失。"
        ),
        By::Ntk => words!(
            "Works without training for small factors, at some loss: middle pairs are slowed by less than the factor, and may leave the arcs that training showed. Best followed by fine-tuning.",
            "因子较小时无需训练即可使用，但有一些损失：中间的坐标对减慢得比因子少，可能越出训练见过的弧。最好再微调。"
        ),
        By::Dynamic => words!(
            "Needs no training: up to {original} tokens nothing changes. Past it each new token changes all frequencies, so cached keys no longer fit the queries: turn them anew, recompute them, or decide the \
             length once for the whole sequence (vLLM does). transformers keeps the old keys.",
            "无需训练：在 {original} 个词元之内不变。超过之后每个新词元都改变所有频率，缓存的键不再与查询相符：应重新旋转、重新计算，或为整个序列一次定好长度（vLLM 的做法）。transformers 沿用旧的键。"
        ),
        By::Yarn => words!(
            "Works without training at some loss, better after some 400 steps (Peng et al., arXiv 2309.00071). Frequencies are the same at every length, so short texts pay too: use the file for long texts only, or \
             measure both.",
            "不训练也能用，但有一些损失，训练约 400 步后更好（Peng et al., arXiv 2309.00071）。频率在任何长度上都相同，因此短文本也要付出代价：只在长文本上使用这个文件，或两种长度都测量。"
        ),
        By::Llama3 { .. } => words!(
            "Meant for continued training on long texts, as Meta did; without it, like YaRN without its table factor. Frequencies are the same at every length.",
            "用于在长文本上继续训练，如 Meta 所做；不训练时类似没有表因子的 YaRN。频率在任何长度上都相同。"
        ),
        By::Longrope { .. } => words!(
            "The lists must come from a search on this model, and want fine-tuning. Up to {original} tokens it turns by the short ones, past it by the long ones: keys cached before the switch must be recomputed.",
            "因子表必须由在该模型上的搜索得到，并需要微调。在 {original} 个词元之内按短因子旋转，超过之后按长因子：切换之前缓存的键必须重新计算。"
        ),
    }];
    match extended.by {
        By::Dynamic => needs.push(words!(
            "max_position_embeddings is {original}, which dynamic scaling counts from. What cuts prompts at it must be told {to}.",
            "max_position_embeddings 为 {original}，动态缩放由它起算。按它截断提示的程序需要改为 {to}。"
        )),
        By::Linear => needs.push(words!(
            "max_position_embeddings is {original}: servers multiply it by the factor (vLLM does). What cuts prompts at it must be told {to}.",
            "max_position_embeddings 为 {original}：服务程序会把它乘以因子（如 vLLM）。按它截断提示的程序需要改为 {to}。"
        )),
        _ => {}
    }
    let replaced = extended
        .plans
        .iter()
        .find(|plan| plan.before != plan.after && plan.before.scaling != Scaling::Unscaled);
    if let Some(plan) = replaced {
        let scaling = plan.before.scaling.to_string();
        needs.push(words!(
            "{scaling} is gone from the file. A model that was trained with it has learned those frequencies: with others expect a loss at every length, those that it reads today included, until it is \
             trained with them.",
            "{scaling} 已从文件中去掉。带着它训练过的模型学到的是那些频率：换成别的频率后，在用它们训练之前，任何长度上都会有损失，包括今天能读的长度。"
        ));
    }
    let reached = (original as f64 * extended.factor).floor();
    if reached < to as f64 && !matches!(extended.by, By::Longrope { .. }) {
        let (factor, reached) = (decimal(extended.factor, 4), decimal(reached, 0));
        needs.push(words!(
            "A factor of {factor} over {original} tokens reaches {reached}, fewer than {to}: past that angles are new again.",
            "{original} 个词元乘以因子 {factor} 只到 {reached}，少于 {to}：超过之后仍会出现新的角度。"
        ));
    }
    needs
}

impl fmt::Display for ExtensionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Language::English))
    }
}

impl ExtensionReport {
    /// The report as text, wrapped for a terminal of 100 columns.
    pub fn text(&self, language: Language) -> String {
        let mut out = String::new();
        let Self {
            model_type,
            original,
            to,
            method,
            ..
        } = self;
        let factor = decimal(self.factor, 4);
        wrap(
            words!(
                "{model_type}: from {original} tokens to {to} by {method}, factor {factor}",
                "{model_type}：用 {method} 从 {original} 个词元扩展到 {to}，因子 {factor}"
            )
            .get(language),
            0,
            &mut out,
        );
        for change in &self.changes {
            let line = match (&change.before, &change.after) {
                (Some(before), Some(after)) => format!("{}: {} → {}", change.key, flat(before), flat(after)),
                (None, Some(after)) => format!("{}: + {}", change.key, flat(after)),
                (Some(before), None) => format!("{}: − {}", change.key, flat(before)),
                (None, None) => continue,
            };
            out.push_str("  ");
            wrap(&line, 4, &mut out);
        }
        for plan in &self.plans {
            out.push('\n');
            plan.write(
                *original,
                *to,
                self.plans.iter().map(|plan| plan.layers.len()).sum(),
                language,
                &mut out,
            );
        }
        out.push('\n');
        for need in &self.needs {
            wrap(need.get(language), 0, &mut out);
        }
        list(
            crate::words::said("Warnings", "警告"),
            self.warnings.iter().cloned(),
            language,
            &mut out,
        );
        out
    }
}

/// A value in one line; long lists are cut.
fn flat(value: &str) -> String {
    let line: String = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace("{ ", "{").replace(" }", "}").replace("[ ", "[").replace(" ]", "]");
    match line.char_indices().nth(240) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl PlanReport {
    fn write(&self, original: usize, to: usize, all: usize, language: Language, out: &mut String) {
        let which = ranges(&self.layers);
        let n = self.layers.len();
        let kind = self.kind.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default();
        let title = match n {
            n if n == all && n > 1 => words!("Layers {which}{kind}", "第 {which} 层{kind}"),
            0 => words!("All layers{kind}", "所有层{kind}"),
            1 => words!("Layer {which}{kind}", "第 {which} 层{kind}"),
            _ => words!("Layers {which} ({n}){kind}", "第 {which} 层（{n} 层）{kind}"),
        };
        wrap(title.get(language), 0, out);
        if !self.changed {
            let window = self.window.unwrap_or(to);
            let text = words!(
                "As they were: they see at most {window} keys, so no length brings them a new distance.",
                "保持不变：它们最多看 {window} 个键，任何长度都不会带来新的距离。"
            );
            sentence(2, &text, language, out);
            return;
        }
        let slowest = |waves: &[Option<f64>]| waves.iter().flatten().copied().fold(0.0, f64::max);
        let fastest = |waves: &[Option<f64>]| waves.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let (fast_was, slow_was) = (tokens(fastest(&self.wavelengths_before)), tokens(slowest(&self.wavelengths_before)));
        let (fast_is, slow_is) = (tokens(fastest(&self.wavelengths)), tokens(slowest(&self.wavelengths)));
        let text = words!(
            "One turn takes {fast_is} (was {fast_was}) to {slow_is} (was {slow_was}) tokens.",
            "转一圈需要 {fast_is}（原 {fast_was}）到 {slow_is}（原 {slow_was}）个词元。"
        );
        sentence(2, &text, language, out);
        if let Some(scaled) = &self.scaled {
            sentence(2, &scaled.words(), language, out);
        }
        if let Some(window) = self.window.filter(|window| *window <= original) {
            let text = words!(
                "They see at most {window} keys and would need no scaling: the model's class scales all its layers alike.",
                "它们最多看 {window} 个键，本不需要缩放：模型的类对所有层一视同仁。"
            );
            sentence(2, &text, language, out);
        }
        let (was, is) = (&self.arcs.0, &self.arcs.1);
        let (before, after) = (was.beyond, is.beyond);
        let which = pairs(is.range);
        let (en, zh) = match is.range {
            Some(_) => (format!(" ({})", which.en), format!("（{}）", which.zh)),
            None => Default::default(),
        };
        let text = words!(
            "At {to} tokens {after} pairs leave the arc of their circle that {original} tokens showed{en}; before, {before} did.",
            "{to} 个词元时有 {after} 对越出 {original} 个词元所见过的弧{zh}；原来有 {before} 对。"
        );
        sentence(2, &text, language, out);
        let (was, is) = self.table_factor;
        if was != is {
            let (was, is, squared) = (decimal(was, 6), decimal(is, 6), decimal((is / was).powi(2), 4));
            let text = words!(
                "Cosines and sines are multiplied by {is} (was {was}): the turned part of a score becomes {squared} times what it was, at every length.",
                "余弦与正弦乘以 {is}（原 {was}）：旋转部分的分数在任何长度上都变为 {squared} 倍。"
            );
            sentence(2, &text, language, out);
        }
        let text = if self.short_changed {
            words!(
                "Short texts change: up to {original} tokens it no longer turns as it did.",
                "短文本有变化：在 {original} 个词元之内也不再像原来那样旋转。"
            )
        } else {
            words!(
                "Short texts do not change: up to {original} tokens it turns as it did.",
                "短文本不变：在 {original} 个词元之内与原来相同。"
            )
        };
        sentence(2, &text, language, out);
    }
}
