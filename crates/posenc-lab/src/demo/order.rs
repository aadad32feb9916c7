//! Word order: two sentences of the same words through one attention layer, without an encoding and with each.
//!
//! Attention without positions is permutation-*equivariant*: a token's output does not depend on where it stands, so two orders of the same words give the same multiset of outputs,
//! and the same mean. Every encoding must break that, or a model could not tell who ate whom. One thing is invisible to a bias that falls evenly on both sides: a plain reversal, which
//! keeps every distance |i − j|. And a causal mask alone, without any encoding, tells orders apart.
//!
//! **The layer.** Self-attention in f64, `model_dim` 32, 4 heads, input and output projections as PyTorch draws them, everything from one seed. A word is a vector drawn from
//! N(0, 1) by its name. Encodings are the catalogue's presets for 64 tokens; every number that they learn is drawn from N(0, 1): tables that begin with zeros, as many do, say nothing before training.
//! There is no mask, except for an encoding that is made for a causal one (ALiBi, T5 for decoders, Transformer-XL, Music Transformer, KERPLE, Sandwich, FIRE): its form for both sides, where it has one, follows in a row of its own.
//!
//! **The measure.** How far two multisets of outputs are apart: over all ways to pair the outputs of one sentence with those of the other, the least largest difference of a coordinate.
//!
//! **The bound.** What is equal in exact arithmetic differs by rounding alone. With u = ε/2, X the largest |coordinate| of the embedded words, A and O the largest sum of |weights| of a row of
//! the input and of the output projections, d the width of a head and n tokens, no sum has more than m = 2·width + d + n + 16 operations (16 for the exponential and the division of softmax), and
//! * |q|, |k|, |v| ≤ AX, each with an error of at most m·u·AX;
//! * |score| ≤ S = √d·(AX)², with what an encoding adds at most S + n (ALiBi's slopes are below 1), and an error of at most m·u·(S + n);
//! * a weight's relative error is at most twice that, and m·u for softmax itself;
//! * the output, |out| ≤ O·AX, is then off by at most O·AX·m·u·(2(S + n) + 5): weights, values, their sum, the output projection, the mean over tokens.
//!
//! Two computed outputs are at most twice that apart: `bound` = 2·m·ε·O·AX·(S + n + 3). Real roundings cancel, so what is equal is usually 10⁶ times nearer than the bound, or more.

use super::{EPSILON, apart, larger};
use crate::error::LabError;
use posenc::catalogue::{PresetOptions, catalogue, preset};
use posenc::{Alibi, Dims, Encoding, Form, Init, Mask, Method, Mode, Params, Positions, Rng, T5Bias, TransformerXl, View, ViewMut};
use posenc_nn::{AttentionTrace, MultiheadAttention, Streams};
use serde::Serialize;

/// Width of the layer.
const MODEL_DIM: usize = 32;
/// Its heads.
const HEADS: usize = 4;
/// The presets are those for sequences of this length: longer than the sentences, so that all distances are apart.
const PRESET_LENGTH: usize = 64;

/// The sentences of document 004, and a plain reversal of the first.
const PAIRS: [[&str; 2]; 3] = [
    ["the cat ate the fish", "the fish ate the cat"],
    ["dog bites man", "man bites dog"],
    ["the cat ate the fish", "fish the ate cat the"],
];

/// The word of the first pair whose places are compared: document 004's cat₁ and cat₄.
const WORD: &str = "cat";

/// What the demonstration found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Order {
    /// Everything that is drawn comes from it.
    pub seed: u64,
    /// Width of the layer.
    pub model_dim: usize,
    /// Its heads.
    pub heads: usize,
    /// The length that the presets are for.
    pub preset_length: usize,
    /// The sentences.
    pub pairs: Vec<Pair>,
    /// A row for each encoding of the catalogue in its order, each followed by its variants.
    pub rows: Vec<Row>,
    /// What should be seen, and whether it is.
    pub claims: Vec<Checked>,
}

/// Two sentences of the same words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// One order.
    pub first: String,
    /// The other.
    pub second: String,
    /// The second is the first read backwards.
    pub reversal: bool,
}

/// An encoding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name in the catalogue.
    pub name: &'static str,
    /// Which form of it.
    pub variant: Variant,
    /// What it is, in one line; `null` where the name has no preset.
    pub encoding: Option<String>,
    /// Keys after the query are masked.
    pub causal: bool,
    /// What came out.
    pub outcome: Outcome,
}

/// Which form of an encoding a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// The catalogue's.
    Preset,
    /// No encoding, but a causal mask.
    CausalMask,
    /// The form for both sides of the query, without a mask, of an encoding whose preset is for a causal one: −m|i − j| for ALiBi, an encoder's buckets for T5, rows for both signs for Transformer-XL.
    BothSides,
}

/// `{"measured": …}`, or `{"refused": "why"}` if the layer cannot be built with the encoding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The layer ran.
    Measured(Measured),
    /// It did not, and why.
    Refused(String),
}

/// What came out of the layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Differences up to here may be rounding; see the module's text.
    pub bound: f64,
    /// One for each of [`Order::pairs`].
    pub pairs: Vec<Compared>,
    /// One word of the first pair at its two places.
    pub places: Places,
}

/// The outputs for two sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// How far the two multisets of outputs are apart.
    pub difference: f64,
    /// The same between the outputs of one word alone, for each.
    pub words: Vec<OfWord>,
    /// The largest difference of the means over all tokens.
    pub pooled: f64,
    /// Multisets, means and each word's outputs are equal up to rounding: none of the differences exceeds the bound.
    pub same: bool,
}

/// The outputs of one word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfWord {
    /// The word.
    pub word: String,
    /// How far its outputs in one sentence are from those in the other, paired as they fit best.
    pub difference: f64,
}

/// A word in the two sentences of the first pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Places {
    /// The word.
    pub word: String,
    /// Where it stands in each sentence, from 0.
    pub at: [usize; 2],
    /// The largest difference of its two outputs.
    pub difference: f64,
    /// The difference may be rounding.
    pub same: bool,
}

/// A claim, and whether it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What is claimed.
    pub claim: Claim,
    /// It was seen in every row that it is about, and there is one.
    pub holds: bool,
    /// The encodings where it was not.
    pub except: Vec<&'static str>,
}

/// What the demonstration is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Without an encoding and a mask every pair gives the same outputs.
    NoEncodingIsBlind,
    /// With each other encoding no pair does, but for a symmetric ALiBi. Rows that were refused say nothing.
    EncodingsSeeOrder,
    /// Nor are the outputs of the word at its two places equal.
    EncodingsSeePlaces,
    /// ALiBi on both sides of the query cannot see a plain reversal, and sees the other order.
    SymmetricIsBlindToReversal,
    /// A causal mask alone tells orders apart.
    CausalMaskSeesOrder,
}

/// Runs the demonstration on every encoding of the catalogue.
///
/// ```
/// let order = posenc_lab::demo::order(1);
/// assert!(order.holds());
/// assert_eq!(order.rows[0].name, "none");
/// ```
pub fn order(seed: u64) -> Order {
    let pairs: Vec<Pair> = PAIRS.iter().map(Pair::new).collect();
    let mut rows = Vec::new();
    for entry in catalogue() {
        let row = |variant, encoding: &Encoding, causal| Row {
            name: entry.name,
            variant,
            encoding: Some(encoding.to_string()),
            causal,
            outcome: match measure(encoding, causal, seed) {
                Ok(measured) => Outcome::Measured(measured),
                Err(error) => Outcome::Refused(error.to_string()),
            },
        };
        let encoding = match preset(entry.name, &PresetOptions::new(PRESET_LENGTH)) {
            Ok(encoding) => encoding,
            Err(error) => {
                rows.push(Row {
                    name: entry.name,
                    variant: Variant::Preset,
                    encoding: None,
                    causal: false,
                    outcome: Outcome::Refused(error.to_string()),
                });
                continue;
            }
        };
        rows.push(row(Variant::Preset, &encoding, encoding.methods.iter().any(causal)));
        if encoding.methods.is_empty() {
            rows.push(row(Variant::CausalMask, &encoding, true));
        }
        // A preset is one method.
        if let [Some(method)] = &encoding.methods.iter().map(both_sides).collect::<Vec<_>>()[..] {
            let encoding = Encoding {
                methods: vec![method.clone()],
            };
            rows.push(row(Variant::BothSides, &encoding, false));
        }
    }
    let claims = check(&pairs, &rows);
    Order {
        seed,
        model_dim: MODEL_DIM,
        heads: HEADS,
        preset_length: PRESET_LENGTH,
        pairs,
        rows,
        claims,
    }
}

/// The method is made for a causal mask.
fn causal(method: &Method) -> bool {
    match method {
        Method::Alibi(alibi) => alibi.form == Form::Causal,
        Method::T5Bias(t5) => !t5.bidirectional,
        Method::TransformerXl(txl) => !txl.two_sided,
        // The same on both sides of the query: without a mask blind to reversal, as symmetric ALiBi is.
        Method::MusicTransformer(_) | Method::Kerple(_) | Method::Sandwich(_) | Method::Fire(_) => true,
        _ => false,
    }
}

/// The same method for both sides of the query, if it is made for a causal mask and has such a form.
fn both_sides(method: &Method) -> Option<Method> {
    match method {
        method if !causal(method) => None,
        Method::Alibi(alibi) => Some(Method::Alibi(Alibi {
            form: Form::Symmetric,
            ..alibi.clone()
        })),
        Method::T5Bias(t5) => Some(Method::T5Bias(T5Bias {
            bidirectional: true,
            ..t5.clone()
        })),
        Method::TransformerXl(txl) => Some(Method::TransformerXl(TransformerXl {
            two_sided: true,
            ..txl.clone()
        })),
        _ => None,
    }
}

/// Runs both sentences of each pair through the layer with this encoding, with or without a causal mask.
///
/// # Errors
/// The encoding refuses the layer's widths or the positions 0 to 4.
///
/// ```
/// use posenc_lab::demo::order::measure;
/// let without = measure(&posenc::Encoding::none(), false, 1)?;
/// assert!(without.pairs.iter().all(|pair| pair.same));
/// # Ok::<(), posenc_lab::LabError>(())
/// ```
pub fn measure(encoding: &Encoding, causal: bool, seed: u64) -> Result<Measured, LabError> {
    let layer = Layer::new(encoding, causal, seed)?;
    let mut bound = 0.0;
    let mut outputs = Vec::new();
    for pair in PAIRS {
        let mut both = Vec::new();
        for sentence in pair {
            let words = words(sentence);
            let (out, within) = layer.run(&words)?;
            bound = larger(bound, within);
            both.push((words, out));
        }
        outputs.push(both);
    }
    let width = layer.attention.width;
    let compared = outputs.iter().map(|both| compare(&both[0], &both[1], width, bound)).collect();
    let [first, second] = [0, 1].map(|i| &outputs[0][i]);
    let at = [first, second].map(|(words, _)| words.iter().position(|word| *word == WORD).unwrap_or_default());
    let difference = apart(row(&first.1, at[0], width), row(&second.1, at[1], width));
    Ok(Measured {
        bound,
        pairs: compared,
        places: Places {
            word: WORD.into(),
            at,
            difference,
            same: difference <= bound,
        },
    })
}

fn words(sentence: &str) -> Vec<&str> {
    sentence.split(' ').collect()
}

fn row(out: &[f64], i: usize, width: usize) -> &[f64] {
    &out[i * width..(i + 1) * width]
}

/// Words and their outputs `[n, width]`, of two sentences.
fn compare(first: &(Vec<&str>, Vec<f64>), second: &(Vec<&str>, Vec<f64>), width: usize, bound: f64) -> Compared {
    // How far the outputs of tokens that satisfy the condition are apart.
    let between = |wanted: &dyn Fn(&str) -> bool| {
        let rows = |(words, out): &'_ (Vec<&str>, Vec<f64>)| -> Vec<Vec<f64>> {
            let chosen = (0..words.len()).filter(|&i| wanted(words[i]));
            chosen.map(|i| row(out, i, width).to_vec()).collect()
        };
        let (a, b) = (rows(first), rows(second));
        matched(&a.iter().map(|a| b.iter().map(|b| apart(a, b)).collect()).collect::<Vec<_>>())
    };
    let mut different: Vec<&str> = Vec::new();
    first.0.iter().for_each(|word| {
        if !different.contains(word) {
            different.push(word);
        }
    });
    let of_word = |word: &str| OfWord {
        word: word.into(),
        difference: between(&|other| other == word),
    };
    let mean = |(words, out): &(Vec<&str>, Vec<f64>)| -> Vec<f64> {
        let sum = |c| (0..words.len()).map(|i| out[i * width + c]).sum::<f64>();
        (0..width).map(|c| sum(c) / words.len() as f64).collect()
    };
    let difference = between(&|_| true);
    let words: Vec<OfWord> = different.into_iter().map(of_word).collect();
    let pooled = apart(&mean(first), &mean(second));
    let same = [difference, pooled]
        .into_iter()
        .chain(words.iter().map(|word| word.difference))
        .all(|d| d <= bound);
    Compared {
        difference,
        words,
        pooled,
        same,
    }
}

/// The least over all ways to give each row a column of its own of the largest cost. The sentences are short enough to try them all.
fn matched(cost: &[Vec<f64>]) -> f64 {
    fn rest(cost: &[Vec<f64>], taken: &mut Vec<usize>, worst: f64, best: &mut f64) {
        let Some(row) = cost.get(taken.len()) else {
            *best = worst;
            return;
        };
        for (column, &cost_here) in row.iter().enumerate() {
            let worst = larger(worst, cost_here);
            if taken.contains(&column) || worst >= *best {
                continue;
            }
            taken.push(column);
            rest(cost, taken, worst, best);
            taken.pop();
        }
    }
    let mut best = f64::INFINITY;
    rest(cost, &mut Vec::new(), 0.0, &mut best);
    best
}

/// One attention layer with an encoding.
struct Layer {
    plan: posenc::Plan,
    attention: MultiheadAttention,
    params: Params<f64>,
    causal: bool,
    seed: u64,
}

/// Where the encoding's parameters stand in the layer's store.
const PREFIX: &str = "pos";

impl Layer {
    fn new(encoding: &Encoding, causal: bool, seed: u64) -> Result<Layer, LabError> {
        let dims = Dims::new(MODEL_DIM, HEADS)?;
        let plan = encoding.plan(dims)?;
        let attention = MultiheadAttention::new("attention", dims.model_dim + plan.concat_width(), dims).for_plan(&plan);
        let mut specs = attention.specs();
        specs.extend(plan.parameters().iter().map(|spec| {
            let mut spec = spec.clone().prefixed(PREFIX);
            spec.init = Init::Normal(1.0);
            spec
        }));
        Ok(Layer {
            plan,
            attention,
            params: Params::init(&specs, seed)?,
            causal,
            seed,
        })
    }

    /// The outputs of a sentence `[n, width]`, and how far two computations that are equal in exact arithmetic may be apart.
    fn run(&self, words: &[&str]) -> Result<(Vec<f64>, f64), LabError> {
        let (n, width) = (words.len(), self.attention.width);
        let at = Positions::range(0..n as i64);
        let call = self.plan.call(self.params.bound(PREFIX, PREFIX), &at, &at)?;
        let mut tokens = Vec::new();
        for word in words {
            let mut rng = Rng::named(self.seed, &format!("word.{word}"));
            tokens.extend((0..MODEL_DIM).map(|_| rng.normal()));
        }
        let mut x = vec![0.0; n * width];
        call.embed(
            View::new(&tokens, [1, n, MODEL_DIM])?,
            ViewMut::new(&mut x, [1, n, width])?,
            Mode::Evaluate,
        )?;
        let mask = if self.causal { Mask::none().causal(0) } else { Mask::none() };
        let mut out = vec![0.0; n * width];
        let (streams, mut trace) = (Streams::Same(&x[..]), AttentionTrace::default());
        self.attention
            .forward(&self.params, &call, streams, &mask, Mode::Evaluate, &mut out, None, &mut trace)?;
        Ok((out, self.bound(&x, n)?))
    }

    /// The bound of the module's text for embedded tokens `x` `[n, width]`.
    fn bound(&self, x: &[f64], n: usize) -> Result<f64, LabError> {
        let row_sum = |name: &str, columns: usize| -> Result<f64, LabError> {
            let rows = self.params.get(name)?.chunks(columns);
            Ok(rows.map(|row| row.iter().map(|w| w.abs()).sum::<f64>()).fold(0.0, larger))
        };
        let dims = self.plan.dims();
        let inner = dims.heads * dims.head_dim;
        let largest = x.iter().map(|x| x.abs()).fold(0.0, larger);
        let projected = largest * row_sum("attention.in_proj_weight", self.attention.width)?;
        let out = projected * row_sum("attention.out_proj.weight", inner)?;
        let operations = (2 * self.attention.width.max(inner) + dims.head_dim + n + 16) as f64;
        let score = (dims.head_dim as f64).sqrt() * projected * projected;
        Ok(2.0 * operations * EPSILON * out * (score + n as f64 + 3.0))
    }
}

impl Pair {
    fn new([first, second]: &[&str; 2]) -> Pair {
        let backwards: Vec<&str> = first.rsplit(' ').collect();
        Pair {
            first: first.to_string(),
            second: second.to_string(),
            reversal: backwards == words(second),
        }
    }
}

impl Measured {
    /// The multisets of outputs of a pair are further apart than rounding explains.
    fn tells_apart(&self, pair: usize) -> bool {
        // Not `!same`: a NaN is neither.
        self.pairs[pair].difference > self.bound
    }
}

/// Whether what should be seen is there.
fn check(pairs: &[Pair], rows: &[Row]) -> Vec<Checked> {
    let symmetric = |row: &Row| row.name == "alibi" && row.variant == Variant::BothSides;
    let none = |row: &Row| row.name == "none";
    let claim = |claim, about: &dyn Fn(&Row) -> bool, seen: &dyn Fn(&Measured) -> bool| {
        let measured = rows.iter().filter(|row| about(row)).filter_map(|row| match &row.outcome {
            Outcome::Measured(measured) => Some((row.name, seen(measured))),
            Outcome::Refused(_) => None,
        });
        let seen: Vec<(&'static str, bool)> = measured.collect();
        let except: Vec<&'static str> = seen.iter().filter(|(_, seen)| !seen).map(|(name, _)| *name).collect();
        Checked {
            claim,
            holds: !seen.is_empty() && except.is_empty(),
            except,
        }
    };
    let all_apart = |m: &Measured| (0..pairs.len()).all(|pair| m.tells_apart(pair));
    let encodings = |row: &Row| !none(row) && !symmetric(row);
    vec![
        claim(Claim::NoEncodingIsBlind, &|row| none(row) && !row.causal, &|m| {
            m.places.same && m.pairs.iter().all(|pair| pair.same)
        }),
        claim(Claim::EncodingsSeeOrder, &encodings, &all_apart),
        claim(Claim::EncodingsSeePlaces, &encodings, &|m| m.places.difference > m.bound),
        claim(Claim::SymmetricIsBlindToReversal, &symmetric, &|m| {
            let expected = |(i, pair): (usize, &Pair)| if pair.reversal { m.pairs[i].same } else { m.tells_apart(i) };
            pairs.iter().enumerate().all(expected)
        }),
        claim(Claim::CausalMaskSeesOrder, &|row| none(row) && row.causal, &|m| {
            all_apart(m) && m.places.difference > m.bound
        }),
    ]
}

impl Order {
    /// Every claim was seen.
    pub fn holds(&self) -> bool {
        self.claims.iter().all(|claim| claim.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(row: &Row) -> &Measured {
        match &row.outcome {
            Outcome::Measured(measured) => measured,
            Outcome::Refused(why) => panic!("{}: {why}", row.name),
        }
    }

    fn listed<'o>(order: &'o Order, name: &str, variant: Variant) -> &'o Row {
        let row = order.rows.iter().find(|row| row.name == name && row.variant == variant);
        row.unwrap_or_else(|| panic!("no row for {name}"))
    }

    fn find(order: &Order, name: &str, variant: Variant) -> Measured {
        measured(listed(order, name, variant)).clone()
    }

    #[test]
    fn every_encoding_of_the_catalogue_is_measured_and_every_claim_holds() {
        for seed in [0, 1, 2, u64::MAX] {
            let order = order(seed);
            for entry in catalogue() {
                find(&order, entry.name, Variant::Preset);
            }
            assert!(order.holds(), "seed {seed}: {:?}", order.claims);
            assert_eq!(order.claims.len(), 5);
        }
    }

    #[test]
    fn without_an_encoding_nothing_but_rounding_is_left() {
        let order = order(3);
        let none = find(&order, "none", Variant::Preset);
        assert!(none.bound < 1e-6, "{}", none.bound);
        for pair in &none.pairs {
            assert!(pair.same && pair.difference <= none.bound && pair.pooled <= none.bound);
            assert!(pair.words.iter().all(|word| word.difference <= none.bound));
        }
        assert!(none.places.same);
        assert_eq!((none.places.word.as_str(), none.places.at), ("cat", [1, 4]));
    }

    #[test]
    fn each_encoding_is_far_past_rounding() {
        let order = order(3);
        for row in &order.rows {
            let m = measured(row);
            if row.name == "none" && !row.causal {
                continue;
            }
            for (pair, compared) in order.pairs.iter().zip(&m.pairs) {
                let blind = row.name == "alibi" && !row.causal && pair.reversal;
                assert_eq!(compared.same, blind, "{} {:?} {}", row.name, row.variant, pair.second);
                if !blind {
                    // Far from the bound: the verdict does not hang on how generous the bound is.
                    assert!(
                        compared.difference > 1e4 * m.bound,
                        "{}: {} {}",
                        row.name,
                        compared.difference,
                        m.bound
                    );
                }
            }
            assert!(!m.places.same && m.places.difference > 1e4 * m.bound, "{}", row.name);
        }
    }

    #[test]
    fn symmetric_alibi_is_blind_to_reversal_alone() {
        let order = order(1);
        let reversals: Vec<bool> = order.pairs.iter().map(|pair| pair.reversal).collect();
        assert_eq!(reversals, [false, true, true]);
        let alibi = find(&order, "alibi", Variant::BothSides);
        assert_eq!(alibi.pairs.iter().map(|pair| pair.same).collect::<Vec<_>>(), reversals);
        // A table with a number for each side is not.
        for name in ["clipped", "shared", "shaw"] {
            assert!(find(&order, name, Variant::Preset).pairs.iter().all(|pair| !pair.same), "{name}");
        }
        assert!(find(&order, "t5", Variant::BothSides).pairs.iter().all(|pair| !pair.same));
    }

    #[test]
    fn what_is_made_for_a_causal_mask_has_one() {
        let order = order(1);
        for name in ["alibi", "t5"] {
            assert!(listed(&order, name, Variant::Preset).causal && !listed(&order, name, Variant::BothSides).causal);
        }
        for name in [
            "none",
            "learned",
            "sinusoidal",
            "input-table",
            "rotary",
            "shaw",
            "clipped",
            "shared",
        ] {
            assert!(!listed(&order, name, Variant::Preset).causal, "{name}");
            assert!(
                order.rows.iter().all(|row| row.name != name || row.variant != Variant::BothSides),
                "{name}"
            );
        }
        // Under a causal mask the first word sees itself alone: the man who bites and the one who is bitten differ.
        let causal = find(&order, "none", Variant::CausalMask);
        assert!(causal.pairs.iter().all(|pair| !pair.same) && !causal.places.same);
    }

    #[test]
    fn the_same_sentence_twice_is_the_same_and_another_word_is_not() {
        let layer = Layer::new(&Encoding::none(), false, 1).unwrap();
        let run = |sentence| {
            let words = words(sentence);
            let (out, bound) = layer.run(&words).unwrap();
            ((words, out), bound)
        };
        let ((a, bound), (b, _)) = (run("dog bites man"), run("dog bites cat"));
        assert_eq!(compare(&a, &a, MODEL_DIM, bound).difference, 0.0);
        assert!(compare(&a, &b, MODEL_DIM, bound).difference > bound);
    }

    #[test]
    fn the_best_matching_is_found() {
        let cost = vec![vec![1.0, 9.0, 2.0], vec![1.0, 5.0, 9.0], vec![3.0, 1.0, 1.0]];
        // 0 → 2, 1 → 0, 2 → 1.
        assert_eq!(matched(&cost), 2.0);
        assert!(matched(&[vec![f64::NAN]]).is_nan());
        assert_eq!(matched(&[]), 0.0);
    }

    #[test]
    fn a_claim_that_is_not_seen_is_named() {
        let order = order(1);
        let mut rows = order.rows.clone();
        for row in &mut rows {
            let Outcome::Measured(m) = &mut row.outcome else { continue };
            match (row.name, row.variant) {
                ("none", Variant::Preset) => m.pairs[1].same = false,
                ("rotary", _) => m.pairs[0].difference = 0.0,
                ("sinusoidal", _) => m.pairs[0].difference = f64::NAN,
                ("shaw", _) => m.places.difference = 0.0,
                ("alibi", Variant::BothSides) => m.pairs[2].same = false,
                ("none", Variant::CausalMask) => m.pairs[2].difference = 0.0,
                _ => {}
            }
        }
        let claims = check(&order.pairs, &rows);
        assert!(claims.iter().all(|claim| !claim.holds), "{claims:?}");
        assert_eq!(claims[1].except, ["sinusoidal", "rotary"]);
        // What was refused shows nothing, and nothing at all is no proof.
        rows.retain(|row| row.name != "alibi");
        rows.iter_mut().for_each(|row| row.outcome = Outcome::Refused("no".into()));
        assert!(
            check(&order.pairs, &rows)
                .iter()
                .all(|claim| !claim.holds && claim.except.is_empty())
        );
    }

    #[test]
    fn what_the_layer_cannot_serve_is_an_error_with_its_reason() {
        // Three rows for five words.
        let error = measure(&posenc::Learned::new(3).into(), false, 1).unwrap_err().to_string();
        assert!(error.contains("position 3"), "{error}");
    }

    #[test]
    fn one_seed_gives_one_answer() {
        assert_eq!(order(5), order(5));
        assert_ne!(order(5).rows, order(6).rows);
    }
}
