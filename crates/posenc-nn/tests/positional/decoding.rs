//! Decoding with a cache equals attention over the whole, for every encoding.

use crate::cases::encodings;
use crate::{BATCH, HEADS, WIDTH, random, rounding, with_params};
use posenc::{Attention, Dims, Encoding, Error, InputTable, LayerSpec, Mode, Overflow, Params, Positions, Window};
use posenc_nn::{AttentionTrace, AttnMask, DecodeArgs, KvCache, PositionalArgs, PositionalMultiheadAttention, Result, Streams};
use std::ops::Range;

const LEN: usize = 7;

/// A module with what it needs for a pass, and how far two right passes may lie apart.
struct Subject {
    module: PositionalMultiheadAttention,
    params: Params<f64>,
    /// `[BATCH, LEN, WIDTH]`.
    x: Vec<f64>,
    bound: f64,
}

impl Subject {
    fn new(encoding: &Encoding, attention: Attention, kv_heads: usize) -> Result<Subject> {
        let layer = LayerSpec {
            encoding: encoding.clone(),
            attention,
        };
        let module = PositionalMultiheadAttention::of_layer(&layer, Dims::new(WIDTH, HEADS)?.with_kv_heads(kv_heads)?)?;
        let (params, x) = (with_params(&module), random(BATCH * LEN * WIDTH, 1));
        // The same sums in another order: each pass lies this far from the exact numbers.
        let bound = 2.0 * rounding::bound(&module, &params, [&x; 3], LEN, 0.5 * f64::EPSILON);
        Ok(Subject { module, params, x, bound })
    }

    /// Some tokens of every row, `[BATCH, tokens, WIDTH]`.
    fn tokens(&self, tokens: Range<usize>) -> Vec<f64> {
        part(&self.x, LEN, tokens)
    }

    fn step(&self, x: &[f64], cache: &mut KvCache<f64>, args: &DecodeArgs<'_, f64>) -> Result<Vec<f64>> {
        let output = self
            .module
            .decode(&self.params, x, cache, args, Mode::Evaluate, &mut AttentionTrace::default())?;
        Ok(output.out)
    }

    /// Causal attention over the whole, `[BATCH, LEN, WIDTH]`.
    fn whole(&self, at: Option<&Positions>, placed: Option<&[bool]>) -> Result<Vec<f64>> {
        let args = PositionalArgs {
            q_positions: at.cloned(),
            k_positions: at.cloned(),
            q_position_mask: placed,
            k_position_mask: placed,
            causal: Some(0),
            ..Default::default()
        };
        let (streams, mode) = (Streams::Same(&self.x[..]), Mode::Evaluate);
        let output = self
            .module
            .forward(&self.params, streams, BATCH, &args, mode, &mut AttentionTrace::default())?;
        Ok(output.out)
    }

    fn agree(&self, what: &str, ours: &[f64], expected: &[f64]) {
        assert_eq!(ours.len(), expected.len(), "{}: {what}", self.module);
        for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let error = (ours - expected).abs();
            assert!(
                error <= self.bound,
                "{}: {what}: out[{i}] is {ours}, {expected} was expected, {:e} is allowed",
                self.module,
                self.bound
            );
        }
    }
}

/// Tokens of each row of `[rows, len, WIDTH]`.
fn part(x: &[f64], len: usize, tokens: Range<usize>) -> Vec<f64> {
    x.chunks(len * WIDTH)
        .flat_map(|row| row[tokens.start * WIDTH..tokens.end * WIDTH].to_vec())
        .collect()
}

/// The laws of decoding for an encoding, plain and with everything that attention has besides; or why there is no cache.
pub fn check(encoding: &Encoding) -> Result<()> {
    let rich = Attention {
        softcap: Some(2.0),
        window: Some(Window {
            left: Some(2),
            right: None,
        }),
        sinks: true,
        ..Attention::default()
    };
    for (attention, kv_heads) in [(Attention::default(), HEADS), (rich.clone(), HEADS), (rich, 1)] {
        let subject = match Subject::new(encoding, attention, kv_heads) {
            // A vector for all heads has no place among fewer: the table has a column for that.
            Err(_) if kv_heads < HEADS => continue,
            subject => subject?,
        };
        chunks_equal_the_whole(&subject)?;
        rows_of_their_own_lengths_equal_each_alone(&subject)?;
        a_row_can_be_cut_back(&subject)?;
        memory_is_read_once(&subject)?;
        an_error_leaves_the_cache_as_it_was(&subject)?;
    }
    Ok(())
}

fn chunks_equal_the_whole(subject: &Subject) -> Result<()> {
    // Positions by default; of one's own, in any order, per row; and some tokens without one.
    let ids: Vec<i64> = vec![0, 3, 2, 9, 10, 11, 4, 5, 5, 6, 1, 0, 20, 21];
    let own = Positions::whole_rows(&ids, BATCH)?;
    let placed: Vec<bool> = (0..BATCH * LEN).map(|i| i % 3 != 1).collect();
    for (at, placed) in [
        (None, None),
        (Some(own.clone()), None),
        (None, Some(&placed)),
        (Some(own), Some(&placed)),
    ] {
        let whole = subject.whole(at.as_ref(), placed.map(|flags| &flags[..]))?;
        for sizes in [&[LEN][..], &[1; LEN], &[3, 1, 2, 1], &[0, 5, 2]] {
            let mut cache = subject.module.cache(BATCH)?;
            let mut from = 0;
            for size in sizes {
                let tokens = from..from + size;
                let of_rows = |i: usize| (0..BATCH).flat_map(move |b| (0..i).map(move |t| (b, t)));
                let new_ids: Vec<i64> = of_rows(*size).map(|(b, t)| ids[b * LEN + from + t]).collect();
                let new_placed = placed.map(|flags| of_rows(*size).map(|(b, t)| flags[b * LEN + from + t]).collect::<Vec<_>>());
                let args = DecodeArgs {
                    positions: at.as_ref().map(|_| Positions::whole_rows(&new_ids, BATCH)).transpose()?,
                    position_mask: new_placed.as_deref(),
                    ..Default::default()
                };
                let out = subject.step(&subject.tokens(tokens.clone()), &mut cache, &args)?;
                subject.agree(&format!("chunks {sizes:?}, tokens {tokens:?}"), &out, &part(&whole, LEN, tokens));
                from += size;
            }
            assert_eq!(cache.lens(), [LEN; BATCH]);
        }
    }
    Ok(())
}

fn rows_of_their_own_lengths_equal_each_alone(subject: &Subject) -> Result<()> {
    // A prompt of 4 tokens and one of 2; two tokens more for both; then one for the first alone.
    let lengths = [[4, 2], [2, 2], [1, 0]];
    let mut cache = subject.module.cache(BATCH)?;
    let mut together = vec![Vec::new(); BATCH];
    for taken in lengths {
        let n = taken[0];
        let mut x = vec![0.0; BATCH * n * WIDTH];
        for b in 0..BATCH {
            let from = (b * LEN + cache.lens()[b]) * WIDTH;
            x[b * n * WIDTH..][..taken[b] * WIDTH].copy_from_slice(&subject.x[from..][..taken[b] * WIDTH]);
        }
        let args = DecodeArgs {
            lengths: Some(&taken),
            ..Default::default()
        };
        let out = subject.step(&x, &mut cache, &args)?;
        for (b, row) in out.chunks(n * WIDTH).enumerate() {
            let (real, padding) = row.split_at(taken[b] * WIDTH);
            together[b].extend_from_slice(real);
            assert!(padding.iter().all(|o| *o == 0.0), "padding gives zeros");
        }
    }
    assert_eq!(cache.lens(), [7, 4]);
    for b in 0..BATCH {
        let mut cache = subject.module.cache(1)?;
        let row = &subject.x[b * LEN * WIDTH..][..together[b].len()];
        let alone = subject.step(row, &mut cache, &DecodeArgs::default())?;
        subject.agree(&format!("row {b} beside a longer or shorter one"), &together[b], &alone);
    }
    Ok(())
}

fn a_row_can_be_cut_back(subject: &Subject) -> Result<()> {
    let (none, other) = (DecodeArgs::default(), random(BATCH * 2 * WIDTH, 9));
    let mut cache = subject.module.cache(BATCH)?;
    subject.step(&subject.x, &mut cache, &none)?;
    cache.truncate(&[4, 3])?;
    assert_eq!((cache.lens(), cache.k_len()), (&[4, 3][..], 4));
    let after = subject.step(&other, &mut cache, &none)?;

    let mut fresh = subject.module.cache(BATCH)?;
    let args = DecodeArgs {
        lengths: Some(&[4, 3]),
        ..Default::default()
    };
    subject.step(&subject.tokens(0..4), &mut fresh, &args)?;
    subject.agree("after truncate", &after, &subject.step(&other, &mut fresh, &none)?);

    // Down to nothing, and from the beginning.
    cache.truncate(&[0, 0])?;
    let again = subject.step(&subject.x, &mut cache, &none)?;
    subject.agree("after truncate to nothing", &again, &subject.whole(None, None)?);
    Ok(())
}

fn memory_is_read_once(subject: &Subject) -> Result<()> {
    let (module, mut trace) = (&subject.module, AttentionTrace::default());
    let (memory, values) = (random(BATCH * 5 * WIDTH, 2), random(BATCH * 5 * WIDTH, 3));
    let k_at = Positions::whole(&[4, 5, 6, 2, 1]);
    let padding: Vec<bool> = (0..BATCH * 5).map(|i| i == 9).collect();
    let padding = Some(AttnMask::Blocked(&padding, &[BATCH, 5]));
    let streams = Streams::Apart {
        query: &subject.x[..],
        key: &memory,
        value: &values,
    };
    let args = PositionalArgs {
        k_positions: Some(k_at.clone()),
        key_padding_mask: padding,
        ..Default::default()
    };
    let whole = module.forward(&subject.params, streams, BATCH, &args, Mode::Evaluate, &mut trace)?;

    // What is padding is masked at each step, or was never kept.
    for (kept, padding) in [([5, 5], padding), ([5, 4], None)] {
        let mut cache = module.cache(BATCH)?;
        for tokens in [0..3, 3..5] {
            let ids: Vec<i64> = tokens.clone().map(|t| [4, 5, 6, 2, 1][t]).collect();
            let lengths = kept.map(|kept| kept.min(tokens.end) - tokens.start);
            let args = DecodeArgs {
                positions: Some(Positions::whole(&ids)),
                lengths: Some(&lengths),
                ..Default::default()
            };
            let [key, value] = [&memory, &values].map(|x| part(x, 5, tokens.clone()));
            module.remember(&subject.params, &key, &value, &mut cache, &args, &mut trace)?;
        }
        let args = DecodeArgs {
            key_padding_mask: padding,
            causal: false,
            need_weights: true,
            ..Default::default()
        };
        for t in 0..LEN {
            let (query, mode) = (subject.tokens(t..t + 1), Mode::Evaluate);
            let step = module.recall(&subject.params, &query, &cache, &args, &[t; BATCH], mode, &mut trace)?;
            subject.agree("recalled", &step.out, &part(&whole.out, LEN, t..t + 1));
            let weights = step.weights.expect("asked for");
            assert!(weights.len() == BATCH * 5 && weights[9] == 0.0, "{weights:?}");
        }
        assert_eq!(cache.lens(), kept, "recalling appends nothing");
    }
    Ok(())
}

fn an_error_leaves_the_cache_as_it_was(subject: &Subject) -> Result<()> {
    let mut cache = subject.module.cache(BATCH)?;
    subject.step(&subject.tokens(0..3), &mut cache, &DecodeArgs::default())?;
    let before = (cache.lens().to_vec(), cache.positions().clone());
    let (mut untouched, next) = (cache.clone(), subject.tokens(3..4));
    let (wrong_mask, none) = ([false; 3], DecodeArgs::default());
    for args in [
        DecodeArgs {
            attn_mask: Some(AttnMask::Blocked(&wrong_mask, &[1, 3])), // the cache then has 4 keys
            ..none.clone()
        },
        DecodeArgs {
            positions: Some(Positions::range(0..2)),
            ..none.clone()
        },
        DecodeArgs {
            lengths: Some(&[2, 1]),
            ..none.clone()
        },
        DecodeArgs {
            position_mask: Some(&[true; 3]),
            ..none.clone()
        },
    ] {
        assert!(subject.step(&next, &mut cache, &args).is_err(), "{args:?}");
        assert_eq!((cache.lens().to_vec(), cache.positions().clone()), before);
    }
    assert!(subject.step(&next[1..], &mut cache, &none).is_err());
    let (ours, expected) = (subject.step(&next, &mut cache, &none)?, subject.step(&next, &mut untouched, &none)?);
    assert_eq!(ours, expected, "what a refused step left behind changes no bit");
    Ok(())
}

#[test]
fn decoding_equals_the_whole_for_every_encoding() {
    let mut decoded = 0;
    for (name, encoding) in encodings() {
        match check(&encoding) {
            Ok(()) => decoded += 1,
            Err(posenc_nn::Error::Core(Error::Unsupported { .. })) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(decoded >= 18, "{decoded} encodings decode");
}

/// A table that is stretched over each call has no cache; one that is stretched to a fixed length has.
#[test]
fn a_table_stretched_over_the_call_is_refused() {
    let cache = |overflow| {
        let encoding = Encoding::from(InputTable::new(4).with_overflow(overflow));
        PositionalMultiheadAttention::new(&encoding, WIDTH, HEADS)
            .and_then(|module| module.cache::<f64>(BATCH))
            .map(|cache| cache.batch())
    };
    assert!(matches!(
        cache(Overflow::Interpolate),
        Err(posenc_nn::Error::Core(Error::Unsupported { method: "decoding", .. }))
    ));
    assert_eq!(cache(Overflow::Clamp).ok(), Some(BATCH));
}

/// What is padding among the new tokens has neither output nor weights.
#[test]
fn padding_has_no_weights() {
    let subject = Subject::new(&Encoding::none(), Attention::default(), HEADS).expect("plain attention");
    for average_attn_weights in [true, false] {
        let args = DecodeArgs {
            lengths: Some(&[3, 1]),
            need_weights: true,
            average_attn_weights,
            ..Default::default()
        };
        let (mut cache, mut trace) = (subject.module.cache(BATCH).expect("a cache"), AttentionTrace::default());
        let x = subject.tokens(0..3);
        let output = subject
            .module
            .decode(&subject.params, &x, &mut cache, &args, Mode::Evaluate, &mut trace)
            .expect("a step");
        let weights = output.weights.expect("asked for");
        let heads = if average_attn_weights { 1 } else { HEADS };
        for (row, weights) in weights.chunks(3).enumerate() {
            let (b, i) = (row / (heads * 3), row % 3);
            let expected = f64::from(u8::from(i < [3, 1][b]));
            assert!(
                (weights.iter().sum::<f64>() - expected).abs() <= 4.0 * f64::EPSILON,
                "row {b}, query {i}: {weights:?}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let subject = Subject::new(&Encoding::none(), Attention::default(), HEADS).expect("plain attention");
    let mut cache = subject.module.cache(BATCH).expect("a cache");
    let (x, flags, none) = (subject.tokens(0..2), [false; 12], DecodeArgs::default());
    let mut say = |x: &[f64], args: DecodeArgs<'_, f64>, name: &str, numbers: [&str; 2]| {
        let text = subject.step(x, &mut cache, &args).expect_err("a refusal").to_string();
        assert!(text.contains(name) && numbers.iter().all(|n| text.contains(n)), "{text}");
    };
    say(&x[1..], none.clone(), "x [batch, n, embed_dim]", ["31", "16"]);
    let (lengths, at) = (Some(&[1, 1, 1][..]), Some(Positions::range(0..3)));
    say(&x, DecodeArgs { lengths, ..none.clone() }, "lengths", ["[2]", "[3]"]);
    say(
        &x,
        DecodeArgs {
            lengths: Some(&[1, 3]),
            ..none.clone()
        },
        "lengths",
        ["3", "at most"],
    );
    say(
        &x,
        DecodeArgs {
            positions: at,
            ..none.clone()
        },
        "positions",
        ["[2, 2]", "[1, 3]"],
    );
    let position_mask = Some(&flags[..3]);
    say(
        &x,
        DecodeArgs {
            position_mask,
            ..none.clone()
        },
        "position_mask",
        ["[2, 2]", "[3]"],
    );
    let attn_mask = Some(AttnMask::Blocked(&flags[..6], &[2, 3]));
    say(
        &x,
        DecodeArgs { attn_mask, ..none.clone() },
        "attn_mask",
        ["[2, 2, 2, 2]", "[2, 3]"],
    );
    let key_padding_mask = Some(AttnMask::Blocked(&flags[..6], &[2, 3]));
    say(
        &x,
        DecodeArgs { key_padding_mask, ..none },
        "key_padding_mask",
        ["[2, 2]", "[2, 3]"],
    );
}

/// A cache belongs to the widths that it was made for.
#[test]
fn a_cache_of_another_module_is_refused() {
    let plain = Subject::new(&Encoding::none(), Attention::default(), HEADS).expect("plain attention");
    let grouped = Subject::new(&Encoding::none(), Attention::default(), 1).expect("grouped heads");
    let mut cache = plain.module.cache(BATCH).expect("a cache");
    assert!(matches!(
        grouped.step(&grouped.x, &mut cache, &DecodeArgs::default()),
        Err(posenc_nn::Error::Core(Error::Unsupported { .. }))
    ));
    assert!(cache.truncate(&[0; 3]).is_err());
    assert!(
        plain
            .step(&[], &mut plain.module.cache(0).expect("no rows"), &DecodeArgs::default())
            .is_err()
    );
}

/// Past a learned table, and with a position that no table row has, the error is the position's, and the cache stays.
#[test]
fn a_token_past_the_table_is_refused_and_the_rest_can_go_on() {
    let table = Encoding::from(InputTable::new(LEN - 1));
    let subject = Subject::new(&table, Attention::default(), HEADS).expect("a table");
    let mut cache = subject.module.cache(BATCH).expect("a cache");
    let none = DecodeArgs::default();
    subject
        .step(&subject.tokens(0..LEN - 1), &mut cache, &none)
        .expect("the table's rows");
    let refused = subject.step(&subject.tokens(LEN - 1..LEN), &mut cache, &none);
    assert!(matches!(
        refused,
        Err(posenc_nn::Error::Core(Error::PastTable { position: 6, rows: 6, .. }))
    ));
    assert_eq!(cache.lens(), [LEN - 1; BATCH]);
    let reused = DecodeArgs {
        positions: Some(Positions::whole(&[2])),
        ..none
    };
    assert!(subject.step(&subject.tokens(LEN - 1..LEN), &mut cache, &reused).is_ok());
}
