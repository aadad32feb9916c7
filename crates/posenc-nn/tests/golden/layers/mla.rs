//! transformers' `DeepseekV3Attention`: [`MultiheadLatentAttention`].

use super::{Subject, Tensors, numbers};
use crate::golden::set::{Outcome, Record};
use posenc::{Mode, Pairing, ParamSpec, Params, Positions, Rotary};
use posenc_nn::{LatentDims, LatentTrace, MultiheadLatentAttention, PositionalArgs};

pub struct Mla(MultiheadLatentAttention);

impl Mla {
    pub fn new(record: &Record<'_>) -> Outcome<Mla> {
        let known = [
            "hidden_size",
            "num_attention_heads",
            "q_lora_rank",
            "kv_lora_rank",
            "qk_nope_head_dim",
            "qk_rope_head_dim",
            "v_head_dim",
            "rope_interleave",
            "rope_theta",
            "attention_bias",
        ];
        record.only("args", &known)?;
        let width = |name| record.size("args", name);
        let direct = record.json["args"]["q_lora_rank"].is_null();
        let dims = LatentDims {
            hidden_size: width("hidden_size")?,
            num_attention_heads: width("num_attention_heads")?,
            q_lora_rank: if direct { None } else { Some(width("q_lora_rank")?) },
            kv_lora_rank: width("kv_lora_rank")?,
            qk_nope_head_dim: width("qk_nope_head_dim")?,
            qk_rope_head_dim: width("qk_rope_head_dim")?,
            v_head_dim: width("v_head_dim")?,
        };
        let pairing = if record.flag_or("args", "rope_interleave", true)? {
            Pairing::Interleaved
        } else {
            Pairing::Halves
        };
        let rotary = Rotary::new(pairing).with_base(record.number_or("args", "rope_theta", 10_000.0)?);
        let module = MultiheadLatentAttention::new(dims, rotary)?;
        Ok(Mla(if record.flag_or("args", "attention_bias", false)? {
            module.with_bias()
        } else {
            module
        }))
    }
}

impl Subject for Mla {
    fn streams(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn specs(&self) -> Vec<ParamSpec> {
        self.0.specs()
    }

    fn run(&self, record: &Record<'_>, params: &Params<f64>, streams: &Tensors) -> Outcome<(Tensors, Params<f64>)> {
        let (shape, ids) = record.i64s("positions")?;
        let args = PositionalArgs {
            q_positions: Some(Positions::whole_rows(ids, shape[0])?),
            causal: record.json["is_causal"].as_bool().unwrap_or(false).then_some(0),
            need_weights: true,
            average_attn_weights: false,
            ..Default::default()
        };
        let (x, mode) = (&streams["x"], Mode::Evaluate);
        let (shape, d_out) = numbers(record, "grad_out")?;
        let (mut trace, mut grads) = (LatentTrace::default(), params.zeros_like());
        let output = self.0.forward(params, x, shape[0], &args, mode, &mut trace)?;
        let mut dx = vec![f64::NAN; x.len()];
        self.0
            .adjoint(params, x, shape[0], &args, mode, &d_out, &mut dx, &mut grads, &mut trace)?;
        let weights = output.weights.unwrap_or_default();
        let tensors = [("out", output.out), ("weights", weights), ("grad_x", dx)];
        Ok((tensors.map(|(name, x)| (name.to_string(), x)).into(), grads))
    }
}
