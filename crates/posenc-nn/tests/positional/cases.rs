//! What [`crate::product`] and [`crate::decoding`] run through: every encoding, and every mask and setting.

use crate::{BATCH, HEADS, WIDTH, random};
use posenc::{
    AddTo, Alibi, Attention, ClippedBias, Deberta, DebertaProjections, Dims, Direction, Encoding, Fire, InputTable, Kerple, LayerSpec,
    Learned, LogCpb, MusicTransformer, Overflow, Pairing, Positions, Rotary, Sandwich, SharedBias, Shaw, Sinusoidal, SwinBias, T5Bias,
    TransformerXl, Window, XlNet,
};
use posenc_nn::{AttnMask, Number, PositionalArgs, PositionalMultiheadAttention};

pub const Q_LEN: usize = 4;
pub const K_LEN: usize = 6;
/// Rows of every table: larger than any position here.
const ROWS: usize = 24;

/// What acts inside attention, and what is refused there. Distances go past every clip, buckets past every limit.
pub fn encodings() -> Vec<(&'static str, Encoding)> {
    vec![
        ("none", Encoding::none()),
        ("input table", InputTable::new(ROWS).into()),
        ("input table, projected", InputTable::new(ROWS).projected().into()),
        (
            "input table, stretched",
            InputTable::new(5).with_overflow(Overflow::Interpolate).into(),
        ),
        (
            "input table, stretched to a length",
            InputTable::new(5).with_overflow(Overflow::InterpolateTo(ROWS)).into(),
        ),
        ("sinusoidal, inputs", Sinusoidal::paper().added_to(AddTo::AttentionInputs).into()),
        ("sinusoidal, projected", Sinusoidal::paper().added_to(AddTo::Projected).into()),
        ("rotary, interleaved", Rotary::new(Pairing::Interleaved).into()),
        ("rotary, halves", Rotary::new(Pairing::Halves).into()),
        ("rotary, partial", Rotary::new(Pairing::Halves).with_rotary_dim(2).into()),
        ("Shaw", Shaw::new(3).into()),
        ("Shaw, keys only", Shaw::keys_only(3).into()),
        ("Music Transformer", MusicTransformer::new(ROWS).into()),
        ("Transformer-XL", TransformerXl::paper().into()),
        ("Transformer-XL, conformer", TransformerXl::conformer().with_clamp_len(3).into()),
        ("XLNet", XlNet::new().into()),
        ("DeBERTa", Deberta::new(3, DebertaProjections::V2).into()),
        (
            "DeBERTa, shared, in buckets",
            Deberta::new(12, DebertaProjections::Shared).with_buckets(6).into(),
        ),
        ("ALiBi, causal", Alibi::new().into()),
        ("ALiBi, symmetric", Alibi::symmetric().into()),
        ("clipped", ClippedBias::new(3, Direction::KeyMinusQuery).into()),
        ("shared", SharedBias::new(3).into()),
        ("T5, encoder", T5Bias::encoder().with_buckets(8, 12).into()),
        ("T5, decoder", T5Bias::decoder().with_buckets(8, 12).into()),
        ("KERPLE", Kerple::log().into()),
        ("Sandwich", Sandwich::new().into()),
        ("FIRE", Fire::new().with_hidden(8).with_length(3.0).into()),
        ("Swin", SwinBias::new([ROWS, ROWS]).into()),
        ("Swin v2", LogCpb::new([3, 3]).with_hidden(8).into()),
        (
            "rotary and T5",
            Encoding::from(Rotary::new(Pairing::Halves)).with(T5Bias::encoder().with_buckets(8, 12)),
        ),
        (
            "input table, Shaw and ALiBi",
            Encoding::from(InputTable::new(ROWS)).with(Shaw::new(3)).with(Alibi::symmetric()),
        ),
        ("learned, at embeddings", Learned::new(ROWS).into()),
        ("sinusoidal, at embeddings", Sinusoidal::paper().into()),
    ]
}

/// One way to call attention.
#[derive(Clone)]
pub struct Case<R> {
    pub name: &'static str,
    pub attention: Attention,
    pub kv_heads: usize,
    pub at: [Option<Positions>; 2],
    pub placed: [Option<Vec<bool>>; 2],
    pub attn_mask: Option<Pairs<R>>,
    pub padding: Option<Pairs<R>>,
    pub causal: Option<usize>,
}

/// A mask that owns its numbers.
#[derive(Clone)]
pub enum Pairs<R> {
    Blocked(Vec<bool>, Vec<usize>),
    Added(Vec<R>, Vec<usize>),
}

impl<R: Number> Pairs<R> {
    fn blocked(shape: &[usize], blocks: impl Fn(usize) -> bool) -> Option<Pairs<R>> {
        Some(Pairs::Blocked((0..shape.iter().product()).map(blocks).collect(), shape.to_vec()))
    }

    /// Numbers of order 1, and some −∞; the same in every precision.
    fn added(shape: &[usize], blocks: impl Fn(usize) -> bool) -> Option<Pairs<R>> {
        let numbers: Vec<f32> = random(shape.iter().product(), 77);
        let number = |(i, x): (usize, &f32)| if blocks(i) { R::NEG_INFINITY } else { R::of(f64::from(*x)) };
        Some(Pairs::Added(numbers.iter().enumerate().map(number).collect(), shape.to_vec()))
    }

    fn given(&self) -> AttnMask<'_, R> {
        match self {
            Pairs::Blocked(mask, shape) => AttnMask::Blocked(mask, shape),
            Pairs::Added(mask, shape) => AttnMask::Additive(mask, shape),
        }
    }

    /// Whether it blocks a pair, read from its definition.
    fn blocks(&self, [b, h, i, j]: [usize; 4], padding: bool) -> bool {
        let (Pairs::Blocked(_, shape) | Pairs::Added(_, shape)) = self;
        let at = match shape[..] {
            _ if padding => b * K_LEN + j,
            [_, _] => i * K_LEN + j,
            [_, _, _] => ((b * HEADS + h) * Q_LEN + i) * K_LEN + j,
            [rows, heads, ..] => (((b % rows) * heads + h % heads) * Q_LEN + i) * K_LEN + j,
            _ => unreachable!("masks here have 2 to 4 axes"),
        };
        match self {
            Pairs::Blocked(mask, _) => mask[at],
            Pairs::Added(mask, _) => mask[at] == R::NEG_INFINITY,
        }
    }
}

impl<R: Number> Case<R> {
    fn new(name: &'static str) -> Case<R> {
        Case {
            name,
            attention: Attention::default(),
            kv_heads: HEADS,
            at: [None, None],
            placed: [None, None],
            attn_mask: None,
            padding: None,
            causal: None,
        }
    }

    pub fn args(&self) -> PositionalArgs<'_, R> {
        let ([q_at, k_at], [q_placed, k_placed]) = (&self.at, &self.placed);
        PositionalArgs {
            q_positions: q_at.clone(),
            k_positions: k_at.clone(),
            q_position_mask: q_placed.as_deref(),
            k_position_mask: k_placed.as_deref(),
            attn_mask: self.attn_mask.as_ref().map(Pairs::given),
            key_padding_mask: self.padding.as_ref().map(Pairs::given),
            need_weights: true,
            average_attn_weights: false,
            causal: self.causal,
        }
    }

    pub fn module(&self, encoding: &Encoding) -> posenc_nn::Result<PositionalMultiheadAttention> {
        let layer = LayerSpec {
            encoding: encoding.clone(),
            attention: self.attention.clone(),
        };
        PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS)?.with_kv_heads(self.kv_heads)?)
    }

    /// Whether a pair may attend.
    pub fn sees(&self, pair @ [_, _, i, j]: [usize; 4]) -> bool {
        let order = i + self.causal.unwrap_or(0);
        let Window { left, right } = self.attention.window.unwrap_or_default();
        let masks = [(&self.attn_mask, false), (&self.padding, true)];
        !(self.causal.is_some() && j > order
            || left.is_some_and(|left| j + left < order)
            || right.is_some_and(|right| j > order + right)
            || masks
                .into_iter()
                .any(|(mask, padding)| mask.as_ref().is_some_and(|mask| mask.blocks(pair, padding))))
    }
}

/// Every mask and setting, in the groups that are the columns of the table.
pub fn groups<R: Number>() -> Vec<(&'static str, Vec<Case<R>>)> {
    let new = Case::<R>::new;
    let (two, three, four) = ([Q_LEN, K_LEN], [BATCH * HEADS, Q_LEN, K_LEN], [BATCH, HEADS, Q_LEN, K_LEN]);
    let padding = [BATCH, K_LEN];
    // No row of these is empty but where it says so.
    let some = |i: usize| i % 3 == 1;
    let tail = |i: usize| i % K_LEN > 3 + i / K_LEN;
    let with_window = |window: Window| Attention {
        window: Some(window),
        ..Attention::default()
    };
    let narrow = Window {
        left: Some(1),
        right: Some(1),
    };
    let ids = [
        Some(Positions::whole_rows(&[4, 0, 4, 23, 2, 3, 9, 9], BATCH).expect("two rows")),
        Some(Positions::whole(&[0, 1, 1, 17, 4, 5])),
    ];
    let placed = [
        Some(vec![true, false, true, true, true, true, false, false]),
        Some(vec![true, true, false, true, true, false]),
    ];
    vec![
        (
            "masks",
            vec![
                new("none"),
                Case {
                    causal: Some(0),
                    ..new("causal")
                },
                Case {
                    causal: Some(2),
                    ..new("causal, after 2 keys")
                },
                Case {
                    attn_mask: Pairs::blocked(&two, some),
                    ..new("boolean [q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&three, some),
                    ..new("boolean [batch·heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&four, some),
                    ..new("boolean [batch, heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::blocked(&[BATCH, 1, Q_LEN, K_LEN], some),
                    ..new("boolean [batch, 1, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&two, some),
                    ..new("additive [q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&three, some),
                    ..new("additive [batch·heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&four, some),
                    ..new("additive [batch, heads, q_len, k_len]")
                },
                Case {
                    attn_mask: Pairs::added(&[1, HEADS, Q_LEN, K_LEN], |_| false),
                    ..new("additive [1, heads, q_len, k_len], nothing blocked")
                },
                Case {
                    padding: Pairs::blocked(&padding, tail),
                    ..new("boolean key padding")
                },
                Case {
                    padding: Pairs::added(&padding, tail),
                    ..new("additive key padding")
                },
                Case {
                    causal: Some(2),
                    attn_mask: Pairs::blocked(&three, some),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("causal, boolean and key padding")
                },
                Case {
                    causal: Some(0),
                    attn_mask: Pairs::added(&two, |_| false),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("causal, additive and key padding")
                },
                Case {
                    attn_mask: Pairs::blocked(&two, |i| i / K_LEN == 2),
                    ..new("a query that may attend to nothing")
                },
                Case {
                    padding: Pairs::added(&padding, |i| i >= K_LEN),
                    ..new("a batch row that is all padding")
                },
            ],
        ),
        (
            "positions",
            vec![
                Case {
                    at: ids.clone(),
                    ..new("positions of queries and keys")
                },
                Case {
                    placed: placed.clone(),
                    ..new("position masks")
                },
                Case {
                    at: ids.clone(),
                    placed,
                    causal: Some(2),
                    padding: Pairs::blocked(&padding, tail),
                    ..new("both, causal and key padding")
                },
                Case {
                    placed: [Some(vec![false; Q_LEN]), Some(vec![false; K_LEN])],
                    ..new("no position at all")
                },
            ],
        ),
        (
            "window, sinks, cap",
            vec![
                Case {
                    attention: with_window(narrow),
                    ..new("window")
                },
                Case {
                    attention: with_window(Window {
                        left: Some(2),
                        right: None,
                    }),
                    causal: Some(2),
                    ..new("window, causal")
                },
                Case {
                    attention: Attention {
                        sinks: true,
                        ..Attention::default()
                    },
                    ..new("sinks")
                },
                Case {
                    attention: Attention {
                        sinks: true,
                        ..Attention::default()
                    },
                    attn_mask: Pairs::blocked(&two, |i| i / K_LEN == 2),
                    ..new("sinks, and a query that may attend to no key")
                },
                Case {
                    attention: Attention {
                        softcap: Some(1.5),
                        ..Attention::default()
                    },
                    ..new("soft cap")
                },
                Case {
                    attention: Attention {
                        scale: Some(0.7),
                        softcap: Some(1.5),
                        window: Some(narrow),
                        sinks: true,
                        ..Attention::default()
                    },
                    at: ids,
                    causal: Some(1),
                    ..new("all of them, another scale, positions")
                },
            ],
        ),
        (
            "grouped heads",
            vec![
                Case {
                    kv_heads: 1,
                    ..new("one key head")
                },
                Case {
                    kv_heads: 1,
                    causal: Some(2),
                    attn_mask: Pairs::blocked(&three, some),
                    ..new("one key head, causal, a mask per head")
                },
            ],
        ),
        (
            "fractions",
            vec![Case {
                at: [
                    Some(Positions::real(&[0.5, -1.25, 7.0, 3.5]).expect("finite")),
                    Some(Positions::real(&[0.0, 0.25, 1.0, -2.5, 3.0, 19.5]).expect("finite")),
                ],
                ..new("fractional and negative positions")
            }],
        ),
        (
            "two axes",
            vec![Case {
                at: [Some(Positions::grid(2, 2)), Some(Positions::grid(2, 3))],
                ..new("positions on a grid")
            }],
        ),
    ]
}
