//! GGUF: the container, and what each key means.

use super::write::{Gguf, Value};
use super::{layer, lenient, rotary, source, strict, turning};
use posenc::config::{ConfigError, Format};
use posenc::rotate::{Axes, Magnitude, Scaling, Slice, yarn_magnitude};
use posenc::{Alibi, Encoding, Learned, Pairing, Slopes, T5Bias, Temperature, Window};
use std::path::Path;

/// Llama 3.1's rule, and its divisors as its converter writes them.
pub fn llama3() -> Scaling {
    Scaling::Llama3 {
        factor: 8.0,
        original_len: 8192,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
    }
}

/// Four layers of heads of 64, and no more than every file has.
pub fn small(architecture: &str) -> Gguf {
    Gguf::new(architecture)
        .with("block_count", 4)
        .with("context_length", 4096)
        .with("embedding_length", 512)
        .with("attention.head_count", 8)
        .with("attention.head_count_kv", 2)
        .with("rope.freq_base", 10_000.0)
}

/// Llama 3.1 8B, with its tensor of divisors.
pub fn llama31() -> Gguf {
    Gguf::new("llama")
        .with("block_count", 32)
        .with("context_length", 131_072)
        .with("embedding_length", 4096)
        .with("attention.head_count", 32)
        .with("attention.head_count_kv", 8)
        .with("rope.dimension_count", 128)
        .with("rope.freq_base", 500_000.0)
        .tensor("rope_freqs.weight", &llama3().divisors(500_000.0, 128, 0).unwrap())
}

fn scaling(file: &Gguf) -> Scaling {
    rotary(layer(&strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")), 0))
        .scaling
        .clone()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/fixtures").join(name)).unwrap()
}

/// Files that the Python package `gguf` wrote (`fixtures/make.py`), with tokens that are not UTF-8, lists and a chat template.
#[test]
fn files_of_the_reference_writer_are_read() {
    let llama = strict(&fixture("llama31.gguf")).unwrap();
    assert_eq!((llama.format, llama.model_type.as_str()), (Format::Gguf, "llama"));
    assert_eq!((llama.parts[0].layers.len(), llama.parts[0].max_len), (4, Some(131_072)));
    let plan = layer(&llama, 0);
    assert_eq!((plan.dims.heads, plan.dims.kv_heads, plan.dims.head_dim), (32, 8, 128));
    assert_eq!(source(plan, "base"), "llama.rope.freq_base");
    assert_eq!(source(plan, "scaling"), "rope_freqs.weight");
    assert_eq!(source(plan, "head_dim"), "llama.embedding_length / llama.attention.head_count");
    // The divisors are f32 and each is made of at most eight f32 operations there: 8 · 2⁻²⁴ of itself, and a blend's share is a difference (a factor of 8, as in rotate::trained).
    let (given, expected) = (
        rotary(plan).frequencies(128, 0).unwrap(),
        llama3().frequencies(500_000.0, 128, 0).unwrap(),
    );
    for (i, (a, b)) in given.pairs.iter().zip(&expected.pairs).enumerate() {
        assert!((a - b).abs() <= 64.0 / f64::from(1 << 24) * b, "pair {i}: {a} and {b}");
    }

    let phi = strict(&fixture("phi3_big_endian.gguf")).unwrap();
    let Scaling::Longrope(long) = &rotary(layer(&phi, 0)).scaling else {
        panic!()
    };
    assert_eq!((long.short_factor[32], long.long_factor[47], long.original_len), (1.5, 48.0, 4096));
    assert_eq!(
        long.magnitude,
        Magnitude::Given(f64::from((1.0 + 32f64.ln() / 4096f64.ln()).sqrt() as f32))
    );
    assert_eq!(rotary(layer(&phi, 0)).pairing, Pairing::Halves);

    let gemma = strict(&fixture("gemma3.gguf")).unwrap();
    assert_eq!(gemma.parts[0].layers, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let (sliding, full) = (layer(&gemma, 0), layer(&gemma, 5));
    assert_eq!((rotary(sliding).base, &rotary(sliding).scaling), (1e4, &Scaling::Unscaled));
    assert_eq!((rotary(full).base, &rotary(full).scaling), (1e6, &Scaling::Linear { factor: 8.0 }));
    assert_eq!(sliding.spec.attention.window, Some(Window::last(1024).unwrap()));
    assert_eq!((full.spec.attention.window, full.kind.as_deref()), (None, Some("full_attention")));
    assert_eq!(source(sliding, "base"), "class default");

    let elm = strict(&fixture("openelm.gguf")).unwrap();
    assert_eq!(elm.parts[0].layers, [0, 0, 1]);
    assert_eq!(
        (
            layer(&elm, 0).dims.kv_heads,
            layer(&elm, 2).dims.heads,
            layer(&elm, 2).dims.head_dim
        ),
        (3, 16, 64)
    );
}

#[test]
fn versions_byte_orders_and_lengths() {
    let file = small("qwen2");
    let expected = strict(&file.whole()).unwrap();
    for (version, big_endian) in [(2, false), (3, false), (2, true), (3, true)] {
        let other = Gguf {
            version,
            big_endian,
            ..file.clone()
        };
        assert_eq!(strict(&other.whole()).unwrap(), expected);
    }
    for version in [0, 1, 4, 0x0001_0000, u32::MAX] {
        let other = Gguf { version, ..file.clone() };
        assert!(matches!(strict(&other.whole()), Err(ConfigError::Bytes { at: 4, .. })), "{version}");
    }
    // Without tensors that matter, what stands behind the metadata is not needed.
    let (bytes, [metadata, ..]) = file.bytes();
    assert_eq!(strict(&bytes[..metadata]).unwrap(), expected);
    for cut in 0..metadata {
        match strict(&bytes[..cut]) {
            Err(ConfigError::Cut { given, needed, .. }) => assert!(given == cut && needed > cut as u64 && needed <= metadata as u64),
            // Before the magic is whole it is no GGUF file.
            Err(ConfigError::Json { .. }) if cut < 4 => {}
            other => panic!("{cut}: {other:?}"),
        }
    }
}

#[test]
fn bug_family_18_divisors_in_a_tensor_are_read_or_missed_aloud() {
    let (bytes, [metadata, list, end]) = llama31().bytes();
    let whole = strict(&bytes).unwrap();
    let Scaling::Divided { divisors, magnitude } = &rotary(layer(&whole, 0)).scaling else {
        panic!()
    };
    assert_eq!((divisors.len(), divisors[0], divisors[63], *magnitude), (64, 1.0, 8.0, 1.0));
    // Cut after the metadata, in the list of tensors, and in the tensor: an error that says how much is needed.
    for cut in [metadata, list - 1, list, end - 1] {
        let Err(ConfigError::Unread { tensor, reason }) = strict(&bytes[..cut]) else {
            panic!("{cut}")
        };
        assert_eq!(tensor, "rope_freqs.weight");
        if cut >= list {
            assert!(reason.contains(&format!("the first {end}")), "{reason}");
        }
        let model = lenient(&bytes[..cut]);
        assert!(matches!(&model.warnings[..], [ConfigError::Unread { .. }]), "{:?}", model.warnings);
        assert_eq!(rotary(layer(&model, 0)).scaling, Scaling::Unscaled);
    }
    // A header alone, and one file of several, do not say what the others hold.
    let mut header = llama31();
    header.tensors.clear();
    assert!(matches!(strict(&header.whole()), Err(ConfigError::Unread { .. })));
    let mut split = small("llama");
    split.pairs.push(("split.count".into(), 3.into()));
    assert!(matches!(strict(&split.whole()), Err(ConfigError::Unread { .. })));
    // Converted without it: Llama 3.1's base and length, and no tensor. Llama 3's length is fine.
    let mut old = llama31();
    old.tensors.pop();
    assert!(matches!(strict(&old.whole()), Err(ConfigError::Unread { .. })));
    assert_eq!(lenient(&old.whole()).warnings.len(), 1);
    assert_eq!(scaling(&old.with("context_length", 8192)), Scaling::Unscaled);
    // Of another length or type than pairs turn.
    let wrong = small("llama").tensor("rope_freqs.weight", &[1.0; 5]);
    assert!(matches!(strict(&wrong.whole()), Err(ConfigError::Wrong { key, .. }) if key == "rope_freqs.weight"));
    let wrong = small("llama").tensor("rope_freqs.weight", &[0.0; 32]);
    assert!(matches!(strict(&wrong.whole()), Err(ConfigError::Setting { .. })));
    // A model type that never has one does not ask for it.
    let (bytes, [metadata, ..]) = small("qwen2").bytes();
    assert!(strict(&bytes[..metadata]).is_ok());
}

/// What llama.cpp computes from the keys, step by step: what its tables are multiplied by, and its softmax scale besides 1/√d.
fn as_llama_cpp(s: f64, log_multiplier: Option<f64>, attn_factor: f64, deepseek2: bool) -> (f64, f64) {
    let get_mscale = |scale: f64, m: f64| if scale <= 1.0 { 1.0 } else { 0.1 * m * scale.ln() + 1.0 };
    let mut factor = match log_multiplier {
        Some(all) => {
            let mscale = if deepseek2 && all != 1.0 { all } else { 1.0 };
            get_mscale(s, mscale) / get_mscale(s, all)
        }
        None => get_mscale(s, 1.0),
    };
    factor *= 1.0 / (1.0 + 0.1 * s.ln());
    factor *= attn_factor;
    let softmax = factor * (1.0 + 0.1 * s.ln()) * (1.0 + 0.1 * log_multiplier.unwrap_or(0.0) * s.ln());
    // And what the kernel does to the tables whatever it is told.
    (factor * (1.0 + 0.1 * s.ln()), softmax * softmax)
}

#[test]
fn bug_family_6_yarns_magnitude_is_what_ggml_ends_up_with() {
    let yarn = |architecture: &str| {
        small(architecture)
            .with("rope.scaling.type", "yarn")
            .with("rope.scaling.factor", 4.0)
            .with("rope.scaling.original_context_length", 1024)
    };
    let tables = |file: &Gguf| {
        rotary(layer(&strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")), 0))
            .frequencies(64, 0)
            .unwrap()
            .table_factor
    };
    // Six operations in f64, each rounding by 2⁻⁵³.
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 6.0 * f64::EPSILON * b, "{a} and {b}");
    near(tables(&yarn("qwen2")), as_llama_cpp(4.0, None, 1.0, false).0);
    near(tables(&yarn("qwen2")), yarn_magnitude(4.0, 1.0));
    near(
        tables(&yarn("qwen2").with("rope.scaling.attn_factor", 0.5)),
        as_llama_cpp(4.0, None, 0.5, false).0,
    );
    // Mistral's is stored as it is, and undoes the magnitude.
    near(tables(&yarn("mistral3").with("rope.scaling.yarn_log_multiplier", 1.0)), 1.0);
    let half = yarn("mistral3").with("rope.scaling.yarn_log_multiplier", 0.5);
    near(tables(&half), as_llama_cpp(4.0, Some(0.5), 1.0, false).0);
    near(
        tables(&half.with("rope.scaling.attn_factor", 1.25)),
        as_llama_cpp(4.0, Some(0.5), 1.25, false).0,
    );
    // The key that llama.cpp ignores may repeat what the others say, and nothing else.
    let own = yarn_magnitude(4.0, 1.0) as f32;
    near(
        tables(&yarn("qwen2").with("rope.scaling.yarn_attn_factor", own)),
        yarn_magnitude(4.0, 1.0),
    );
    let other = yarn("qwen2").with("rope.scaling.yarn_attn_factor", 1.0);
    assert!(matches!(strict(&other.whole()), Err(ConfigError::Conflict { .. })));
    let model = lenient(&other.whole());
    assert_eq!(model.warnings.len(), 1);
    near(
        rotary(layer(&model, 0)).frequencies(64, 0).unwrap().table_factor,
        yarn_magnitude(4.0, 1.0),
    );
    // Grok's is a multiplier, 1 in its files; its fast end is another.
    let Scaling::Yarn(grok) = scaling(&yarn("grok").with("rope.scaling.yarn_attn_factor", 1.0)) else {
        panic!()
    };
    assert_eq!((grok.beta_fast, grok.magnitude), (8.0, Magnitude::Own));
    // Nothing blended in is linear; anything between is not YaRN.
    assert_eq!(
        scaling(&yarn("grok").with("rope.scaling.yarn_ext_factor", 0.0)),
        Scaling::Linear { factor: 4.0 }
    );
    assert!(matches!(
        strict(&yarn("grok").with("rope.scaling.yarn_ext_factor", 0.5).whole()),
        Err(ConfigError::Wrong { .. })
    ));
    // The ends of the ramp, from the keys; whole indices, as ggml has them, but for gpt-oss.
    let Scaling::Yarn(given) = scaling(
        &yarn("qwen2")
            .with("rope.scaling.yarn_beta_fast", 16.0)
            .with("rope.scaling.yarn_beta_slow", 2.0),
    ) else {
        panic!()
    };
    assert_eq!(
        (given.beta_fast, given.beta_slow, given.truncate, given.original_len),
        (16.0, 2.0, true, 1024)
    );
    let oss = yarn("gpt-oss").with("attention.sliding_window", 128);
    let model = strict(&oss.whole()).unwrap();
    let Scaling::Yarn(oss) = &rotary(layer(&model, 0)).scaling else {
        panic!()
    };
    assert!(!oss.truncate && layer(&model, 0).spec.attention.sinks);
    assert_eq!(
        (layer(&model, 0).kind.as_deref(), layer(&model, 1).kind.as_deref()),
        (Some("sliding_attention"), Some("full_attention"))
    );
}

/// DeepSeek-V3 and V2-Lite, whose multiplier is stored times 0.1.
#[test]
fn bug_family_6_deepseeks_multiplier_is_stored_times_a_tenth() {
    let file = |multiplier: f32, s: f32| {
        Gguf::new("deepseek2")
            .with("block_count", 2)
            .with("context_length", 163_840)
            .with("embedding_length", 7168)
            .with("attention.head_count", 128)
            .with("attention.head_count_kv", 1)
            .with("attention.key_length", 576)
            .with("attention.value_length", 512)
            .with("attention.key_length_mla", 192)
            .with("attention.value_length_mla", 128)
            .with("rope.dimension_count", 64)
            .with("rope.freq_base", 10_000.0)
            .with("rope.scaling.type", "yarn")
            .with("rope.scaling.factor", s)
            .with("rope.scaling.original_context_length", 4096)
            .with("rope.scaling.yarn_log_multiplier", multiplier)
    };
    let v3 = strict(&file(0.1, 40.0).whole()).unwrap();
    let plan = layer(&v3, 0);
    assert_eq!((plan.dims.heads, plan.dims.kv_heads, plan.dims.head_dim), (128, 128, 192));
    let turned = rotary(plan);
    assert_eq!(
        (turned.slice, turned.rotary_dim, turned.pairing),
        (Slice::Trailing, Some(64), Pairing::Interleaved)
    );
    let expected = as_llama_cpp(40.0, Some(1.0), 1.0, true);
    assert_eq!(turned.frequencies(192, 0).unwrap().table_factor, 1.0);
    // A dozen roundings in f64.
    let softmax = plan.spec.attention.scale.unwrap() * 192f64.sqrt();
    assert!(
        (softmax - expected.1).abs() <= 12.0 * f64::EPSILON * softmax,
        "{softmax} and {expected:?}"
    );
    assert!((softmax - yarn_magnitude(40.0, 1.0).powi(2)).abs() <= 12.0 * f64::EPSILON * softmax);
    // V2-Lite: numerator and denominator are the same 0.707; stored in f32, so is the softmax factor.
    let lite = strict(&file(0.0707, 40.0).whole()).unwrap();
    assert_eq!(rotary(layer(&lite, 0)).frequencies(192, 0).unwrap().table_factor, 1.0);
    let softmax = layer(&lite, 0).spec.attention.scale.unwrap() * 192f64.sqrt();
    let expected = yarn_magnitude(40.0, 0.707).powi(2);
    assert!(
        (softmax - expected).abs() <= 4.0 * f64::from(f32::EPSILON) * expected,
        "{softmax} and {expected}"
    );
    // Without the key llama.cpp and transformers differ.
    let without = file(0.1, 40.0).without("rope.scaling.yarn_log_multiplier");
    assert!(matches!(strict(&without.whole()), Err(ConfigError::Missing { .. })));
    assert_eq!(layer(&lenient(&without.whole()), 0).spec.attention.scale, None);
    // Older files hold whole heads.
    let older = file(0.1, 40.0)
        .without("attention.key_length_mla")
        .with("attention.key_length", 192)
        .with("attention.head_count_kv", 128);
    assert_eq!(layer(&strict(&older.whole()).unwrap(), 0).dims.head_dim, 192);
}

#[test]
fn scalings_by_their_keys() {
    let file = small("qwen2");
    assert_eq!(scaling(&file), Scaling::Unscaled);
    let linear = Scaling::Linear { factor: 4.0 };
    assert_eq!(
        scaling(&file.clone().with("rope.scaling.factor", 4.0)),
        linear,
        "linear where no type stands"
    );
    assert_eq!(scaling(&file.clone().with("rope.scale_linear", 4.0)), linear, "the older key");
    assert_eq!(scaling(&file.clone().with("rope.scaling.factor", 0.0)), Scaling::Unscaled);
    assert_eq!(
        scaling(&file.clone().with("rope.scaling.factor", 4.0).with("rope.scaling.type", "none")),
        Scaling::Unscaled
    );
    let both = file.clone().with("rope.scale_linear", 2.0).with("rope.scaling.factor", 4.0);
    assert!(matches!(strict(&both.whole()), Err(ConfigError::Conflict { .. })));
    assert_eq!(rotary(layer(&lenient(&both.whole()), 0)).scaling, linear);
    for (key, value) in [
        ("rope.scaling.type", Value::from("liner")),
        ("rope.scaling.type", 1.into()),
        ("rope.scaling.factor", "4".into()),
        ("rope.scaling.factor", f32::NAN.into()),
        ("rope.freq_base", 0.0.into()),
        ("rope.freq_base", f32::INFINITY.into()),
        ("rope.dimension_count", 65.into()),
        ("rope.dimension_count", Value::I32(-2)),
        ("attention.head_count", Value::Numbers(vec![8, 8])),
        ("block_count", Value::U64(1 << 60)),
    ] {
        let error = strict(&file.clone().with(key, value.clone()).whole()).unwrap_err();
        assert!(matches!(error, ConfigError::Wrong { .. }), "{key} {value:?}: {error}");
    }
    for (key, value) in [("rope.scaling.factor", 0.5), ("rope.scaling.factor", -2.0)] {
        assert!(matches!(
            strict(&file.clone().with(key, value).whole()),
            Err(ConfigError::Setting { .. })
        ));
    }
    assert!(matches!(
        strict(&file.clone().with("block_count", 5000).whole()),
        Err(ConfigError::TooMany { what: "layers", .. })
    ));
    assert!(
        strict(&file.clone().with("rope.dimension_count", 7).whole()).is_err(),
        "an odd width"
    );
    // A table factor without YaRN multiplies what is there.
    let factor = scaling(&file.clone().with("rope.scaling.factor", 2.0).with("rope.scaling.attn_factor", 1.5));
    let (a, b) = (
        factor.frequencies(1e4, 64, 0).unwrap(),
        Scaling::Linear { factor: 2.0 }.frequencies(1e4, 64, 0).unwrap(),
    );
    assert_eq!((a.table_factor, a.pairs), (1.5, b.pairs));
    // The base is llama.cpp's default where no key says it, and that is said.
    let silent = strict(&file.clone().without("rope.freq_base").whole()).unwrap();
    assert_eq!(
        (rotary(layer(&silent, 0)).base, source(layer(&silent, 0), "base").as_str()),
        (1e4, "class default")
    );
    for key in ["block_count", "embedding_length", "attention.head_count"] {
        let error = strict(&file.clone().without(key).whole()).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Missing { key: missing, .. } if *missing == format!("qwen2.{key}")),
            "{error}"
        );
    }
    // Partial: StableLM, GLM-4.
    assert_eq!(
        rotary(layer(
            &strict(&small("stablelm").with("rope.dimension_count", 16).whole()).unwrap(),
            0
        ))
        .rotary_dim,
        Some(16)
    );
    // HunYuan-VL's alpha makes a larger base.
    let alpha = small("hunyuan_vl").with("rope.scaling.alpha", 1000.0);
    assert_eq!(scaling(&alpha), Scaling::Alpha { alpha: 1000.0 });
}

#[test]
fn bug_family_11_and_16_axes_by_their_sections() {
    let with = |architecture: &str, sections: Vec<u32>| small(architecture).with("rope.dimension_sections", Value::Numbers(sections));
    let axes = |file: &Gguf| {
        let model = strict(&file.whole()).unwrap_or_else(|e| panic!("{e}"));
        (rotary(layer(&model, 0)).axes.clone(), rotary(layer(&model, 0)).pairing)
    };
    let (chunked, spread) = (
        Axes::Chunked { sections: vec![8, 12, 12] },
        Axes::Spread {
            sections: vec![12, 10, 10],
        },
    );
    assert_eq!(axes(&with("qwen2vl", vec![8, 12, 12, 0])), (chunked.clone(), Pairing::Halves));
    assert_eq!(axes(&with("qwen3vl", vec![12, 10, 10, 0])), (spread, Pairing::Halves));
    // GLM-4's text turns neighbours, its file for pictures was permuted to halves.
    assert_eq!(axes(&small("glm4")), (Axes::One, Pairing::Interleaved));
    assert_eq!(axes(&with("glm4", vec![8, 12, 12, 0])), (chunked, Pairing::Halves));
    assert_eq!(axes(&small("glm4moe")), (Axes::One, Pairing::Halves));
    assert_eq!(
        axes(&with("hunyuan_vl", vec![8, 8, 8, 8])).0,
        Axes::Chunked { sections: vec![8; 4] }
    );
    assert!(matches!(strict(&small("qwen2vl").whole()), Err(ConfigError::Missing { .. })));
    assert!(matches!(strict(&small("qwen3vl").whole()), Err(ConfigError::Missing { .. })));
    for wrong in [vec![8, 12, 13, 0], vec![1; 9], vec![u32::MAX; 4]] {
        assert!(matches!(strict(&with("qwen2vl", wrong).whole()), Err(ConfigError::Wrong { .. })));
    }
}

#[test]
fn bug_family_17_and_27_layers_that_slide_and_layers_that_do_not_turn() {
    let sliding = |file: &Gguf| {
        let model = strict(&file.whole()).unwrap_or_else(|e| panic!("{e}"));
        let part = &model.parts[0];
        (0..part.layers.len())
            .map(|i| part.layer(i).unwrap().spec.attention.window.is_some())
            .collect::<Vec<_>>()
    };
    let turns = |file: &Gguf| turning(&strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")));
    let window = |architecture: &str| small(architecture).with("attention.sliding_window", 16);
    let (t, f) = (true, false);
    assert_eq!(sliding(&window("cohere2")), [t, t, t, f]);
    assert_eq!(turns(&window("cohere2")), [t, t, t, f]);
    assert_eq!(sliding(&window("gemma2")), [t, f, t, f]);
    assert_eq!(sliding(&small("gemma2")), [t, f, t, f], "4096 where no key stands");
    assert_eq!(sliding(&window("laguna")), [f, t, t, t]);
    assert_eq!(sliding(&window("llama")), [t; 4]);
    assert_eq!(sliding(&window("llama").with("attention.sliding_window", 0)), [f; 4]);
    assert_eq!(sliding(&window("gemma2").with("attention.sliding_window_pattern", 4)), [t, t, t, f]);
    let list = window("gemma2").with("attention.sliding_window_pattern", Value::Flags(vec![f, t, t, f]));
    assert_eq!(sliding(&list), [f, t, t, f]);
    assert!(
        matches!(strict(&window("gemma4").whole()), Err(ConfigError::Missing { .. })),
        "which layers slide"
    );
    assert!(
        matches!(strict(&small("cohere2").whole()), Err(ConfigError::Missing { .. })),
        "how far"
    );
    // A window that no rule of its architecture places.
    assert!(matches!(strict(&window("qwen2").whole()), Err(ConfigError::Wrong { .. })));
    assert_eq!(lenient(&window("qwen2").whole()).warnings.len(), 1);

    assert_eq!(turns(&small("smollm3")), [t, t, t, f]);
    assert_eq!(turns(&small("exaone4")), [t; 4]);
    assert_eq!(turns(&window("exaone4")), [t, t, t, f]);
    assert_eq!(turns(&window("smallthinker")), [f, t, t, t]);
    assert_eq!(turns(&small("smallthinker")), [t; 4]);
    assert_eq!(turns(&small("granitehybrid").with("rope.scaling.finetuned", false)), [f; 4]);
    assert_eq!(turns(&small("nemotron_h")), [f; 4]);

    // Llama 4: chunks where it turns, a temperature where it does not; a window of 0 says neither.
    let llama4 = strict(&small("llama4").whole()).unwrap();
    assert_eq!(turning(&llama4), [t, t, t, f]);
    let (turned, not) = (&layer(&llama4, 0).spec.attention, &layer(&llama4, 3).spec.attention);
    assert_eq!((turned.chunk, turned.temperature, not.chunk), (Some(8192), None, None));
    assert_eq!(layer(&llama4, 0).kind.as_deref(), Some("chunked_attention"));
    assert_eq!(not.temperature, Some(Temperature::llama4(0.1, 8192.0)));
    let all = strict(&small("llama4").with("attention.sliding_window", 0).whole()).unwrap();
    assert_eq!((turning(&all), layer(&all, 0).spec.attention.chunk), (vec![t; 4], None));

    // Sides: ModernBERT and EmbeddingGemma see half a window in each direction.
    let bert = strict(
        &window("modern-bert")
            .with("rope.freq_base", 160_000.0)
            .with("rope.freq_base_swa", 10_000.0)
            .whole(),
    )
    .unwrap();
    let (global, local) = (layer(&bert, 0), layer(&bert, 1));
    assert_eq!((rotary(global).base, rotary(local).base), (160_000.0, 10_000.0));
    assert_eq!(
        local.spec.attention.window,
        Some(Window {
            left: Some(8),
            right: Some(8)
        })
    );

    // Layers without key heads, or between those that attend, have no attention.
    let lfm = strict(
        &small("lfm2")
            .with("attention.head_count_kv", Value::Numbers(vec![0, 0, 2, 0]))
            .whole(),
    )
    .unwrap();
    assert_eq!(turning(&lfm), [f, f, t, f]);
    assert_eq!((layer(&lfm, 0).attends, layer(&lfm, 2).attends), (false, true));
    assert_eq!(layer(&lfm, 0).kind.as_deref(), Some("no_attention"));
    assert_eq!(turns(&small("qwen3next").with("rope.dimension_count", 16)), [f, f, f, t]);
    assert_eq!(turns(&small("qwen3next").with("full_attention_interval", 2)), [f, t, f, t]);
    // Layers that predict further tokens are not of the stack.
    assert_eq!(
        strict(&small("glm4moe").with("nextn_predict_layers", 1).whole()).unwrap().parts[0]
            .layers
            .len(),
        3
    );
    assert!(matches!(
        strict(&small("glm4moe").with("nextn_predict_layers", 9).whole()),
        Err(ConfigError::Conflict { .. })
    ));

    // Step 3.5 turns half of what its key says where it does not slide; Gemma 4's heads are wider there.
    let step = window("step35")
        .with("attention.sliding_window_pattern", Value::Flags(vec![t, f, t, f]))
        .with("rope.dimension_count", 64);
    let step = strict(&step.whole()).unwrap();
    assert_eq!(
        (rotary(layer(&step, 0)).rotary_dim, rotary(layer(&step, 1)).rotary_dim),
        (None, Some(32))
    );
    let mut divisors = vec![1.0; 32];
    divisors.extend([1e30; 96]);
    let gemma4 = window("gemma4")
        .with("attention.sliding_window_pattern", Value::Flags(vec![t, t, t, f]))
        .with("attention.key_length", 256)
        .with("attention.key_length_swa", 128)
        .with("rope.dimension_count", 256)
        .with("rope.dimension_count_swa", 128)
        .tensor("rope_freqs.weight", &divisors);
    let gemma4 = strict(&gemma4.whole()).unwrap();
    assert_eq!((layer(&gemma4, 0).dims.head_dim, layer(&gemma4, 3).dims.head_dim), (128, 256));
    assert_eq!(rotary(layer(&gemma4, 0)).scaling, Scaling::Unscaled);
    let pairs = rotary(layer(&gemma4, 3)).frequencies(256, 0).unwrap().pairs;
    assert!(pairs[31] > 1e-3 && pairs[32] < 1e-30, "the rest stands still");
    assert_eq!(layer(&gemma4, 0).spec.attention.scale, Some(1.0));
}

#[test]
fn scales_caps_and_temperatures() {
    let attention = |file: &Gguf| {
        layer(&strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")), 0)
            .spec
            .attention
            .clone()
    };
    let granite = attention(&small("granite").with("attention.scale", 0.0078125));
    assert_eq!(granite.scale, Some(0.0078125));
    assert_eq!(attention(&small("granite").with("attention.scale", 0.0)).scale, None, "0 is absent");
    let gemma = small("gemma2").with("block_count", 46).with("attention.key_length", 128);
    let gemma = attention(&gemma);
    // 27 B: the width over the heads, not the width of a head.
    assert_eq!((gemma.scale, gemma.softcap), (Some(1.0 / 64f64.sqrt()), Some(50.0)));
    assert_eq!(attention(&small("gemma2").with("attn_logit_softcapping", 30.0)).softcap, Some(30.0));
    let grok = attention(&small("grok").with("attention.output_scale", 0.125));
    assert_eq!((grok.scale, grok.softcap), (Some(0.125), Some(30.0)));
    let yarn = small("mistral3")
        .with("rope.scaling.type", "yarn")
        .with("rope.scaling.factor", 16.0)
        .with("rope.scaling.original_context_length", 1024)
        .with("rope.scaling.yarn_log_multiplier", 1.0)
        .with("attention.temperature_scale", 0.25);
    assert_eq!(attention(&yarn).temperature, Some(Temperature::mistral(0.25, 1024.0)));
    let length = yarn.with("attention.temperature_length", 512);
    assert_eq!(attention(&length).temperature, Some(Temperature::mistral(0.25, 512.0)));
}

#[test]
fn methods_that_do_not_turn() {
    let encoding = |file: &Gguf| {
        layer(&strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")), 0)
            .spec
            .encoding
            .clone()
    };
    let embeddings = |file: &Gguf| strict(&file.whole()).unwrap_or_else(|e| panic!("{e}")).parts[0].embeddings.clone();
    assert_eq!(encoding(&small("bloom")), Alibi::new().into());
    assert_eq!(encoding(&small("refact")), Alibi::new().into());
    assert_eq!(encoding(&small("jina-bert-v2")), Alibi::symmetric().into());
    assert_eq!(encoding(&small("mpt").with("attention.max_alibi_bias", 8.0)), Alibi::new().into());
    let other = encoding(&small("mpt").with("attention.max_alibi_bias", 4.0));
    assert_eq!(other, Alibi::new().with_slopes(Slopes::Mpt { bias_max: 4.0 }).into());
    // MPT's without ALiBi has a table.
    let table = small("mpt")
        .with("attention.max_alibi_bias", 0.0)
        .tensor("position_embd.weight", &[0.0; 8]);
    assert!(
        matches!(strict(&table.whole()), Err(ConfigError::Conflict { .. })),
        "rows that the length does not name"
    );
    // Baichuan: 7B turns, 13B has ALiBi, told by its layers.
    assert_eq!(turning(&strict(&small("baichuan").whole()).unwrap()), [true; 4]);
    let larger = small("baichuan").with("block_count", 40);
    assert_eq!(encoding(&larger), Alibi::new().into());
    for learned in ["gpt2", "starcoder", "bert"] {
        assert_eq!(embeddings(&small(learned)), Learned::new(4096).into());
        assert_eq!(encoding(&small(learned)), Encoding::none());
    }
    assert!(matches!(
        strict(&small("gpt2").without("context_length").whole()),
        Err(ConfigError::Missing { .. })
    ));
    // T5: two stacks; UMT5 has a table in each layer.
    let t5 = small("t5")
        .with("attention.relative_buckets_count", 32)
        .with("decoder_block_count", 3);
    let model = strict(&t5.whole()).unwrap();
    assert_eq!(model.parts.iter().map(|part| part.layers.len()).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(
        model.parts.iter().map(|part| part.stack).collect::<Vec<_>>(),
        [Some("encoder"), Some("decoder")]
    );
    assert_eq!(layer(&model, 0).spec.encoding, T5Bias::encoder().into());
    assert_eq!(model.parts[1].layer(0).unwrap().spec.encoding, T5Bias::decoder().into());
    assert_eq!(layer(&model, 0).spec.attention.scale, Some(1.0));
    let umt5 = strict(&t5.tensor("enc.blk.1.attn_rel_b.weight", &[0.0]).whole()).unwrap();
    assert_eq!(
        layer(&umt5, 0).spec.encoding,
        T5Bias::encoder().with_scope(posenc::Scope::Layer).into()
    );
}

/// ggml's slopes, written out, are those of the encodings that stand for them.
#[test]
fn bug_family_20_ggmls_slopes() {
    for (max, slopes) in [
        (8.0, Slopes::Bloom),
        (8.0, Slopes::Mpt { bias_max: 8.0 }),
        (4.0, Slopes::Mpt { bias_max: 4.0 }),
    ] {
        for heads in 1..=130usize {
            let floor = 1 << heads.ilog2();
            let floor: i32 = floor;
            let (m0, m1) = (2f64.powf(-max / f64::from(floor)), 2f64.powf(-max / 2.0 / f64::from(floor)));
            let expected = (0..heads as i32).map(|h| if h < floor { m0.powi(h + 1) } else { m1.powi(2 * (h - floor) + 1) });
            for (given, expected) in slopes.for_heads(heads).unwrap().into_iter().zip(expected) {
                // The base's rounding, to a power of at most 2 · heads.
                assert!(
                    (given - expected).abs() <= 2.0 * heads as f64 * f64::EPSILON * expected,
                    "{max} {heads}: {given} and {expected}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_known_or_not_expressed_says_why() {
    let unknown = strict(&small("qwen9").whole()).unwrap_err();
    assert!(
        matches!(&unknown, ConfigError::UnknownModel { nearest, .. } if nearest.contains(&"qwen2")),
        "{unknown}"
    );
    for refused in ["mamba", "rwkv7", "clip", "deepseek4", "eagle3"] {
        assert!(
            matches!(strict(&small(refused).whole()), Err(ConfigError::NotExpressed { .. })),
            "{refused}"
        );
    }
    let mut nameless = small("qwen2");
    nameless.pairs.remove(0);
    assert!(matches!(strict(&nameless.whole()), Err(ConfigError::Missing { key, .. }) if key == "general.architecture"));
}
