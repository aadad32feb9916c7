//! `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`, whose checkpoints load under their own names.

use super::{Subject, Tensors, mask, numbers};
use crate::golden::set::{Outcome, Record, fail};
use posenc::{Encoding, Mode, ParamSpec, Params};
use posenc_nn::{
    Activation, Gelu, PositionalArgs, PositionalMultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer, TransformerTrace,
};

pub struct Encoder(TransformerEncoderLayer);
pub struct Decoder(TransformerDecoderLayer);

/// What a record says of a layer.
struct Settings {
    attention: PositionalMultiheadAttention,
    dim_feedforward: usize,
    activation: Activation,
    norm_first: bool,
    bias: bool,
    eps: f64,
}

fn settings(record: &Record<'_>) -> Outcome<Settings> {
    let known = [
        "d_model",
        "nhead",
        "dim_feedforward",
        "activation",
        "norm_first",
        "bias",
        "layer_norm_eps",
    ];
    record.only("args", &known)?;
    let (width, heads) = (record.size("args", "d_model")?, record.size("args", "nhead")?);
    Ok(Settings {
        attention: PositionalMultiheadAttention::new(&Encoding::none(), width, heads)?.with_pytorch_names(),
        dim_feedforward: record.size("args", "dim_feedforward")?,
        activation: match record.text("args", "activation") {
            Some("relu") => Activation::Relu,
            Some("gelu") => Gelu::Exact.into(),
            other => return fail(format!("activation {other:?}")),
        },
        norm_first: record.flag_or("args", "norm_first", false)?,
        bias: record.flag_or("args", "bias", true)?,
        eps: record.number_or("args", "layer_norm_eps", 1e-5)?,
    })
}

impl Encoder {
    pub fn new(record: &Record<'_>) -> Outcome<Encoder> {
        let of = settings(record)?;
        let mut layer = TransformerEncoderLayer::new(of.attention, of.dim_feedforward)?
            .with_activation(of.activation)
            .with_layer_norm_eps(of.eps);
        if of.norm_first {
            layer = layer.with_norm_first();
        }
        Ok(Encoder(if of.bias { layer } else { layer.without_bias() }))
    }
}

impl Decoder {
    pub fn new(record: &Record<'_>) -> Outcome<Decoder> {
        let of = settings(record)?;
        let mut layer = TransformerDecoderLayer::new(of.attention.clone(), of.attention, of.dim_feedforward)?
            .with_activation(of.activation)
            .with_layer_norm_eps(of.eps);
        if of.norm_first {
            layer = layer.with_norm_first();
        }
        Ok(Decoder(if of.bias { layer } else { layer.without_bias() }))
    }
}

fn args<'a>(record: &Record<'a>, stream: &str) -> Outcome<PositionalArgs<'a, f64>> {
    Ok(PositionalArgs {
        attn_mask: mask(record, &format!("{stream}_mask"))?,
        key_padding_mask: mask(record, &format!("{stream}_key_padding_mask"))?,
        ..Default::default()
    })
}

impl Subject for Encoder {
    fn streams(&self) -> &'static [&'static str] {
        &["src"]
    }

    fn specs(&self) -> Vec<ParamSpec> {
        self.0.specs()
    }

    fn run(&self, record: &Record<'_>, params: &Params<f64>, streams: &Tensors) -> Outcome<(Tensors, Params<f64>)> {
        let (src, args) = (&streams["src"], args(record, "src")?);
        let (shape, d_out) = numbers(record, "grad_out")?;
        let (mut trace, mut grads) = (TransformerTrace::default(), params.zeros_like());
        let output = self.0.forward(params, src, shape[0], &args, Mode::Evaluate, &mut trace)?;
        let mut d_src = vec![f64::NAN; src.len()];
        let mode = Mode::Evaluate;
        self.0
            .adjoint(params, src, shape[0], &args, mode, &d_out, &mut d_src, &mut grads, &mut trace)?;
        Ok(([("out".to_string(), output.out), ("grad_src".to_string(), d_src)].into(), grads))
    }
}

impl Subject for Decoder {
    fn streams(&self) -> &'static [&'static str] {
        &["tgt", "memory"]
    }

    fn specs(&self) -> Vec<ParamSpec> {
        self.0.specs()
    }

    fn run(&self, record: &Record<'_>, params: &Params<f64>, streams: &Tensors) -> Outcome<(Tensors, Params<f64>)> {
        let (tgt, memory) = (&streams["tgt"], &streams["memory"]);
        let [own, over] = [args(record, "tgt")?, args(record, "memory")?];
        let (args, mode) = ([&own, &over], Mode::Evaluate);
        let (shape, d_out) = numbers(record, "grad_out")?;
        let (mut trace, mut grads) = (TransformerTrace::default(), params.zeros_like());
        let output = self.0.forward(params, tgt, memory, shape[0], args, mode, &mut trace)?;
        let [mut d_tgt, mut d_memory] = [tgt, memory].map(|x| vec![f64::NAN; x.len()]);
        self.0.adjoint(
            params,
            tgt,
            memory,
            shape[0],
            args,
            mode,
            &d_out,
            &mut d_tgt,
            &mut d_memory,
            &mut grads,
            &mut trace,
        )?;
        let tensors = [("out", output.out), ("grad_tgt", d_tgt), ("grad_memory", d_memory)];
        Ok((tensors.map(|(name, x)| (name.to_string(), x)).into(), grads))
    }
}
