//! What a sequence of some length meets in a plan, and what to make of it.

use super::facts::within;
use super::{Lengths, PartExplanation, counted, frequencies, is_grid, rotary, stretched};
use crate::config::extend::{self, By};
use crate::config::{LayerPlan, Numbering, Part};
use crate::dims::Dims;
use crate::encoding::{Encoding, Method};
use crate::error::Result;
use crate::explain::{Class, Finding, explain};
use crate::real::Element;
use crate::rotate::{LengthPolicy, Precision, Rotary, Scaling};
use crate::words::{Words, decimal, significant, words};
use serde::Serialize;
use std::f64::consts::TAU;

/// Where a length stands to those that a file names, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Within the length before any scaling, or kept there by a window: nothing is new.
    Within,
    /// Past that, within what the scaling stretches it to; or past it with a method that saturates.
    Provided,
    /// Past all that the file provides for.
    Beyond,
    /// There is no answer.
    Cannot,
}

/// What a sequence of some length meets in the layers of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AtLength {
    /// Tokens.
    pub length: usize,
    /// Distances stay below this: the length, or the keys of a window.
    pub distances_below: usize,
    /// Where that stands; `None` where the file names no length.
    pub standing: Option<Standing>,
    /// What turning queries and keys meet.
    pub rotary: Option<RotaryAt>,
    /// What other methods meet.
    pub findings: Vec<Finding>,
}

/// What turning queries and keys meet at a length.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RotaryAt {
    /// Pairs by what training showed of them: against the original length as it was, where a scaling names it, and against the longest that the file provides for, as scaled.
    pub arcs: Vec<Arcs>,
    /// The length past which frequencies are others, where the scaling looks at the length.
    pub changes_past: Option<usize>,
    /// They change at every token from there on, not once.
    pub changes_each: bool,
    /// How far f32 code is from the angle itself, at the last positions.
    pub rounding: Option<Rounding>,
}

/// How far the angles of f32 code are from exact ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rounding {
    /// The largest difference in radians over the last 64 positions.
    pub radians: f64,
    /// The pair that has it.
    pub pair: usize,
}

/// Pairs by what training on a length showed of their circles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arcs {
    /// Tokens of that training; of a layer with a window, at most its keys.
    pub trained: usize,
    /// With the frequencies as scaled, or as they would be unscaled.
    pub scaled: bool,
    /// They turned round at least once: every angle is known.
    pub whole: usize,
    /// They did not, and stay on the arc that training showed.
    pub within: usize,
    /// They did not, and leave that arc.
    pub beyond: usize,
    /// The first and the last of those that leave it.
    pub range: Option<(usize, usize)>,
}

impl Arcs {
    /// `seen` are the frequencies of training, `now` those of a sequence of `length` tokens.
    pub(super) fn of(seen: &[f64], now: &[f64], trained: usize, length: usize, scaled: bool) -> Arcs {
        let mut arcs = Arcs {
            trained,
            scaled,
            whole: 0,
            within: 0,
            beyond: 0,
            range: None,
        };
        for (pair, (seen, now)) in seen.iter().zip(now).enumerate().filter(|(_, (seen, _))| **seen != 0.0) {
            let arc = trained as f64 * seen.abs();
            if arc >= TAU {
                arcs.whole += 1;
            } else if (length - 1) as f64 * now.abs() >= arc {
                arcs.beyond += 1;
                arcs.range = Some((arcs.range.map_or(pair, |(first, _)| first), pair));
            } else {
                arcs.within += 1;
            }
        }
        arcs
    }
}

/// What methods that are not rotary meet, as [`explain`] says it.
pub(super) fn findings(encoding: &Encoding, dims: Dims, trained: usize, length: usize) -> Result<Vec<Finding>> {
    if encoding.methods.is_empty() || trained == 0 {
        return Ok(Vec::new());
    }
    Ok(explain(encoding, dims, trained, length)?.methods)
}

fn standing_of(class: Class) -> Standing {
    match class {
        Class::NothingNew => Standing::Within,
        Class::SaturatesOrIgnores => Standing::Provided,
        Class::CanButBreaks => Standing::Beyond,
        Class::Cannot => Standing::Cannot,
    }
}

/// `embedded`: positions came with the embeddings, so a layer without its own is not blind.
pub(super) fn at(plan: &LayerPlan, lengths: &Lengths, length: usize, embedded: bool) -> Result<AtLength> {
    let mut at = AtLength {
        length,
        distances_below: within(plan, length),
        standing: None,
        rotary: None,
        findings: Vec::new(),
    };
    if !plan.attends {
        return Ok(at);
    }
    if let Some(rotary) = rotary(plan) {
        if is_grid(rotary) {
            return Ok(at);
        }
        at.rotary = Some(turning(plan, rotary, lengths, length)?);
        let base = stretched(&rotary.scaling).0.or(lengths.named);
        at.standing = base.zip(lengths.reach).map(|(base, reach)| {
            let stays = |bound: usize| at.distances_below <= within(plan, bound);
            if stays(base) {
                Standing::Within
            } else if stays(reach) {
                Standing::Provided
            } else {
                Standing::Beyond
            }
        });
    }
    let mut others = plan.spec.encoding.clone();
    others.methods.retain(|method| !matches!(method, Method::Rotary(_)));
    if let Some(trained) = lengths.named.filter(|trained| *trained > 0) {
        // A table is read by position, whatever the window; what looks at distances never meets those outside it.
        let by_distance = |method: &Method| !matches!(method, Method::Learned(_) | Method::Sinusoidal(_) | Method::InputTable(_));
        for method in &others.methods {
            let bound = |n: usize| if by_distance(method) { within(plan, n) } else { n };
            let one = Encoding {
                methods: vec![method.clone()],
            };
            at.findings.extend(findings(&one, plan.dims, bound(trained), bound(length))?);
        }
        if plan.spec.encoding.methods.is_empty() && !embedded && plan.attends {
            at.findings = explain(&Encoding::none(), plan.dims, within(plan, trained), within(plan, length))?.methods;
            for finding in at.findings.iter_mut().filter(|finding| finding.class == Class::NothingNew) {
                finding.answer = words!(
                    "Nothing is new: without positions, what counts is how many keys a query sees, and none sees more than in training.",
                    "没有新情况：没有位置编码时，只看一个查询能看到多少个键，而没有一个比训练时更多。"
                );
            }
        }
    }
    let worst = at.findings.iter().map(|finding| standing_of(finding.class)).max();
    at.standing = at.standing.max(worst);
    Ok(at)
}

fn turning(plan: &LayerPlan, rotary: &Rotary, lengths: &Lengths, length: usize) -> Result<RotaryAt> {
    let head_dim = plan.dims.head_dim;
    let now = frequencies(rotary, head_dim, length, true)?;
    let span = within(plan, length);
    let (original, _) = stretched(&rotary.scaling);
    let mut arcs = Vec::new();
    if let Some(original) = original {
        let plain = frequencies(rotary, head_dim, original, false)?;
        arcs.push(Arcs::of(&plain, &now, within(plan, original), span, false));
    }
    if let Some(reach) = lengths.reach.filter(|reach| Some(*reach) != original) {
        let scaled = frequencies(rotary, head_dim, reach, true)?;
        arcs.push(Arcs::of(&scaled, &now, within(plan, reach), span, true));
    }
    let looks = rotary.length == LengthPolicy::PerCall && rotary.scaling.depends_on_length();
    Ok(RotaryAt {
        arcs,
        changes_past: original.filter(|_| looks),
        changes_each: looks && matches!(rotary.scaling, Scaling::Dynamic { .. }),
        rounding: rounding(rotary, head_dim, &now, length)?,
    })
}

/// The last positions are as good as any: the rounding of an angle depends on its size, and their sizes are the largest.
fn rounding(rotary: &Rotary, head_dim: usize, exact: &[f64], length: usize) -> Result<Option<Rounding>> {
    const LAST: u64 = 64;
    if rotary.precision != Precision::Reference || length as f64 > f32::EXACT_INTEGERS {
        return Ok(None);
    }
    let trained = rotary.frequencies(head_dim, length)?.pairs;
    let length = counted(length)?;
    let mut worst = Rounding { radians: 0.0, pair: 0 };
    for position in length.saturating_sub(LAST)..length {
        for (pair, (rounded, exact)) in trained.iter().zip(exact).enumerate() {
            let angle = f64::from(position as f32 * *rounded as f32);
            let radians = (angle - position as f64 * exact).abs();
            if radians > worst.radians {
                worst = Rounding { radians, pair };
            }
        }
    }
    Ok(Some(worst))
}

/// Past this many times its length no model is known to read without training.
const FAR: usize = 4;

/// The verdict over all plans of a part, and what can be done; `file` names the file where it is one that can be extended.
pub(super) fn conclude(part: &mut PartExplanation, file: Option<&str>) {
    let Some(length) = part.length else { return };
    let embedded = part.on_embeddings.iter().map(|finding| standing_of(finding.class)).max();
    // A dictionary that no layer reads decides nothing.
    let read = |plan: &&super::PlanExplanation| part.layers == 0 || !plan.layers.is_empty();
    let plans: Vec<_> = part.plans.iter().filter(read).collect();
    let standing = plans.iter().filter_map(|plan| plan.at.as_ref()?.standing).max().max(embedded);
    let Some(standing) = standing else { return };
    let turns = plans.iter().any(|plan| plan.rotary.as_ref().is_some_and(|facts| !facts.grid));
    let scaled = plans
        .iter()
        .any(|plan| plan.rotary.as_ref().is_some_and(|facts| facts.scaled.is_some()));
    let bounded = plans
        .iter()
        .filter(|plan| plan.attends)
        .all(|plan| plan.at.as_ref().is_some_and(|at| at.distances_below < length));
    let Lengths {
        named, original, reach, ..
    } = part.lengths;
    let (named, reach) = (named.unwrap_or(length), reach.unwrap_or(length));
    let mut verdict = match standing {
        Standing::Within if bounded && length > reach => words!(
            "Nothing is new at {length} tokens: every layer looks through a window, and no window is longer than training.",
            "{length} 个词元没有任何新情况：每一层都只看一个窗口，而没有一个窗口比训练更长。"
        ),
        Standing::Within if part.lengths.by_default => words!(
            "Nothing is new at {length} tokens: the file names no length, and by its class's default the model reads {named}.",
            "{length} 个词元没有任何新情况：文件没有写明长度，按类的默认值模型可读 {named} 个词元。"
        ),
        Standing::Within => words!(
            "Nothing is new at {length} tokens: the file says that the model reads {named}.",
            "{length} 个词元没有任何新情况：文件说明模型可读 {named} 个词元。"
        ),
        Standing::Provided => match original {
            Some(original) => words!(
                "{length} tokens are past the {original} that came before scaling and within the {reach} that the scaling provides for. Whether the model was trained with it, the file does not say: \
                 if it was, nothing is new; if not, expect some loss and measure it.",
                "{length} 个词元超过缩放之前的 {original}，但在缩放所覆盖的 {reach} 之内。模型是否带着缩放训练过，文件没有说明：若训练过，则没有新情况；若没有，会有一些损失，请实际测量。"
            ),
            None => words!(
                "{length} tokens are past the {named} of training; what is far saturates or is ignored.",
                "{length} 个词元超过训练的 {named}；远处会饱和或被忽略。"
            ),
        },
        Standing::Beyond => {
            let times = decimal(length as f64 / reach as f64, 2);
            words!(
                "{length} tokens are {times} times the {reach} that the file provides for: some of what they meet is new to the model, and it will likely fail past {reach}.",
                "{length} 个词元是文件所覆盖的 {reach} 的 {times} 倍：会遇到模型从未见过的情况，超过 {reach} 后很可能失效。"
            )
        }
        Standing::Cannot => words!(
            "{length} tokens have no answer: see the refusal above.",
            "{length} 个词元没有答案：见上面的拒绝原因。"
        ),
    };
    if bounded && standing == Standing::Within && length > reach {
        verdict = verdict.and(words!(
            "What is farther than the windows reaches a token only through several layers.",
            "比窗口更远的内容只能经由多层传到一个词元。"
        ));
    }
    let mut advice = Vec::new();
    if standing == Standing::Beyond && turns {
        // What the class reads; a command that would be refused is no advice.
        let longrope = By::Longrope {
            short_factor: None,
            long_factor: None,
        };
        let takes = |by: &By| file.is_some() && extend::takes(&part.model_type, by);
        let file = file.unwrap_or_default();
        let more = match (scaled, original) {
            (false, _) => String::new(),
            (true, Some(_)) => " --replace".into(),
            (true, None) => " --replace --original L".into(),
        };
        if takes(&By::Yarn) && scaled {
            advice.push(words!(
                "posenc extend {file} --to {length} --method yarn{more}   in place of the scaling that it has: a model that was trained with that needs training with the new one",
                "posenc extend {file} --to {length} --method yarn{more}   取代现有的缩放：带着现有缩放训练过的模型需要用新的缩放再训练"
            ));
            if more.ends_with('L') {
                advice.push(words!(
                    "(L is how many tokens it was trained on before its scaling, which the file does not say.)",
                    "（L 是缩放之前的训练长度，文件没有说明。）"
                ));
            }
        } else if takes(&By::Yarn) && length > reach.saturating_mul(FAR) {
            let times = decimal(length as f64 / reach as f64, 1);
            advice.push(words!(
                "posenc extend {file} --to {length} --method yarn   scales the frequencies; {times} times the length wants training on long texts (YaRN's authors reached 32 times so)",
                "posenc extend {file} --to {length} --method yarn   缩放频率；扩展到 {times} 倍需要在长文本上训练（YaRN 的作者由此达到 32 倍）"
            ));
        } else if takes(&By::Yarn) {
            advice.push(words!(
                "posenc extend {file} --to {length} --method yarn{more}   scales the frequencies; short texts change a little, a short fine-tuning helps",
                "posenc extend {file} --to {length} --method yarn{more}   缩放频率；短文本略有变化，短暂微调有帮助"
            ));
        } else if takes(&longrope) {
            advice.push(words!(
                "posenc extend {file} --to {length} --method longrope{more}   by the file's own factors, or others that were searched for this length",
                "posenc extend {file} --to {length} --method longrope{more}   用文件自己的因子，或为这一长度搜索得到的因子"
            ));
        }
        if !scaled && takes(&By::Dynamic) {
            advice.push(words!(
                "posenc extend {file} --to {length} --method dynamic   changes nothing up to {named} tokens; cached keys need care past it",
                "posenc extend {file} --to {length} --method dynamic   在 {named} 个词元之内不变；超过之后要注意缓存的键"
            ));
        }
        advice.push(words!("Read in windows of {reach} tokens.", "按 {reach} 个词元的窗口读取。"));
    }
    for finding in &part.on_embeddings {
        if standing_of(finding.class) > Standing::Within {
            advice.push(finding.advice.clone());
        }
    }
    part.standing = Some(standing);
    part.verdict = Some(verdict);
    part.advice = advice;
}

/// What bounds the positions of a picture's cells, where a table has a row for each.
pub(super) fn picture(part: &mut PartExplanation, read: &Part) {
    let Numbering::Grid { height, width, .. } = read.numbering else {
        return;
    };
    part.verdict = Some(words!(
        "Positions are the {height} × {width} cells of a picture: no length in tokens bounds them. A picture of another size has other cells, so the table must be resized for it.",
        "位置是图像的 {height} × {width} 个格：不受词元长度的限制。另一尺寸的图像有不同的格，因此需要缩放这个表。"
    ));
    part.advice = vec![words!(
        "Give pictures of the trained size, or resize the table (posenc::embed::resize_grid; transformers does where it is asked to interpolate), at some loss.",
        "使用训练时的图像尺寸，或缩放这个表（posenc::embed::resize_grid；transformers 在要求插值时也这样做），会有一些损失。"
    )];
}

/// Neither the file nor the caller says how many tokens.
pub(super) fn unknown_length(part: &mut PartExplanation) {
    if part.plans.iter().all(|plan| plan.rotary.as_ref().is_some_and(|facts| facts.grid)) {
        return;
    }
    part.verdict = Some(words!(
        "The file names no length, so nothing is said of one: ask for one (--length N), and see the model's page for how many tokens it was trained on.",
        "文件没有写明长度，因此这里不谈长度：可以指定一个（--length N），并查看模型说明中的训练长度。"
    ));
}

/// Sines are defined past any length; a table of them ends.
pub(super) fn kept_as_a_table(rows: usize) -> Words {
    words!(
        "Code that keeps these sines as a table of {rows} rows, as transformers does for Whisper, refuses more.",
        "把这些正弦存为 {rows} 行的表的代码（如 transformers 的 Whisper）会拒绝更长的输入。"
    )
}

/// A wavelength as a person reads it: `6.28`, `54 650`, `2.1e7`.
pub(super) fn tokens(x: f64) -> String {
    match x {
        x if x >= 1e7 => significant(x),
        x if x >= 100.0 => crate::words::grouped(x.round() as u64),
        x => decimal(x, 2),
    }
}
