//! The five named constructors: names, initial values, text, files.

use crate::{BATCH, HEADS, WIDTH, random, with_params};
use posenc::{Attention, Dims, Error, LayerSpec, Mode, Pairing, ParamSpec, Params, Rotary, T5Bias, Temperature, Window};
use posenc_nn::{AttentionTrace, Linear, PositionalArgs, PositionalMultiheadAttention, Streams, weights};

/// A parameter's name and shape.
type Named = (&'static str, Vec<usize>);

/// Each constructor with the names and shapes of upstream's parameters.
fn constructed() -> Vec<(PositionalMultiheadAttention, Vec<Named>)> {
    let (wide, square, line) = (vec![3 * WIDTH, WIDTH], vec![WIDTH, WIDTH], vec![WIDTH]);
    let fused = [
        ("attn.in_proj_weight", wide),
        ("attn.in_proj_bias", vec![3 * WIDTH]),
        ("attn.out_proj.weight", square.clone()),
        ("attn.out_proj.bias", line.clone()),
    ];
    let with = |first: Option<Named>| first.into_iter().chain(fused.clone()).collect();
    let separate = [
        "q_proj.weight",
        "q_proj.bias",
        "k_proj.weight",
        "k_proj.bias",
        "v_proj.weight",
        "v_proj.bias",
    ]
    .into_iter()
    .chain(["out_proj.weight", "out_proj.bias"])
    .map(|name| (name, if name.ends_with("bias") { line.clone() } else { square.clone() }));
    let t5 = ["q.weight", "k.weight", "v.weight", "o.weight"].map(|name| (name, square.clone()));
    let t5 = std::iter::once(("relative_attention_bias.weight", vec![32, HEADS])).chain(t5);
    type Module = PositionalMultiheadAttention;
    vec![
        (
            Module::additive_pos(WIDTH, HEADS, 12).unwrap(),
            with(Some(("pos_emb", vec![12, WIDTH]))),
        ),
        (Module::additive_rel(WIDTH, HEADS, 4).unwrap(), with(Some(("rel_bias", vec![9])))),
        (Module::rope(WIDTH, HEADS, 10_000.0).unwrap(), separate.collect()),
        (Module::alibi(WIDTH, HEADS).unwrap(), with(None)),
        (Module::t5(WIDTH, HEADS, T5Bias::decoder()).unwrap(), t5.collect()),
    ]
}

fn names(specs: &[ParamSpec]) -> Vec<&str> {
    specs.iter().map(|spec| spec.name.as_str()).collect()
}

#[test]
fn parameters_have_upstream_names_and_shapes() {
    for (module, expected) in constructed() {
        let specs = module.specs();
        let ours: Vec<(&str, Vec<usize>)> = specs.iter().map(|spec| (spec.name.as_str(), spec.shape.clone())).collect();
        assert_eq!(ours, expected);
        let prefixed = module.clone().named("layers.3.self_attn").specs();
        let expected: Vec<String> = expected.iter().map(|(name, _)| format!("layers.3.self_attn.{name}")).collect();
        assert_eq!(names(&prefixed), expected);
        let without = module.without_bias().specs();
        assert!(
            without.iter().all(|spec| !spec.name.ends_with("bias") || spec.name == "rel_bias"),
            "{without:?}"
        );
    }
}

/// What a file holds under these names comes back to the bit, and the module that reads it computes the same.
#[test]
fn every_module_is_saved_and_loaded_under_its_names() {
    let x: Vec<f32> = random(BATCH * 3 * WIDTH, 1);
    for (module, expected) in constructed() {
        let run = |params: &Params<f32>| {
            let (args, mode) = (PositionalArgs::default(), Mode::Evaluate);
            module
                .forward(params, Streams::Same(&x), BATCH, &args, mode, &mut AttentionTrace::default())
                .unwrap()
        };
        let trained = with_params::<f32>(&module);
        let bytes = weights::to_bytes(&trained, &[]).unwrap();
        let in_file: Params<f32> = weights::from_bytes(&bytes).unwrap();
        let mut sorted: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        sorted.sort_unstable();
        assert_eq!(names(in_file.specs()), sorted);
        let mut params: Params<f32> = Params::init(&module.specs(), 9).unwrap();
        assert_ne!(run(&params), run(&trained));
        assert!(weights::load(&mut params, &bytes).unwrap().is_empty());
        assert_eq!(params.flat(), trained.flat());
        assert_eq!(run(&params), run(&trained));
        // A file of another module lacks names, and says which.
        let other = with_params::<f32>(&module.clone().named("other"));
        let error = weights::load(&mut params, &weights::to_bytes(&other, &[]).unwrap()).unwrap_err();
        assert!(expected.iter().all(|(name, _)| error.to_string().contains(name)), "{error}");
    }
}

/// Upstream leaves its table, and the bias of a projection, as they were.
#[test]
fn reset_touches_all_of_the_module_and_nothing_else() {
    for (module, _) in constructed() {
        let module = module.named("layers.0").with_qk_norm(1e-6).with_attention(Attention {
            sinks: true,
            ..Attention::default()
        });
        let other = Linear::new("head", WIDTH, 3).specs();
        let specs = [other[..1].to_vec(), module.specs(), other[1..].to_vec()].concat();
        let mut params: Params<f32> = Params::zeros(&specs).unwrap();
        params.flat_mut().fill(9.0);
        module.reset_parameters(&mut params, 3).unwrap();
        let fresh: Params<f32> = Params::init(&module.specs(), 3).unwrap();
        for spec in &specs {
            let values = params.get(&spec.name).unwrap();
            match fresh.get(&spec.name) {
                Ok(fresh) => assert_eq!(values, fresh, "{}", spec.name),
                Err(_) => assert!(values.iter().all(|x| *x == 9.0), "{}", spec.name),
            }
        }
        let again = params.clone();
        module.reset_parameters(&mut params, 3).unwrap();
        assert_eq!(params.flat(), again.flat());
        module.reset_parameters(&mut params, 4).unwrap();
        assert_ne!(params.flat(), again.flat());
        // Nothing is reset where something is missing.
        let mut lacking: Params<f32> = Params::zeros(&module.specs()[1..]).unwrap();
        lacking.flat_mut().fill(9.0);
        assert!(module.reset_parameters(&mut lacking, 3).is_err());
        assert!(lacking.flat().iter().all(|x| *x == 9.0));
    }
}

#[test]
fn text_shows_every_attribute() {
    for (module, expected) in constructed() {
        let text = module.to_string();
        assert!(
            text.starts_with(&format!("PositionalMultiheadAttention(embed_dim {WIDTH}, num_heads {HEADS}")),
            "{text}"
        );
        assert!(text.contains(&module.plan.encoding().to_string()), "{text}");
        for (name, shape) in expected {
            assert!(text.contains(&format!("{name} {shape:?}")), "{text}");
        }
        assert!(!text.contains("dropout") && !text.contains("key heads"), "{text}");
    }
    let layer = LayerSpec {
        encoding: Rotary::new(Pairing::Halves).into(),
        attention: Attention {
            scale: Some(0.25),
            softcap: Some(50.0),
            window: Some(Window {
                left: Some(7),
                right: None,
            }),
            chunk: Some(9),
            temperature: Some(Temperature::mistral(0.1, 16.0)),
            sinks: true,
            dropout: 0.125,
        },
    };
    let dims = Dims::new(WIDTH, 4).unwrap().with_kv_heads(2).unwrap();
    let text = PositionalMultiheadAttention::of_layer(&layer, dims)
        .unwrap()
        .without_bias()
        .with_qk_norm(1e-6)
        .to_string();
    for part in [
        "num_heads 4",
        "2 key heads",
        "no bias",
        "QK norm",
        "scale 0.25",
        "softcap 50",
        "window 7 back and all ahead",
        "chunks of 9",
        "queries grow by 0.1·ln every 16 tokens",
        "sinks [4]",
        "dropout 0.125",
        "rotary(halves, base 10000)",
        "attn.q_norm.weight [2]",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn widths_that_do_not_fit_are_refused_by_every_constructor() {
    type Module = PositionalMultiheadAttention;
    for (width, heads) in [(8, 3), (0, 2), (8, 0)] {
        let all = [
            Module::additive_pos(width, heads, 4),
            Module::additive_rel(width, heads, 4),
            Module::rope(width, heads, 10_000.0),
            Module::alibi(width, heads),
            Module::t5(width, heads, T5Bias::encoder()),
        ];
        for refused in all {
            match refused {
                Err(posenc_nn::Error::Core(Error::NotDivisible { value: 8, divisor: 3, .. })) if heads == 3 => {}
                Err(posenc_nn::Error::Core(Error::Zero { what: "model_dim" })) if width == 0 => {}
                Err(posenc_nn::Error::Core(Error::Zero { what: "heads" })) if heads == 0 => {}
                other => panic!("{width}, {heads}: {other:?}"),
            }
        }
    }
    for refused in [
        Module::additive_pos(WIDTH, HEADS, 0),
        Module::additive_rel(WIDTH, HEADS, (1 << 30) + 1),
        Module::rope(6, 2, 10_000.0),
        Module::rope(WIDTH, HEADS, 0.0),
        Module::rope(WIDTH, HEADS, f64::NAN),
        Module::t5(WIDTH, HEADS, T5Bias::encoder().with_buckets(0, 0)),
    ] {
        assert!(matches!(refused, Err(posenc_nn::Error::Core(_))), "{refused:?}");
    }
    // A distance of 0 is one number for every pair, which softmax does not see.
    assert!(Module::additive_rel(WIDTH, HEADS, 0).is_ok());
}
