//! The runner of the reference vectors itself: what it must not let pass, and what it must not fail.

#[path = "golden/mod.rs"]
mod golden;
#[path = "golden/through.rs"]
pub mod through;

use golden::{Report, run, shortfalls};
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of its own that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("posenc-golden-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Folder {
        fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    fn report(&self, name: &str) -> Report {
        run(&self.0).into_iter().find(|report| report.name == name).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn own(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)).unwrap()
}

/// The record of this name in a set.
fn record(set: &str, name: &str) -> serde_json::Value {
    let records: Vec<serde_json::Value> = serde_json::from_slice(&own(&format!("{set}.json"))).unwrap();
    records.into_iter().find(|r| r["id"] == name || r["name"] == name).unwrap()
}

/// The set `name` with one record, one of whose tensors has one byte's bits turned.
fn spoilt(name: &str, id: &str, tensor: &str, index: usize, bits: u8) -> Report {
    let folder = Folder::new(&format!("spoilt-{id}-{}", tensor.replace(['.', '/'], "-")));
    let mine = [record(name, id)];
    let mut bytes = own(&format!("{name}.safetensors"));
    let at = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor(&format!("{id}/{tensor}")).unwrap().data().as_ptr();
        data as usize - bytes.as_ptr() as usize + index
    };
    bytes[at] ^= bits;
    folder
        .write(&format!("{name}.json"), serde_json::to_vec(&mine).unwrap())
        .write(&format!("{name}.safetensors"), bytes)
        .report(name)
}

#[test]
fn a_number_that_is_wrong_by_a_thousandth_fails_and_is_named() {
    // The lowest bit but five of the second byte: 2⁻¹⁰ of the number or more.
    for tensor in [
        "out",
        "weights",
        "grad_query",
        "grad.pos_emb",
        "grad.attn.in_proj_weight",
        "grad.attn.out_proj.bias",
    ] {
        let report = spoilt("attention", "additive_pos-bias-causal", tensor, 4 * 20 + 1, 0x20);
        assert_eq!((report.passed, report.failed.len()), (0, 1), "{tensor}: {report}");
        let (record, message) = &report.failed[0];
        assert!(record == "additive_pos-bias-causal" && message.contains(tensor), "{message}");
        assert!(
            message.contains("the record is wrong by") && message.contains("allowed"),
            "{message}"
        );
    }
    for (record, tensor) in [
        ("additive_rel-bias-posmask", "grad.rel_bias"),
        ("additive_rel-nobias-causal", "out"),
        ("rope-bias-pos2d", "grad.k_proj.weight"),
        ("rope-nobias-mask3d", "weights"),
        ("olm-alibi-h6", "grad.k_proj.weight"),
        ("olm-rope", "out"),
        ("olm-absolute-positions", "grad_table"),
    ] {
        assert_eq!(
            spoilt("attention", record, tensor, 4 * 20 + 1, 0x20).failed.len(),
            1,
            "{record} {tensor}"
        );
    }
    for (record, tensor) in [
        ("sin-whisper-50x16", "table"),
        ("sin-m2m-33x15", "table"),
        ("t5-bucket-8-20-bi", "bucket"),
        ("t5-bias-dec-60", "bias"),
        ("alibi-bloom-h3", "bias"),
        ("alibi-mpt-h71", "bias"),
        ("alibi-olm-h4", "bias"),
    ] {
        assert_eq!(
            spoilt("encodings", record, tensor, 8 * 9 + 1, 0x20).failed.len(),
            1,
            "{record} {tensor}"
        );
    }
}

#[test]
fn a_layer_that_is_wrong_by_a_thousandth_fails() {
    // 2⁻¹⁰ of the number, whose bound is a share of the tensor's largest; 2⁻⁷ of it in f32.
    for (record, tensor) in [
        ("encoder-pre-gelu-additive", "out"),
        ("encoder-post-relu-boolean", "grad_src"),
        ("decoder-pre-relu-per-head-per-head-nobias", "grad.multihead_attn.in_proj_weight"),
        ("decoder-post-gelu-additive", "grad_memory"),
        ("encoder-pre-relu-causal", "param.norm2.weight"),
    ] {
        let index = if tensor.starts_with("param") { 3 } else { 20 };
        let report = spoilt("layers", record, tensor, 8 * index + 5, 0x04);
        assert_eq!(report.failed.len(), 1, "{record} {tensor}: {report}");
    }
    for tensor in ["out", "grad_x", "grad.kv_b_proj.weight", "grad.q_a_layernorm.weight"] {
        let index = if tensor.ends_with("norm.weight") { 3 } else { 20 };
        let report = spoilt("layers", "mla-lora-interleaved-bias", tensor, 4 * index + 2, 0x01);
        assert_eq!(report.failed.len(), 1, "{tensor}: {report}");
    }
}

#[test]
fn an_operator_that_answers_another_question_fails() {
    // An f32, a number before which a past lies, an output that is only a copy, and a rotation: off by 2⁻¹⁰ of the number or more.
    for (id, tensor) in [
        ("test_attention_3d_gqa", "out/Y"),
        ("test_attention_4d_gqa_with_past_and_present", "out/Y"),
        ("test_attention_4d_gqa_with_past_and_present", "out/present_value"),
        ("test_attention_3d_with_past_and_present_qk_matmul_softmax", "out/qk_matmul_output"),
        ("test_rotary_embedding_with_interleaved_rotary_dim", "out/output"),
        ("test_rotary_embedding_with_rotary_dim", "out/output"),
    ] {
        assert_eq!(spoilt("onnx", id, tensor, 4 * 20 + 1, 0x20).failed.len(), 1, "{id} {tensor}");
    }
    // The highest bit but two of an f16's significand and of a bf16's: a rounding to these types is coarse, but not as coarse as an eighth.
    for (id, index) in [
        ("test_attention_4d_fp16", 2 * 20 + 1),
        ("test_attention_local_window_ext_cache_float16_mask", 2 * 20 + 1),
    ] {
        assert_eq!(spoilt("onnx", id, "out/Y", index, 0x01).failed.len(), 1, "{id}");
    }
    assert_eq!(
        spoilt("onnx", "test_attention_3d_causal_bf16", "out/Y", 2 * 20, 0x20).failed.len(),
        1
    );

    // Each attribute counts: with another value the same record is wrong.
    for (id, attribute, value) in [
        ("test_attention_3d_causal_bf16", "is_causal", 0.into()),
        ("test_attention_4d_causal_nonpad_attn_mask_composition", "is_causal", 0.into()),
        ("test_attention_local_window_ext_cache_rank2_mask", "left_window_size", 1.into()),
        (
            "test_attention_local_window_ext_cache_rank4_batch_mask",
            "left_window_size",
            (-1).into(),
        ),
        ("test_attention_local_window_rank1_boolean_mask", "left_window_size", 1.into()),
        ("test_attention_local_window_default", "right_window_size", 0.into()),
        ("test_attention_4d_softcap", "softcap", 0.into()),
        ("test_attention_4d_diff_heads_sizes_scaled", "scale", serde_json::Value::Null),
        ("test_attention_3d_gqa", "kv_num_heads", 1.into()),
        ("test_rotary_embedding", "interleaved", 1.into()),
        ("test_rotary_embedding_with_rotary_dim", "interleaved", 1.into()),
    ] {
        let mut other = record("onnx", id);
        other["attrs"][attribute] = value;
        let folder = Folder::new(&format!("asked-{id}-{attribute}"));
        let report = folder
            .write("onnx.json", serde_json::to_vec(&[other]).unwrap())
            .write("onnx.safetensors", own("onnx.safetensors"))
            .report("onnx");
        assert_eq!((report.passed, report.failed.len()), (0, 1), "{id} {attribute}: {report}");
    }
    // As does an operand: without the lengths of the cache, padding is attended to.
    let mut other = record("onnx", "test_attention_local_window_ext_cache_rank2_mask");
    other["inputs"][6] = serde_json::Value::Null;
    let folder = Folder::new("asked-nonpad");
    let report = folder
        .write("onnx.json", serde_json::to_vec(&[other]).unwrap())
        .write("onnx.safetensors", own("onnx.safetensors"))
        .report("onnx");
    assert_eq!(report.failed.len(), 1, "{report}");
}

#[test]
fn a_parameter_that_is_off_by_one_bit_in_a_thousand_fails() {
    for (record, tensor, number) in [
        ("additive_pos-nobias-posmask", "param.pos_emb", 30),
        ("additive_rel-nobias-self", "param.rel_bias", 4),
        ("rope-nobias-cross", "param.q_proj.weight", 30),
    ] {
        let report = spoilt("attention", record, tensor, 4 * number + 1, 0x40);
        assert_eq!(report.failed.len(), 1, "{report}");
    }
}

#[test]
fn what_is_not_known_is_skipped_with_its_reason() {
    let folder = Folder::new("unknown");
    let empty = safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(), None).unwrap();
    folder
        .write(
            "attention.json",
            r#"[{"id": "a", "module": "FutureAttention", "args": {}}, {"id": "b"}]"#,
        )
        .write("attention.safetensors", &empty)
        .write(
            "encodings.json",
            r#"[{"id": "c", "kind": "sinusoidal_3d", "params": {}}, {"id": "d", "kind": "sinusoidal", "params": {"twist": 1}}]"#,
        )
        .write("encodings.safetensors", &empty)
        .write("onnx.json", r#"[{"name": "g", "op": "Softmax", "inputs": [{"name": "x"}]}, {"name": "h", "op": "Attention", "inputs": [{"name": "x"}], "attrs": {"twist": 1}}]"#)
        .write("onnx.safetensors", safetensors::serialize(["g/in/x", "h/in/x"].map(|name| (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![0], &[]).unwrap())), None).unwrap())
        .write("later.json", r#"[{"id": "e"}, {"id": "f"}]"#)
        .write("later.safetensors", &empty);
    for (name, reasons) in [
        (
            "attention",
            vec!["module `FutureAttention` is not known here", "the record names no module"],
        ),
        (
            "encodings",
            vec!["`params.twist` is not known here", "kind `sinusoidal_3d` is not known here"],
        ),
        (
            "onnx",
            vec!["`attrs.twist` is not known here", "operator `Softmax` is not known here"],
        ),
        ("later", vec!["this set is not known here"]),
    ] {
        let report = folder.report(name);
        assert!(report.failed.is_empty() && report.passed == 0, "{report}");
        assert_eq!(report.skipped.keys().collect::<Vec<_>>(), reasons);
    }
}

#[test]
fn a_file_that_is_not_there_is_skipped_and_one_that_is_damaged_fails() {
    let folder = Folder::new("damaged");
    let report = folder.report("encodings");
    assert!(report.failed.is_empty());
    assert!(
        report.skipped.keys().all(|reason| reason.contains("encodings.json is not there")),
        "{report}"
    );
    folder.write("encodings.json", "[]");
    assert!(
        folder
            .report("encodings")
            .to_string()
            .contains("encodings.safetensors is not there")
    );
    folder.write("encodings.safetensors", "not tensors");
    assert!(
        folder
            .report("encodings")
            .to_string()
            .contains("FAILED encodings: encodings.safetensors is damaged")
    );
    folder.write("encodings.json", "{");
    assert!(folder.report("encodings").to_string().contains("encodings.json is not JSON"));
    folder
        .write("encodings.json", r#"{"id": 1}"#)
        .write("encodings.safetensors", own("encodings.safetensors"));
    assert!(folder.report("encodings").to_string().contains("is not a list of records"));
    folder.write(
        "encodings.json",
        r#"[{"kind": "alibi"}, {"id": "x", "kind": "alibi"}, {"id": "y", "kind": "alibi", "params": {}}]"#,
    );
    let report = folder.report("encodings");
    assert_eq!((report.passed, report.failed.len()), (0, 3), "{report}");
    assert!(report.to_string().contains("record 0 has no `id`") && report.to_string().contains("tensor `bias` is missing"));
    folder.write("mpnet_relative_attention_bias_32x12_f32le.bin", [0; 1536]);
    let report = folder.report("mpnet_relative_attention_bias_32x12_f32le");
    assert!(
        report.to_string().contains("bucket 0 is reached, but its largest bias is 0"),
        "{report}"
    );
}

#[test]
fn fewer_than_expected_is_a_complaint() {
    let reports = [Report {
        name: "encodings".into(),
        passed: 2,
        ..Report::default()
    }];
    assert!(shortfalls("# a comment\nencodings 2\n", &reports).is_empty());
    assert_eq!(shortfalls("encodings 3\nnone 1\nencodings many\n", &reports).len(), 3);
}
