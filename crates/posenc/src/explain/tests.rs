use super::*;
use crate::bias::{Alibi, T5Bias};
use crate::embed::{Learned, Overflow};
use crate::input::InputTable;
use crate::rotate::{Pairing, Rotary};
use crate::words::{Language, width};

/// Eight heads of 128.
fn dims() -> Dims {
    Dims::new(1024, 8).unwrap()
}

fn at_3000(encoding: impl Into<Encoding>) -> Explanation {
    explain(&encoding.into(), dims(), 2048, 3000).unwrap()
}

#[test]
fn the_exercise_of_document_004_in_classes() {
    let classes: Vec<(&str, Class)> = explain_all(dims(), 2048, 3000)
        .unwrap()
        .into_iter()
        .map(|(name, e)| (name, e.class))
        .collect();
    assert_eq!(
        classes,
        [
            ("none", Class::CanButBreaks),
            ("learned", Class::Cannot),
            ("sinusoidal", Class::CanButBreaks),
            ("input-table", Class::Cannot),
            ("rotary", Class::CanButBreaks),
            ("shaw", Class::SaturatesOrIgnores),
            ("music-transformer", Class::Cannot),
            ("transformer-xl", Class::CanButBreaks),
            ("xlnet", Class::CanButBreaks),
            ("deberta", Class::SaturatesOrIgnores),
            ("alibi", Class::SaturatesOrIgnores),
            ("clipped", Class::SaturatesOrIgnores),
            ("shared", Class::SaturatesOrIgnores),
            ("t5", Class::SaturatesOrIgnores),
            ("kerple", Class::SaturatesOrIgnores),
            ("sandwich", Class::SaturatesOrIgnores),
            ("fire", Class::SaturatesOrIgnores),
            ("swin", Class::Cannot),
            ("log-cpb", Class::CanButBreaks),
        ]
    );
}

#[test]
fn a_refusal_is_the_error_of_the_call_itself() {
    let at = Positions::range(0..3000);
    let tables: [Encoding; 3] = [
        Learned::new(2048).into(),
        InputTable::new(2048).into(),
        Learned {
            offset: 2,
            ..Learned::new(2050)
        }
        .into(),
    ];
    for encoding in tables {
        let plan = encoding.plan(dims()).unwrap();
        let params = plan.init::<f32>(0).unwrap();
        let Err(error) = plan.call(&params, &at, &at) else { panic!() };
        let found = at_3000(encoding);
        assert!(!found.runs);
        assert_eq!(found.refusal, Some(error.to_string()));
        assert!(found.methods[0].expect.en.contains(&error.to_string()));
        let counted = &found.methods[0].out_of_distribution;
        assert_eq!((counted[0].unseen, counted[1].unseen), (952, 2_403_324));
    }
}

#[test]
fn runs_means_that_the_call_runs() {
    for trained in [1usize, 2, 5, 16] {
        for length in [1usize, 2, 3, 6, 20] {
            for (name, found) in explain_all(Dims::new(16, 2).unwrap(), trained, length).unwrap() {
                let encoding = preset(name, &PresetOptions::new(trained)).unwrap();
                let plan = encoding.plan(Dims::new(16, 2).unwrap()).unwrap();
                let params = plan.init::<f32>(0).unwrap();
                let at = Positions::range(0..length as i64);
                let error = plan.call(&params, &at, &at).err().map(|e| e.to_string());
                assert_eq!(found.refusal, error, "{name} {trained} {length}");
                assert_eq!(found.runs, error.is_none());
                assert_eq!(found.class == Class::Cannot, error.is_some());
                if length <= trained {
                    assert_eq!(found.class, Class::NothingNew, "{name} {trained} {length}");
                } else {
                    assert!(found.class > Class::NothingNew);
                }
            }
        }
    }
}

#[test]
fn a_table_that_is_shorter_than_training_refuses_within_it() {
    let found = explain(&Learned::new(512).into(), dims(), 2048, 1000).unwrap();
    assert_eq!((found.class, found.runs), (Class::Cannot, false));
    assert_eq!(found.methods[0].out_of_distribution[0].unseen, 488);
}

#[test]
fn policies_past_a_table_run_and_break() {
    let policy = |overflow| at_3000(Learned::new(2048).with_overflow(overflow));
    for overflow in [
        Overflow::Clamp,
        Overflow::Wrap,
        Overflow::Interpolate,
        Overflow::InterpolateTo(3000),
    ] {
        let found = policy(overflow);
        assert_eq!((found.class, found.runs), (Class::CanButBreaks, true), "{overflow:?}");
    }
    assert!(policy(Overflow::Clamp).methods[0].answer.en.contains("the 953 tokens from id 2047"));
    assert_eq!(policy(Overflow::Interpolate).methods[0].out_of_distribution[0].unseen, 2998);
    assert_eq!(policy(Overflow::InterpolateTo(2500)).class, Class::Cannot);
    // A fixed stretch moves short inputs too.
    let short = explain(
        &Learned::new(2048).with_overflow(Overflow::InterpolateTo(3000)).into(),
        dims(),
        2048,
        1000,
    )
    .unwrap();
    assert_eq!(short.class, Class::CanButBreaks);
    assert_eq!(short.methods[0].out_of_distribution[0].unseen, 999);
}

#[test]
fn the_worst_method_decides() {
    let both = at_3000(Encoding::from(Rotary::new(Pairing::Halves)).with(Alibi::new()));
    assert_eq!(both.methods.len(), 2);
    assert_eq!(both.class, Class::CanButBreaks);
    let three = at_3000(Encoding::from(Alibi::new()).with(Learned::new(2048)).with(T5Bias::decoder()));
    assert_eq!((three.class, three.runs), (Class::Cannot, false));
    assert!(three.text(Language::English).contains("alibi(causal"));
}

#[test]
fn a_refusal_that_no_length_explains_is_told_as_it_is() {
    let image = Sinusoidal::paper().with_axes(&[0, 1]);
    let found = at_3000(image);
    assert_eq!(found.class, Class::Cannot);
    assert!(found.methods[0].answer.en.contains(found.refusal.as_deref().unwrap()));
}

#[test]
fn zero_lengths_and_wrong_widths_are_typed_errors() {
    let none = Encoding::none();
    assert_eq!(explain(&none, dims(), 0, 5), Err(Error::Zero { what: "trained length" }));
    assert_eq!(explain(&none, dims(), 5, 0), Err(Error::Zero { what: "length" }));
    assert_eq!(explain_all(dims(), 0, 5), Err(Error::Zero { what: "trained length" }));
    assert!(matches!(
        explain(&none, dims(), 5, usize::MAX),
        Err(Error::Invalid { what: "length", .. })
    ));
    let odd = Rotary::new(Pairing::Halves);
    assert!(matches!(
        explain(&odd.into(), Dims::new(9, 1).unwrap(), 5, 6),
        Err(Error::OddWidth { .. })
    ));
}

#[test]
fn very_long_inputs_cost_nothing() {
    let longest = u32::MAX as usize;
    for (name, found) in explain_all(dims(), 2048, longest).unwrap() {
        assert_eq!(found.length, u32::MAX, "{name}");
        let refusal = found.refusal.unwrap_or_default();
        assert!(
            refusal.is_empty()
                || refusal.contains("position 2048 (batch row 0, token 2048)")
                || refusal.contains("2048 before its query")
                || refusal.contains("2048 columns or more apart"),
            "{refusal}"
        );
    }
}

#[test]
fn texts_answer_first_and_fit_a_terminal_in_both_languages() {
    for language in [Language::English, Language::Chinese] {
        for (trained, length) in [(2048, 3000), (64, 512), (4, 5), (512, 512)] {
            let all = explain_all(dims(), trained, length).unwrap();
            for (name, found) in &all {
                let text = found.text(language);
                let answer: String = found.methods[0].answer.get(language).chars().take(20).collect();
                assert!(text.split("\n\n").nth(1).unwrap().starts_with(&answer), "{name}: {text}");
                for line in text.lines() {
                    assert!(width(line) <= 100, "{name}: {line}");
                }
                assert!(
                    !text.contains('{') && !text.contains("NaN ×") && !text.contains(" inf "),
                    "{name}: {text}"
                );
            }
            for line in overview(&all, language).lines() {
                assert!(width(line) <= 100, "{line}");
            }
        }
    }
}

#[test]
fn explanations_are_plain_data() {
    for (_, found) in explain_all(dims(), 2048, 3000).unwrap() {
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), found);
    }
    let json = serde_json::to_value(at_3000(Rotary::new(Pairing::Halves))).unwrap();
    assert_eq!(json["class"], "can_but_breaks");
    assert_eq!(json["methods"][0]["out_of_distribution"][0]["unseen"], 453_628);
    assert_eq!(json["common"]["pairs"], 4_501_500);
}

#[test]
fn formulas_of_rotary_come_in_all_forms() {
    let rotary = Encoding::from(Rotary::new(Pairing::Interleaved));
    for (language, words) in [
        (Language::English, ["angle", "pair", "matrix", "complex"]),
        (Language::Chinese, ["角度", "坐标对", "矩阵", "复数"]),
    ] {
        let text = formula(&rotary, language);
        for word in words {
            assert!(text.lines().any(|line| line.starts_with(word)), "{word}");
        }
        for (_, all) in explain_all(dims(), 8, 9).unwrap().iter().zip(CATALOGUE).map(|((n, _), e)| (n, e)) {
            assert!(all.formula.get(language).lines().all(|line| width(line) <= 100));
            assert!(all.formula.get(language).contains("j)") || all.formula.get(language).contains('p'));
        }
    }
    assert!(formula(&Encoding::none(), Language::English).contains("NoPE"));
}

#[test]
fn both_languages_carry_the_same_numbers() {
    // Sizes of models are the only numbers that the languages count differently (247M, 2.47 亿).
    let sizes = ["247M", "1.3B", "494M", "2.47 亿", "13 亿", "4.94 亿"];
    let numbers = |text: &str| {
        let text = sizes.iter().fold(text.replace('\u{a0}', ""), |text, size| text.replace(size, ""));
        let mut found: Vec<String> = text
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .map(|n| n.trim_matches('.').to_string())
            .filter(|n| !n.is_empty())
            .collect();
        found.sort();
        found
    };
    let policies = [
        Overflow::Clamp,
        Overflow::Wrap,
        Overflow::Interpolate,
        Overflow::InterpolateTo(5000),
    ];
    for (trained, length) in [(2048, 3000), (64, 512), (4, 5), (512, 512)] {
        let mut all = explain_all(dims(), trained, length).unwrap();
        let more: Vec<Encoding> = policies
            .iter()
            .map(|&policy| Learned::new(trained).with_overflow(policy).into())
            .chain([
                Learned::new(trained + 100).into(),
                T5Bias::decoder().with_buckets(32, 4 * trained.max(16)).into(),
                crate::content::Shaw::new(4 * trained).into(),
            ])
            .collect();
        all.extend(more.iter().map(|e| ("", explain(e, dims(), trained, length).unwrap())));
        for (_, found) in all {
            for m in &found.methods {
                let notes = m.out_of_distribution.iter().map(|u| &u.note);
                for words in notes.chain([&m.answer, &m.expect, &m.advice]) {
                    assert_eq!(numbers(&words.en), numbers(&words.zh), "{}\n{}", words.en, words.zh);
                }
            }
        }
    }
}

#[test]
fn xpos_says_how_much_is_left_and_where_f32_ends() {
    let xpos = preset("xpos", &PresetOptions::new(2048)).unwrap();
    let found = at_3000(xpos.clone());
    let text = serde_json::to_string(&found).unwrap();
    // (0.4/1.4)^(2047/512) and ^(2999/512); the slowest of 64 pairs, (126 + 51.2)/179.2, to the same powers.
    for part in ["over 2048 tokens to 0.7 %", "… 95.6 % (the slowest)", "over 3000 to 0.1 % … 93.6 %"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let far = explain(&xpos, dims(), 2048, 40_000).unwrap();
    assert_eq!(far.class, Class::Cannot);
}
