//! What happens when a model trained on one length is given another: document 004's exercise, answered for any encoding.
//!
//! *If a model was trained with max position 2048, what happens when given a sequence of 3000 tokens? Consider different encoding types.*
//!
//! Nothing here is looked up: whether the encoding runs is found by asking it, what is out of distribution is counted from its configuration and the two lengths, and only
//! what to expect rests on published measurements, each named.
//!
//! ```
//! use posenc::{Dims, Encoding, Learned, Pairing, Rotary, explain::{Class, explain}};
//! let dims = Dims::new(1024, 8)?;
//! let table = explain(&Learned::new(2048).into(), dims, 2048, 3000)?;
//! assert_eq!(table.class, Class::Cannot);
//! let rotary = explain(&Rotary::new(Pairing::Halves).into(), dims, 2048, 3000)?;
//! assert_eq!(rotary.class, Class::CanButBreaks);
//! assert_eq!(rotary.methods[0].out_of_distribution[1].unseen, 23); // of 64 turning pairs
//! println!("{rotary}");
//! # Ok::<(), posenc::Error>(())
//! ```
//!
//! Pairs are those of a causal decoder: a query, and a key at or before it. In an encoder the shares of pairs by distance are nearly the same.
//!
#![cfg_attr(
    feature = "config",
    doc = "**A model's own file.** [`explain_model`] says of each layer of a `config.json` (read by [`config::read`](crate::config::read)) how fast its pairs turn, which never complete a turn, and what a \
           sequence of some length meets there; [`explain_extension`] says what a file for longer texts changes."
)]
//!
//! One file per family: `tables` (rows by id), `waves` (sines and rotations), `distances` (tables and lines by distance), `smooth` (formulas and networks of the distance); no encoding at all is in this one.

mod count;
mod distances;
pub(crate) mod formulas;
#[cfg(feature = "config")]
mod model;
mod published;
mod smooth;
mod tables;
mod text;
mod waves;

pub use count::Common;
pub use formulas::formula;
#[cfg(feature = "config")]
pub use model::{
    Arcs, AtLength, AxisFacts, ExtensionReport, Incomplete, Left, Lengths as FileLengths, ModelExplanation, PartExplanation,
    PlanExplanation, PlanReport, RotaryAt, RotaryFacts, Rounding, Scaled, Standing, Wave, explain_extension, explain_model,
};
pub use text::overview;

use crate::bias::{Kernel, t5_bucket};
use crate::catalogue::{CATALOGUE, PresetOptions, preset};
use crate::dims::Dims;
use crate::embed::{Overflow, Sinusoidal};
use crate::encoding::{Encoding, Method, each_method};
use crate::error::{Error, Result};
use crate::plan::Prepare;
use crate::positions::Positions;
use crate::rotate::Scaling;
use crate::words::{Words, decimal, grouped, words};
use count::Lengths;
use distances::Reads;
use published::Curve;
use serde::{Deserialize, Serialize};
use smooth::Falls;
use tables::Place;

/// What an encoding does at a length it was not trained on, as plain data. `Display` is the English text, [`Explanation::text`] any language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The encoding, as it prints itself.
    pub encoding: String,
    /// The widths of the model: how many angles and slopes there are depends on them.
    pub dims: Dims,
    /// Tokens in a training sequence.
    pub trained: u32,
    /// Tokens in the given sequence.
    pub length: u32,
    /// The class of its worst method.
    pub class: Class,
    /// The encoding has an answer for every position.
    pub runs: bool,
    /// The text of the error it refuses with, if it does.
    pub refusal: Option<String>,
    /// What any encoding meets.
    pub common: Common,
    /// What each of its methods meets; one entry named `none` for the empty encoding.
    pub methods: Vec<Finding>,
}

/// What one method meets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The method, as it prints itself.
    pub method: String,
    /// Which kind of answer it gives.
    pub class: Class,
    /// What happens, in a sentence or two.
    pub answer: Words,
    /// What training never showed, counted.
    pub out_of_distribution: Vec<Unseen>,
    /// What to expect of the loss, with the source.
    pub expect: Words,
    /// What to do about it.
    pub advice: Words,
}

/// The kinds of answer, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Training showed all of it.
    NothingNew,
    /// It runs because what is far saturates or is ignored: a steady loss, but no new reach.
    SaturatesOrIgnores,
    /// It runs on ids, distances or angles that training never showed.
    CanButBreaks,
    /// It has no answer and says so.
    Cannot,
}

/// One count of what training never showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unseen {
    /// What is counted.
    pub what: What,
    /// How many of them training never showed.
    pub unseen: u64,
    /// How many there are.
    pub total: u64,
    /// Which ones they are.
    pub note: Words,
}

/// What an [`Unseen`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Position ids, or the vectors that belong to them.
    Ids,
    /// Causal pairs of a query and a key, by the query's id.
    Pairs,
    /// Causal pairs of a query and a key, by their distance.
    Distances,
    /// Frequencies: turning pairs of coordinates, or sine and cosine columns.
    Angles,
    /// Buckets or rows of a table of distances.
    Buckets,
    /// Queries, by the number of keys they see.
    Contexts,
}

impl Unseen {
    pub(crate) fn new(what: What, unseen: u64, total: u64, note: Words) -> Unseen {
        Unseen { what, unseen, total, note }
    }

    /// The share that training never showed, between 0 and 1.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, explain::explain};
    /// let nope = explain(&Encoding::none(), Dims::new(64, 4)?, 64, 128)?;
    /// assert_eq!(nope.methods[0].out_of_distribution[0].share(), 0.5);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn share(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            self.unseen as f64 / self.total as f64
        }
    }
}

/// Explains what `encoding` does in a model of these widths that was trained on sequences of `trained` tokens and is given one of `length`.
///
/// # Errors
/// A length of zero or past `u32::MAX`, or widths that the encoding cannot work with.
///
/// ```
/// use posenc::{Dims, Encoding, explain::explain};
/// let nope = explain(&Encoding::none(), Dims::new(64, 4)?, 64, 128)?;
/// assert!(nope.runs && nope.common.new_ids == 64);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn explain(encoding: &Encoding, dims: Dims, trained: usize, length: usize) -> Result<Explanation> {
    let trained = checked("trained length", trained)?;
    let length = checked("length", length)?;
    let plan = encoding.plan(dims)?;
    let dims = plan.dims();
    let lengths = Lengths {
        trained: u64::from(trained),
        length: u64::from(length),
    };
    let mut methods = Vec::new();
    let mut refusal = None;
    for method in &encoding.methods {
        let error = refuses(method, &dims, length)?;
        methods.push(finding(method, &dims, lengths, error.as_ref())?);
        refusal = refusal.or(error);
    }
    if methods.is_empty() {
        methods.push(none(lengths));
    }
    Ok(Explanation {
        encoding: encoding.to_string(),
        dims,
        trained,
        length,
        class: methods.iter().map(|m| m.class).max().unwrap_or(Class::NothingNew),
        runs: refusal.is_none(),
        refusal: refusal.map(|error| error.to_string()),
        common: Common::new(trained, length),
        methods,
    })
}

/// [`explain`] for every entry of the [`catalogue`](crate::catalogue::catalogue), each as its preset for the trained length makes it.
///
/// # Errors
/// As [`explain`].
///
/// ```
/// use posenc::{Dims, explain::{explain_all, overview}, Language};
/// let all = explain_all(Dims::new(1024, 8)?, 2048, 3000)?;
/// assert_eq!(all.iter().filter(|(_, e)| e.runs).count() + all.iter().filter(|(_, e)| !e.runs).count(), all.len());
/// println!("{}", overview(&all, Language::English));
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn explain_all(dims: Dims, trained: usize, length: usize) -> Result<Vec<(&'static str, Explanation)>> {
    checked("trained length", trained)?;
    CATALOGUE
        .iter()
        .map(|entry| {
            let encoding = preset(entry.name, &PresetOptions::new(trained))?;
            Ok((entry.name, explain(&encoding, dims, trained, length)?))
        })
        .collect()
}

fn checked(what: &'static str, length: usize) -> Result<u32> {
    if length == 0 {
        return Err(Error::Zero { what });
    }
    u32::try_from(length).map_err(|_| Error::Invalid {
        what,
        given: length.to_string(),
        expected: "at most 4294967295",
    })
}

/// The error that a call on positions 0 … length − 1 ends with, if it does: the method is asked, not its description.
///
/// A method that refuses a position refuses all later ones, so the first refused one is found by halving; the error is then that of the shortest sequence that fails, which is
/// the one any longer sequence fails with. A table of positions as long as `length` is never made.
fn refuses(method: &Method, dims: &Dims, length: u32) -> Result<Option<Error>> {
    let ask = |q_at: &Positions, k_at: &Positions| each_method!(method, m => m.prepare::<f32>(dims, q_at, k_at)).err();
    // A query of this id over the first key: ids and distances that are refused are refused here.
    let refuses = |id: u32| ask(&Positions::range(i64::from(id)..i64::from(id) + 1), &Positions::range(0..1)).is_some();
    if !refuses(length - 1) {
        return Ok(None);
    }
    let (mut good, mut bad) = (0, length - 1);
    while good < bad {
        let middle = good + (bad - good) / 2;
        if refuses(middle) {
            bad = middle;
        } else {
            good = middle + 1;
        }
    }
    let shortest = Positions::range(0..i64::from(bad) + 1);
    Ok(ask(&shortest, &shortest))
}

/// What one method meets. Each arm hands plain numbers to the method's own function.
fn finding(method: &Method, dims: &Dims, lengths: Lengths, refusal: Option<&Error>) -> Result<Finding> {
    let table = |place, rows: usize, overflow| tables::table(place, rows as u64, overflow, lengths);
    let clipped = |reads, max_distance: usize| distances::clipped(reads, max_distance as u64, lengths);
    let projected = |clamp_len: Option<usize>| -> Result<Finding> {
        let frequencies = Sinusoidal::paper().frequencies(dims.model_dim)?;
        Ok(match clamp_len.map(|clamp_len| clamp_len as u64) {
            Some(clamp_len) if clamp_len < lengths.trained => distances::clipped(Reads::Keys, clamp_len, lengths),
            clamp_len => waves::distances(&frequencies, clamp_len, lengths),
        })
    };
    let mut found = if refusal.is_none() && lengths.length <= lengths.trained && !stretched(method, lengths) {
        nothing_new(lengths)
    } else {
        match method {
            Method::Learned(m) => table(Place::Embeddings, m.max_len - m.offset, m.overflow),
            Method::InputTable(m) => table(Place::Attention, m.max_len, m.overflow),
            Method::Sinusoidal(m) => {
                let turns = m
                    .frequencies(m.width(dims))?
                    .iter()
                    .map(|w| w * m.position_scale.abs())
                    .collect::<Vec<_>>();
                waves::sinusoidal(&turns, lengths)
            }
            Method::Rotary(m) => {
                let plain = Scaling::Unscaled.frequencies(m.base, m.width(dims.head_dim), 0)?.pairs;
                let found = match &m.scaling {
                    Scaling::Unscaled => waves::rotary(&plain, m.base, lengths),
                    scaling => {
                        let scaled = m
                            .frequencies(dims.head_dim, usize::try_from(lengths.length).unwrap_or(usize::MAX))?
                            .pairs;
                        waves::scaled_rotary(&plain, &scaled, &scaling.to_string(), lengths)
                    }
                };
                match &m.decay {
                    Some(xpos) => waves::fading(found, xpos, plain.len(), lengths),
                    None => found,
                }
            }
            Method::Alibi(m) => distances::alibi(&m.slopes.for_heads(dims.heads)?, lengths),
            Method::ClippedBias(m) => clipped(Reads::Scalars, m.max_distance),
            Method::SharedBias(m) => clipped(Reads::Scalars, m.max_distance),
            Method::Shaw(m) => clipped(if m.values { Reads::KeysAndValues } else { Reads::Keys }, m.max_distance),
            Method::MusicTransformer(m) => distances::table(m.max_len as u64, m.overflow == Overflow::Clamp, lengths),
            Method::TransformerXl(m) => projected(m.clamp_len)?,
            Method::XlNet(m) => projected(m.clamp_len)?,
            Method::Deberta(m) => {
                let row = |distance: u64| m.row(distance as i64) as u64;
                distances::rows(Reads::Keys, row, lengths)
            }
            Method::T5Bias(m) => {
                // The settings have been checked: only they can make the bucket fail.
                let bucket = |distance: u64| t5_bucket(-(distance as i64), m.bidirectional, m.buckets, m.max_distance).unwrap_or(0) as u64;
                let buckets = if m.bidirectional { m.buckets / 2 } else { m.buckets };
                distances::t5(bucket, buckets as u64, lengths)
            }
            Method::Kerple(m) => match m.kernel {
                Kernel::Log => smooth::falling(Falls::Logarithm, lengths),
                Kernel::Power => smooth::falling(Falls::Power, lengths),
            },
            Method::Sandwich(m) => smooth::falling(
                Falls::Sinusoids {
                    frequencies: m.width as u64 / 2,
                },
                lengths,
            ),
            Method::Fire(m) => smooth::fire(m.length, lengths),
            Method::SwinBias(m) => distances::table(m.window[1] as u64, false, lengths),
            Method::LogCpb(m) => smooth::log_cpb(m.window[1] as u64, lengths),
        }
    };
    found.method = method.to_string();
    if let Some(error) = refusal {
        let nothing = words!("Nothing is computed: {error}.", "不会计算任何结果：{error}。");
        found.expect = if found.class == Class::Cannot {
            nothing.and(found.expect)
        } else {
            // No length is to blame: the method asks for other positions than a sequence has.
            found.answer = words!("It does not run: {error}.", "不能运行：{error}。");
            found.advice = words!("Give it the positions that it asks for.", "请提供它所要求的位置。");
            found.out_of_distribution.clear();
            words!(
                "Nothing is computed, at this or any other length.",
                "无论在这一长度还是任何长度，都不会计算任何结果。"
            )
        };
        found.class = Class::Cannot;
    }
    Ok(found)
}

/// A table that is read between its rows, or a rotation at other speeds than in training, at every length.
fn stretched(method: &Method, lengths: Lengths) -> bool {
    let over = |rows: usize, overflow| tables::stretched_over(rows as u64, overflow, lengths.length).is_some();
    match method {
        Method::Learned(m) => over(m.max_len - m.offset, m.overflow),
        Method::InputTable(m) => over(m.max_len, m.overflow),
        Method::Rotary(m) => match m.scaling {
            Scaling::Unscaled => false,
            Scaling::Dynamic { original_len, .. } => lengths.length > original_len as u64,
            _ => true,
        },
        _ => false,
    }
}

fn nothing_new(lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let last = length - 1;
    Finding {
        method: String::new(),
        class: Class::NothingNew,
        answer: words!(
            "It runs, and nothing is new: training on {trained} tokens showed every id and every distance from 0 to {last}.",
            "能运行，而且没有任何新情况：长度 {trained} 的训练已经覆盖 0 到 {last} 的全部位置编号和距离。"
        ),
        out_of_distribution: Vec::new(),
        expect: words!("The loss of training.", "与训练时相同的损失。"),
        advice: words!("Nothing to do.", "无需处理。"),
    }
}

/// No encoding at all.
fn none(lengths: Lengths) -> Finding {
    let Lengths { trained, length } = lengths;
    let found = if length <= trained {
        nothing_new(lengths)
    } else {
        let new = grouped(lengths.ids_from(trained));
        let step = |t: u64| format!("{:.1e}", 1.0 / (t as f64 * (t + 1) as f64));
        let (before, after) = (step(trained), step(length));
        let gain = format!("{:+.3}", lengths.factor().ln());
        Finding {
            method: String::new(),
            class: Class::CanButBreaks,
            answer: words!(
                "It runs: without ids none can be out of range. Order comes from the causal mask alone, and {new} queries see more keys than any query did in training.",
                "能运行：没有位置编号，也就没有编号越界。顺序只来自因果掩码，而有 {new} 个查询看到的键比训练中任何查询都多。"
            ),
            out_of_distribution: vec![Unseen::new(
                What::Contexts,
                lengths.ids_from(trained),
                length,
                words!("queries that see more than {trained} keys", "能看到超过 {trained} 个键的查询"),
            )],
            expect: words!(
                "The model reads positions from the share 1/t of each of t keys; the step from one position to the next shrinks from {before} to {after}, and the softmax spreads \
                 over more keys ({gain} nat). Such models usually hold to 1.2 to 1.8 times the trained length, then break.",
                "模型从 t 个键各占 1/t 的份额中读出位置；相邻位置之差从 {before} 缩小到 {after}，softmax 也分散到更多的键上（{gain} nat）。这类模型通常能维持到训练长度的 1.2 至 1.8 倍，然后失效。"
            )
            .and(published::nearest(Curve::None, trained, length).sentence(Curve::None)),
            advice: words!(
                "Read in windows of {trained} tokens, sharpen the softmax as ln n grows (SSMax, arXiv 2501.19399), or train briefly at {length}. \
                 Without a causal mask such a model is blind to order at every length.",
                "按 {trained} 个词元的窗口读取，或随 ln n 增大而锐化 softmax（SSMax, arXiv 2501.19399），或在长度 {length} 上短暂续训。没有因果掩码时，这种模型在任何长度上都看不到顺序。"
            ),
        }
    };
    Finding {
        method: "none".into(),
        ..found
    }
}

/// `n %` with two decimals and a space that does not break.
pub(crate) fn percent(share: f64) -> String {
    format!("{}\u{a0}%", decimal(100.0 * share, 2))
}

#[cfg(test)]
mod tests;
