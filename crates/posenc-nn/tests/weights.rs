//! Files of weights: what comes back, what is refused, and that a refused file changes nothing.

use half::{bf16, f16};
use posenc::{Dims, Init, ParamSpec, Params, Rng};
use posenc_nn::weights::{self, Dtype, Source};
use posenc_nn::{Error, MultiheadAttention};
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Typed, SafeTensors};

fn specs() -> Vec<ParamSpec> {
    vec![
        ParamSpec::new("b.weight", [2, 3], Init::Normal(1.0)),
        ParamSpec::new("a", [4], Init::Normal(1.0)),
        ParamSpec::new("scalar", [], Init::Ones),
        ParamSpec::new("empty", [0, 3], Init::Ones),
    ]
}

fn store(specs: &[ParamSpec]) -> Params<f32> {
    Params::init(specs, 1).unwrap()
}

/// A file of one tensor, by the format's own writer.
fn file(name: &str, dtype: Typed, shape: &[usize], data: &[u8]) -> Vec<u8> {
    safetensors::serialize([(name, TensorView::new(dtype, shape.to_vec(), data).unwrap())], None).unwrap()
}

/// A file by hand: a header and as many bytes of zeros.
fn by_hand(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; data]].concat()
}

/// An entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// What is refused is refused by every reader, by the same error, and the store stays as it was.
fn refusal(bytes: &[u8]) -> Error {
    let mut params = store(&specs());
    let before = params.flat().to_vec();
    let error = weights::load(&mut params, bytes).unwrap_err();
    assert_eq!(params.flat(), before, "{error}");
    let again = weights::from_bytes::<f64>(bytes).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), again.to_string());
    error
}

#[track_caller]
fn damaged(bytes: &[u8], at: Option<&str>, says: &str) {
    let error = refusal(bytes);
    let message = error.to_string();
    let Error::Format { tensor, .. } = error else { panic!("{message}") };
    assert_eq!(tensor.as_deref(), at, "{message}");
    assert!(message.contains(says), "{message}");
    assert!(weights::metadata(bytes).is_err());
}

#[test]
fn bytes_come_back_bit_for_bit_and_the_formats_own_code_reads_and_writes_the_same() {
    let params = store(&specs());
    let bytes = weights::to_bytes(&params, &[("encoding", "alibi")]).unwrap();
    assert_eq!(weights::metadata(&bytes).unwrap(), [("encoding".to_string(), "alibi".to_string())]);
    let mut back: Params<f32> = Params::zeros(&specs()).unwrap();
    assert!(weights::load(&mut back, &bytes).unwrap().is_empty());
    assert_eq!(back.flat(), params.flat());

    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 4);
    assert_eq!(theirs.tensor("b.weight").unwrap().shape(), [2, 3]);
    let data: Vec<Vec<u8>> = params
        .specs()
        .iter()
        .map(|spec| params.get(&spec.name).unwrap().iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = params
        .specs()
        .iter()
        .zip(&data)
        .map(|(spec, data)| (spec.name.as_str(), TensorView::new(Typed::F32, spec.shape.clone(), data).unwrap()));
    let metadata = [("encoding".to_string(), "alibi".to_string())].into();
    assert_eq!(safetensors::serialize(views, Some(metadata)).unwrap(), bytes);

    let whole: Params<f64> = weights::from_bytes(&bytes).unwrap();
    assert_eq!(whole.get("a").unwrap()[0], f64::from(params.get("a").unwrap()[0]));
    assert_eq!(whole.specs()[0].name, "a");
    assert_eq!(whole.specs()[1].shape, [2, 3]);
    let doubles: Params<f64> = Params::init(&specs(), 1).unwrap();
    let again: Params<f64> = weights::from_bytes(&weights::to_bytes(&doubles, &[]).unwrap()).unwrap();
    assert_eq!(again.get("b.weight").unwrap(), doubles.get("b.weight").unwrap());
    let none: Params<f32> = weights::from_bytes(&by_hand("{}", 0)).unwrap();
    assert!(none.specs().is_empty());
}

#[test]
fn every_storage_type_is_written_rounded_once_and_read_back() {
    let spec = [ParamSpec::new("a", [1000], Init::Normal(1.0))];
    let (single, double): (Params<f32>, Params<f64>) = (store(&spec), Params::init(&spec, 2).unwrap());
    let written = |storage| weights::to_bytes_as(&single, storage, &[]).unwrap();
    let read = |bytes: &[u8]| weights::from_bytes::<f64>(bytes).unwrap().flat().to_vec();
    for (storage, bytes, narrowed) in [
        (Dtype::F64, 8, (|x| f64::from(x)) as fn(f32) -> f64),
        (Dtype::F32, 4, |x| f64::from(x)),
        (Dtype::F16, 2, |x| f16::from_f32(x).to_f64()),
        (Dtype::Bf16, 2, |x| bf16::from_f32(x).to_f64()),
    ] {
        let file = written(storage);
        let theirs = SafeTensors::deserialize(&file).unwrap();
        let tensor = theirs.tensor("a").unwrap();
        assert_eq!(
            (tensor.dtype().to_string(), tensor.data().len()),
            (storage.to_string(), 1000 * bytes)
        );
        let expected: Vec<f64> = single.flat().iter().map(|x| narrowed(*x)).collect();
        assert_eq!(read(&file), expected, "{storage}");
    }
    // A store of half precision, as a module of that precision keeps it.
    let half: Params<bf16> = weights::from_bytes(&written(Dtype::F64)).unwrap();
    assert_eq!(weights::to_bytes(&half, &[]).unwrap(), written(Dtype::Bf16));
    assert_eq!(half.flat(), single.cast::<bf16>().flat());
    let error = weights::from_bytes::<f16>(&file("a", Typed::F32, &[1], &7e4f32.to_le_bytes())).unwrap_err();
    assert!(matches!(
        error,
        Error::Overflow {
            index: 0,
            into: Dtype::F16,
            ..
        }
    ));
    // From f64 too it is one rounding: no neighbour in the type is nearer, and of two that are as near the even one is taken.
    for (storage, up) in [
        (
            Dtype::F16,
            (|x| f16::from_bits(f16::from_f64(x).to_bits() + 1).to_f64()) as fn(f64) -> f64,
        ),
        (Dtype::Bf16, |x| bf16::from_bits(bf16::from_f64(x).to_bits() + 1).to_f64()),
    ] {
        let back = read(&weights::to_bytes_as(&double, storage, &[]).unwrap());
        for (x, y) in double.flat().iter().zip(&back) {
            let step = up(*y).abs() - y.abs();
            assert!((x - y).abs() <= step / 2.0, "{storage}: {x} became {y}");
        }
        // Just above the middle of 1 and its neighbour: the nearest f32 is the middle itself, and rounding that again goes the wrong way, to 1.
        let next = up(1.0);
        let middle = (1.0 + next) / 2.0;
        let mut one: Params<f64> = Params::zeros(&[ParamSpec::new("a", [4], Init::Zeros)]).unwrap();
        one.flat_mut()
            .copy_from_slice(&[middle + 1e-12, middle, -middle - 1e-12, middle - 1e-12]);
        assert_eq!(
            read(&weights::to_bytes_as(&one, storage, &[]).unwrap()),
            [next, 1.0, -next, 1.0],
            "{storage}"
        );
    }
}

#[test]
fn numbers_that_are_too_large_are_named_and_others_that_are_not_finite_pass() {
    let spec = [ParamSpec::new("a", [2], Init::Zeros)];
    let mut params: Params<f32> = Params::zeros(&spec).unwrap();
    // 65 520 is the first number that rounds past the largest f16.
    params.flat_mut().copy_from_slice(&[65_519.0, 65_520.0]);
    let error = weights::to_bytes_as(&params, Dtype::F16, &[]).unwrap_err();
    assert!(matches!(
        error,
        Error::Overflow {
            index: 1,
            into: Dtype::F16,
            ..
        }
    ));
    params.flat_mut().copy_from_slice(&[f32::NEG_INFINITY, f32::NAN]);
    for storage in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let back: Params<f32> = weights::from_bytes(&weights::to_bytes_as(&params, storage, &[]).unwrap()).unwrap();
        assert!(back.flat()[0] == f32::NEG_INFINITY && back.flat()[1].is_nan(), "{storage}");
    }

    let bytes = |x: [f64; 2]| file("a", Typed::F64, &[2], &x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    let _ = weights::load(&mut params, &bytes([0.1, f64::INFINITY])).unwrap();
    assert_eq!(params.flat(), [0.1, f32::INFINITY]);
    let error = weights::load(&mut params, &bytes([0.0, 1e300])).unwrap_err();
    assert!(matches!(
        error,
        Error::Overflow {
            index: 1,
            into: Dtype::F32,
            ..
        }
    ));
    assert_eq!(params.flat(), [0.1, f32::INFINITY], "nothing was written");
}

#[test]
fn a_header_length_that_is_not_the_headers_is_refused() {
    for n in 0..8 {
        damaged(&vec![0; n], None, &format!("{n} bytes"));
    }
    damaged(&0u64.to_le_bytes(), None, "given nothing");
    damaged(&by_hand("", 8), None, "begins with `{`");
    let bytes = weights::to_bytes(&store(&specs()), &[]).unwrap();
    let past = bytes.len() as u64 - 7;
    for length in [past, 100_000_001, 1 << 31, 1 << 32, 1 << 63, u64::MAX - 7, u64::MAX] {
        let wrong = [&length.to_le_bytes()[..], &bytes[8..]].concat();
        damaged(&wrong, None, &length.to_string());
    }
    // Every shorter file, and every header cut short.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    for end in 0..bytes.len() {
        assert!(matches!(refusal(&bytes[..end]), Error::Format { .. }), "cut at {end}");
    }
    for length in (0..header).filter(|length| !bytes[8 + *length as usize..8 + header as usize].iter().all(|b| *b == b' ')) {
        let wrong = [&length.to_le_bytes()[..], &bytes[8..]].concat();
        assert!(matches!(refusal(&wrong), Error::Format { .. }), "header of {length}");
    }
}

#[test]
fn a_header_that_is_not_the_formats_is_refused() {
    let a = entry("a", "F32", "[1]", "[0,4]");
    for (header, at, says) in [
        ("[]".to_string(), None, "given `[`"),
        (" {}".to_string(), None, "given ` `"),
        ("\u{feff}{}".to_string(), None, "begins with `{`"),
        ("{".to_string(), None, "EOF"),
        (format!("{{{a}"), None, "EOF"),
        (format!("{{{a}}}}}"), None, "trailing"),
        (format!("{{{a},}}"), None, "trailing comma"),
        (r#"{"a":null}"#.to_string(), Some("a"), "null"),
        (r#"{"a":{}}"#.to_string(), Some("a"), "missing field"),
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#.to_string(), Some("a"), "data_offsets"),
        (
            r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_string(),
            Some("a"),
            "duplicate",
        ),
        (format!("{{{a},{a}}}"), Some("a"), "twice"),
        (format!("{{{},{}}}", entry("a", "F32", "[0]", "[0,0]"), a), Some("a"), "twice"),
        // An escape is another way to write the same name.
        (format!("{{{a},{}}}", entry("\\u0061", "F32", "[1]", "[0,4]")), Some("a"), "twice"),
        (r#"{"__metadata__":{"k":1}}"#.to_string(), Some("__metadata__"), "string"),
        (
            r#"{"__metadata__":{"k":"1","k":"2"}}"#.to_string(),
            Some("__metadata__"),
            "`k` comes twice",
        ),
        (
            r#"{"__metadata__":{},"__metadata__":{}}"#.to_string(),
            Some("__metadata__"),
            "twice",
        ),
        (format!("{{{}}}", entry("a", "F32", "[-1]", "[0,4]")), Some("a"), "-1"),
        (format!("{{{}}}", entry("a", "F32", "[1.0]", "[0,4]")), Some("a"), "1.0"),
        (format!("{{{}}}", entry("a", "F32", "[1e400]", "[0,4]")), Some("a"), "out of range"),
        (
            format!("{{{}}}", entry("a", "F32", "[18446744073709551616]", "[0,4]")),
            Some("a"),
            "1.8446744073709552e+19",
        ),
        (format!("{{{}}}", entry("a", "F32", "\"1\"", "[0,4]")), Some("a"), "string"),
        (format!("{{{}}}", entry("a", "F32", "[1]", "[0]")), Some("a"), "length"),
        (format!("{{{}}}", entry("a", "F32", "[1]", "[0,4,4]")), Some("a"), "trailing"),
        (format!("{{{}}}", entry("a", "F32", "[1]", "[-4,0]")), Some("a"), "-4"),
    ] {
        damaged(&by_hand(&header, 4), at, says);
    }
    damaged(&by_hand(b"{\"\xff\":1}", 0), None, "UTF-8");
    damaged(&by_hand(b"\xc3{}", 0), None, "UTF-8");
    // Brackets as deep as the header is long end neither the stack nor the process, where a value is expected and where one is not known.
    let deep = "[".repeat(1_000_000);
    damaged(&by_hand(format!(r#"{{"a":{deep}"#), 0), Some("a"), "expected");
    damaged(&by_hand(format!(r#"{{"a":{{"more":{deep}"#), 0), Some("a"), "expected");
    damaged(
        &by_hand(format!(r#"{{"__metadata__":{{"k":{}"#, "{\"a\":".repeat(200_000)), 0),
        Some("__metadata__"),
        "expected",
    );
}

#[test]
fn tensors_that_do_not_lie_end_to_end_in_the_data_are_refused() {
    let two = |a: &str, b: &str| format!("{{{},{}}}", entry("a", "F32", "[1]", a), entry("b", "F32", "[1]", b));
    for (header, at, says) in [
        (two("[0,4]", "[0,4]"), "b", "begins at 4"),
        (two("[0,4]", "[2,6]"), "b", "begins at 4"),
        (two("[4,8]", "[4,8]"), "a", "begins at 0"),
        (two("[8,4]", "[0,4]"), "a", "BEGIN ≤ END"),
        (two("[0,4]", "[4,12]"), "b", "END ≤ 8"),
        (two("[0,4]", "[4,18446744073709551615]"), "b", "18446744073709551615"),
        (two("[18446744073709551612,18446744073709551615]", "[0,4]"), "a", "END ≤ 8"),
        (two("[0,8]", "[8,8]"), "a", "expected 4 bytes, given F32 [1]"),
        (two("[0,0]", "[0,8]"), "a", "expected 4 bytes"),
    ] {
        damaged(&by_hand(header, 8), Some(at), says);
    }
    let one = |dtype: &str, shape: &str, offsets: &str| format!("{{{}}}", entry("a", dtype, shape, offsets));
    for (header, says) in [
        (one("F64", "[1]", "[0,4]"), "expected 8 bytes"),
        (one("BF16", "[3]", "[0,4]"), "expected 6 bytes"),
        (one("F4", "[3]", "[0,4]"), "can be counted"),
        (one("F32", "[18446744073709551615]", "[0,4]"), "can be counted"),
        (one("U8", "[4294967296,4294967296]", "[0,4]"), "can be counted"),
        (one("F32", "[4611686018427387904,2,2]", "[0,4]"), "can be counted"),
        // 2⁶⁴ + 1 numbers.
        (one("F32", "[274177,67280421310721]", "[0,4]"), "can be counted"),
    ] {
        damaged(&by_hand(header, 4), Some("a"), says);
    }
    // Eight sizes that fit their offsets, end to end up to 2⁶⁴ − 8: adding the header's length to their sum wraps around.
    let n = (1usize << 61) - 1;
    let many: Vec<String> = (0..8)
        .map(|i| entry(&format!("t{i}"), "U8", &format!("[{n}]"), &format!("[{},{}]", i * n, (i + 1) * n)))
        .collect();
    damaged(&by_hand(format!("{{{}}}", many.join(",")), 4), Some("t0"), "END ≤ 4");
    for data in [0, 3, 5, 4096] {
        let bytes = by_hand(one("F32", "[1]", "[0,4]"), data);
        let (at, says) = if data < 4 {
            (Some("a"), "END ≤ ")
        } else {
            (None, "4 bytes of numbers")
        };
        damaged(&bytes, at, says);
    }
    damaged(&by_hand("{}", 1), None, "0 bytes of numbers");
    // Which entry the header names first does not matter.
    let swapped: Params<f32> = weights::from_bytes(&by_hand(two("[4,8]", "[0,4]"), 8)).unwrap();
    assert_eq!(swapped.size(), 2);
}

#[test]
fn a_shape_that_no_store_can_have_is_refused_without_its_memory() {
    // No numbers, but an axis whose product with the others would not fit.
    let big = 1u64 << 63;
    for shape in [format!("[{big},{big},0]"), format!("[{big},2,0]")] {
        let bytes = by_hand(format!("{{{}}}", entry("a", "F32", &shape, "[0,0]")), 0);
        damaged(&bytes, Some("a"), "can be counted");
    }
    let bytes = by_hand(format!("{{{}}}", entry("a", "F32", &format!("[0,{big}]"), "[0,0]")), 0);
    assert_eq!(weights::from_bytes::<f32>(&bytes).unwrap().size(), 0);
    // A rank of a hundred thousand.
    let ones = vec!["1"; 100_000].join(",");
    let bytes = by_hand(format!("{{{}}}", entry("a", "F32", &format!("[{ones}]"), "[0,4]")), 4);
    assert_eq!(weights::from_bytes::<f32>(&bytes).unwrap().specs()[0].shape.len(), 100_000);
}

#[test]
fn other_kinds_of_numbers_are_refused_where_they_are_asked_for_and_nowhere_else() {
    for (dtype, bytes) in [
        (Typed::I64, 8),
        (Typed::I32, 4),
        (Typed::U8, 1),
        (Typed::BOOL, 1),
        (Typed::F8_E4M3, 1),
        (Typed::C64, 8),
    ] {
        let ids = file("position_ids", dtype, &[2], &vec![0; 2 * bytes]);
        let error = weights::from_bytes::<f32>(&ids).unwrap_err();
        assert!(
            matches!(&error, Error::Dtype { name, given } if name == "position_ids" && *given == dtype.to_string()),
            "{error}"
        );
        let mut params = store(&[ParamSpec::new("position_ids", [2], Init::Ones)]);
        assert!(matches!(weights::load(&mut params, &ids), Err(Error::Dtype { .. })));
        assert_eq!(params.flat(), [1.0; 2]);
        assert_eq!(weights::load(&mut store(&[]), &ids).unwrap(), ["position_ids"]);
    }
    for dtype in ["F128", "f32", "", "Float"] {
        let bytes = by_hand(format!("{{{}}}", entry("a", dtype, "[1]", "[0,4]")), 4);
        let error = refusal(&bytes);
        assert!(
            matches!(&error, Error::Dtype { name, given } if name == "a" && given == dtype),
            "{error}"
        );
        assert!(error.to_string().contains("convert it to F32, F64, F16 or BF16"));
    }
}

#[test]
fn tensors_that_are_missing_other_or_more_than_asked_for_are_named() {
    let mut params = store(&specs());
    let before = params.flat().to_vec();
    let error = weights::load(&mut params, &file("model.a", Typed::F32, &[4], &[0; 16])).unwrap_err();
    assert!(
        matches!(&error, Error::MissingTensors { names, others } if names == &["b.weight", "a", "scalar", "empty"] && others == &["model.a"]),
    );
    assert!(error.to_string().contains("it has 1 others: model.a"), "{error}");
    let mut one = store(&[ParamSpec::new("a", [4], Init::Zeros)]);
    for shape in [&[2, 2][..], &[1, 4], &[4, 1], &[8, 0]] {
        let size: usize = shape.iter().product();
        let error = weights::load(&mut one, &file("a", Typed::F32, shape, &vec![1; 4 * size])).unwrap_err();
        assert!(matches!(
            &error,
            Error::Core(posenc::Error::ParameterShape { name, expected, given }) if name == "a" && expected == &[4] && given == shape
        ));
    }
    assert_eq!(one.flat(), [0.0; 4]);
    let all = weights::to_bytes(&params, &[]).unwrap();
    assert_eq!(weights::load(&mut one, &all).unwrap(), ["b.weight", "empty", "scalar"]);
    assert_eq!(params.flat(), before);

    // The first tensors of the store fit, the last does not: none is written.
    let smaller = [ParamSpec::new("b.weight", [2, 3], Init::Ones), ParamSpec::new("a", [3], Init::Ones)];
    let bytes = weights::to_bytes(&store(&smaller), &[]).unwrap();
    let mut two = store(&specs()[..2]);
    let before = two.flat().to_vec();
    assert!(weights::load(&mut two, &bytes).is_err());
    assert_eq!(two.flat(), before);
}

#[test]
fn what_does_not_fit_the_format_is_not_saved() {
    let error = weights::to_bytes(&store(&[ParamSpec::new("__metadata__", [1], Init::Ones)]), &[]).unwrap_err();
    assert!(matches!(&error, Error::Format { tensor: Some(name), .. } if name == "__metadata__"));
    let error = weights::to_bytes(&store(&specs()), &[("k", "1"), ("k", "2")]).unwrap_err();
    assert!(error.to_string().contains("`k` twice"), "{error}");
    // Names that JSON has to escape come back.
    let odd = [
        ParamSpec::new("quote\" line\n nul\0 snow\u{2603}", [1], Init::Normal(1.0)),
        ParamSpec::new("", [1], Init::Ones),
    ];
    let bytes = weights::to_bytes(&store(&odd), &[("\"", "\\")]).unwrap();
    assert!(SafeTensors::deserialize(&bytes).is_ok());
    let mut back: Params<f32> = Params::zeros(&odd).unwrap();
    assert!(weights::load(&mut back, &bytes).unwrap().is_empty());
    assert_eq!(back.flat(), store(&odd).flat());
}

#[test]
fn separate_projections_load_into_the_fused_one_and_a_wrong_split_is_refused() {
    let attn = MultiheadAttention::new("attn", 8, Dims::new(8, 4).unwrap().with_kv_heads(2).unwrap());
    let kinds = |part: &str, rows: usize| {
        [("weight", vec![rows, 8]), ("bias", vec![rows])]
            .map(|(kind, shape)| ParamSpec::new(format!("x.{part}.{kind}"), shape, Init::Normal(1.0)))
    };
    let checkpoint = |q, k, v| store(&[kinds("q", q), kinds("k", k), kinds("v", v), kinds("o", 8), kinds("norm", 8)].concat());
    let theirs = checkpoint(8, 4, 4);
    let rows = attn.in_proj_rows().map(|rows| rows.len());
    let source = |rows: [usize; 3]| {
        move |name: &str| match name.strip_prefix("attn.in_proj_") {
            Some(kind) => Source::Rows(
                ["q", "k", "v"]
                    .iter()
                    .zip(rows)
                    .map(|(part, rows)| (format!("x.{part}.{kind}"), rows))
                    .collect(),
            ),
            None => Source::Tensor(name.replace("attn.out_proj", "x.o")),
        }
    };
    let mut params = store(&attn.specs());
    let bytes = weights::to_bytes_as(&theirs, Dtype::F64, &[]).unwrap();
    assert_eq!(
        weights::load_from(&mut params, &bytes, source(rows)).unwrap(),
        ["x.norm.bias", "x.norm.weight"]
    );
    for (ours, parts) in [
        ("attn.in_proj_weight", &["x.q.weight", "x.k.weight", "x.v.weight"][..]),
        ("attn.in_proj_bias", &["x.q.bias", "x.k.bias", "x.v.bias"]),
        ("attn.out_proj.weight", &["x.o.weight"]),
        ("attn.out_proj.bias", &["x.o.bias"]),
    ] {
        let parts: Vec<f32> = parts.iter().flat_map(|name| theirs.get(name).unwrap().to_vec()).collect();
        assert_eq!(params.get(ours).unwrap(), parts, "{ours}");
    }

    // Other heads whose rows add up to the same: refused by the part, and nothing is written.
    let before = params.flat().to_vec();
    let other = weights::to_bytes(&checkpoint(4, 6, 6), &[]).unwrap();
    let error = weights::load_from(&mut params, &other, source(rows)).unwrap_err();
    assert!(
        matches!(&error, Error::Core(posenc::Error::ParameterShape { name, expected, given }) if name == "x.q.weight" && expected == &[8, 8] && given == &[4, 8]),
        "{error}"
    );
    for rows in [[8, 4, 5], [8, 4, usize::MAX]] {
        let error = weights::load_from(&mut params, &bytes, source(rows)).unwrap_err();
        assert!(
            matches!(&error, Error::Core(posenc::Error::ParameterShape { name, .. }) if name == "attn.in_proj_weight"),
            "{error}"
        );
    }
    let error = weights::load_from(&mut params, &bytes, |name| Source::Tensor(format!("y.{name}"))).unwrap_err();
    assert!(matches!(&error, Error::MissingTensors { names, .. } if names[0] == "y.attn.in_proj_weight"));
    let mut scalar = store(&[ParamSpec::new("s", [], Init::Ones)]);
    assert!(weights::load_from(&mut scalar, &bytes, |_| Source::Rows(Vec::new())).is_err());
    assert_eq!(params.flat(), before);
}

/// Whatever is done to the bytes, a reader gives an error and leaves the store as it was, or it gives what the format's own reader gives.
#[test]
fn mutilated_files_are_errors_or_other_files() {
    let params = store(&specs());
    let bytes = weights::to_bytes(&params, &[("encoding", "rotary")]).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut rng = Rng::new(7);
    let mut below = |n: usize| ((rng.uniform() * n as f64) as usize).min(n.saturating_sub(1));
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..1 + below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = below(bytes.len());
            let in_header = below(header.min(bytes.len()));
            match below(7) {
                0 => {
                    let in_data = bytes.len() - 1 - below(bytes.len().min(44));
                    bytes[in_data] ^= 1 << below(8);
                }
                1 => bytes[in_header] ^= 1 << below(8),
                2 => bytes[in_header] = b"{}[]\",:0123456789eE-. \\"[below(23)],
                3 => bytes.truncate(at),
                4 => drop(bytes.remove(in_header)),
                5 => bytes.insert(in_header, b"0123456789,"[below(11)]),
                _ => bytes.extend([0; 4]),
            }
        }
        let mut store = params.clone();
        store.flat_mut().fill(0.5);
        match weights::load(&mut store, &bytes) {
            Ok(_) => {
                taken += 1;
                // The format's own reader is more lenient, never stricter.
                let theirs = SafeTensors::deserialize(&bytes).unwrap();
                for spec in store.specs() {
                    let tensor = theirs.tensor(&spec.name).unwrap();
                    assert_eq!(tensor.shape(), spec.shape);
                    if tensor.dtype() == Typed::F32 {
                        let ours: Vec<u8> = store.get(&spec.name).unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
                        // A signalling NaN may have become a quiet one.
                        let same = |(a, b): (&[u8; 4], &[u8; 4])| a == b || f32::from_le_bytes(*b).is_nan();
                        assert!(ours.as_chunks::<4>().0.iter().zip(tensor.data().as_chunks::<4>().0).all(same));
                    }
                }
            }
            Err(error) => {
                refused += 1;
                assert!(store.flat().iter().all(|x| *x == 0.5), "{error}");
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        refused > 1000 && taken > 500,
        "{refused} refused, {taken} taken: the mutilation misses its aim"
    );
}

#[test]
fn files_are_written_whole_and_missing_ones_are_named() {
    let directory = std::env::temp_dir().join(format!("posenc-nn-weights-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("model.safetensors");
    let params = store(&specs());
    weights::save_file(&path, &params, &[]).unwrap();
    let mut back: Params<f32> = Params::zeros(&specs()).unwrap();
    assert!(weights::load_file(&path, &mut back).unwrap().is_empty());
    assert_eq!(back.flat(), params.flat());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "no partial file is left");
    let error = weights::load_file(directory.join("none"), &mut back).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("none")));
    std::fs::remove_dir_all(&directory).unwrap();
}
