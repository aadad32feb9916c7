use super::*;
use crate::bias::t5_bucket;
use crate::encoding::Encoding;
use crate::words::{Language, width};

fn dims() -> Dims {
    Dims::new(64, 4).unwrap()
}

#[test]
fn every_entry_has_a_preset_that_plans_at_any_trained_length() {
    for entry in catalogue() {
        for trained in 1..300 {
            let encoding = preset(entry.name, &PresetOptions::new(trained)).unwrap();
            encoding
                .plan(dims())
                .unwrap_or_else(|error| panic!("{} at {trained}: {error}", entry.name));
            match encoding.methods.first() {
                Some(method) => assert_eq!(Entry::of(method).name, entry.name),
                None => assert_eq!(entry.name, "none"),
            }
        }
    }
}

#[test]
fn training_reaches_the_last_row_of_every_relative_preset() {
    for trained in 3..300usize {
        let methods = |name| preset(name, &PresetOptions::new(trained)).unwrap().methods;
        let Method::T5Bias(t5) = &methods("t5")[0] else { panic!() };
        let bucket = |d: usize| t5_bucket(-(d as i64), false, t5.buckets, t5.max_distance).unwrap();
        assert_eq!(bucket(trained - 1), t5.buckets - 1, "trained on {trained}");
        let Method::ClippedBias(clipped) = &methods("clipped")[0] else {
            panic!()
        };
        let Method::Shaw(shaw) = &methods("shaw")[0] else { panic!() };
        assert!(clipped.max_distance < trained && shaw.max_distance < trained);
        let Method::Deberta(deberta) = &methods("deberta")[0] else {
            panic!()
        };
        let farthest = trained as i64 - 1;
        match deberta.buckets {
            Some(n) => assert_eq!(crate::deberta_bucket(farthest, n, deberta.max_distance).unwrap(), n as i64 - 1),
            None => assert_eq!(deberta.max_distance, trained),
        }
    }
}

#[test]
fn presets_are_those_of_the_pilot() {
    let shown = |name| preset(name, &PresetOptions::new(64)).unwrap().to_string();
    assert!(shown("t5").contains("32 buckets to 32"), "{}", shown("t5"));
    assert!(shown("clipped").contains("±16"));
    assert_eq!(shown("rotary"), "rotary(halves, base 10000)");
    let far = preset("t5", &PresetOptions::new(2048)).unwrap().to_string();
    assert!(far.contains("32 buckets to 128"), "{far}");
}

#[test]
fn names_and_aliases_lead_to_one_entry() {
    let mut all: Vec<&str> = catalogue()
        .iter()
        .flat_map(|e| [e.name].into_iter().chain(e.aliases.iter().copied()))
        .collect();
    for name in &all {
        assert!(Entry::named(&name.to_uppercase().replace('-', "_")).is_ok(), "{name}");
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "a name is given twice");
}

#[test]
fn unknown_encoding_names_the_nearest() {
    let Err(Error::UnknownName {
        kind,
        given,
        nearest,
        known,
    }) = preset("Sinusiodal", &PresetOptions::new(64))
    else {
        panic!()
    };
    assert_eq!(
        (kind, given.as_str(), nearest.as_deref()),
        ("encoding", "Sinusiodal", Some("sinusoidal"))
    );
    assert_eq!(known.len(), catalogue().len());
    assert!(matches!(preset("rotary+", &PresetOptions::new(64)), Err(Error::UnknownName { .. })));
    assert!(matches!(
        preset("t5", &PresetOptions::new(0)),
        Err(Error::Zero { what: "trained length" })
    ));
}

#[test]
fn methods_side_by_side_keep_the_rules_of_an_encoding() {
    let both = preset("rotary+alibi", &PresetOptions::new(64)).unwrap();
    assert_eq!(both.methods.len(), 2);
    assert_eq!(preset("none+none", &PresetOptions::new(64)).unwrap(), Encoding::none());
    let two = preset("rotary+rotary-interleaved", &PresetOptions::new(64)).unwrap();
    assert!(matches!(two.plan(dims()), Err(Error::TwoRotations { .. })));
}

#[test]
fn published_parameter_counts() {
    let bert = Dims::new(768, 12).unwrap();
    let count = |name: &str, trained| Entry::named(name).unwrap().parameter_count(bert, trained).unwrap();
    assert_eq!(count("learned", 512), (393_216, 0)); // BERT
    assert_eq!(count("t5", 512), (32 * 12, 0));
    assert_eq!(count("shaw", 512), (0, 2 * 33 * 64));
    assert_eq!(count("transformer-xl", 512), (0, 2 * 768 + 768 * 768));
    assert_eq!(count("xlnet", 512), (0, 5 * 768 + 768 * 768));
    assert_eq!(count("deberta", 512), (512 * 768, 0)); // v3, without its norm
    assert_eq!(count("music-transformer", 512), (0, 512 * 768));
    assert_eq!(count("shared", 64), (0, 33));
    assert_eq!(count("clipped", 64), (0, 33 * 12));
    for name in ["none", "sinusoidal", "rotary", "alibi"] {
        assert_eq!(count(name, 512), (0, 0));
    }
}

#[test]
fn lists_fit_a_terminal_in_both_languages() {
    for language in [Language::English, Language::Chinese] {
        let text = list(language);
        for entry in catalogue() {
            assert!(text.contains(entry.title.get(language)), "{}", entry.name);
            for claim in entry.claims {
                assert!(!claim.quote.is_empty());
            }
        }
        for line in text.lines() {
            assert!(width(line) <= 100, "{line}");
        }
    }
}
