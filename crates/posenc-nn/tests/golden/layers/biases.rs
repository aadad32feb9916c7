//! Biases by their own code, through attention: KERPLE's authors', FIRE, NeMo's Sandwich, transformers' Swin and Swin v2. Queries and keys are zeros, so the weights are the softmax of the bias.

use super::{Subject, Tensors, numbers};
use crate::golden::asked::{Attended, Attending, Pairs};
use crate::golden::set::{Outcome, Record, fail};
use crate::through;
use posenc::{Attention, Dims, Encoding, Fire, Kernel, Kerple, LogCpb, ParamSpec, Params, Plan, Positions, Sandwich, SwinBias};

pub struct Biased {
    plan: Plan,
    at: [Positions; 2],
    causal: bool,
}

impl Biased {
    pub fn new(record: &Record<'_>) -> Outcome<Biased> {
        let size = |name| record.size("args", name);
        let own: &[&str] = match record.json["module"].as_str() {
            Some("FIRE") => &["hidden", "length"],
            Some("SandwichRelativePositionEmbedding") => &["hidden"],
            Some("SwinRelativePositionBias") => &["window", "rows", "columns"],
            Some("Swinv2SelfAttention") => &["window", "rows", "columns", "hidden"],
            _ => &["kernel"],
        };
        record.only("args", &[own, &["heads", "q_len", "k_len"]].concat())?;
        let window = || [0, 1].map(|axis| record.json["args"]["window"][axis].as_u64().unwrap_or(0) as usize);
        let (heads, q_len, k_len) = (size("heads")?, size("q_len")?, size("k_len")?);
        let line = [
            Positions::range((k_len - q_len) as i64..k_len as i64),
            Positions::range(0..k_len as i64),
        ];
        let grid = || -> Outcome<[Positions; 2]> {
            let grid = Positions::grid(size("rows")?, size("columns")?);
            Ok([grid.clone(), grid])
        };
        let (encoding, at): (Encoding, _) = match record.json["module"].as_str() {
            Some("ParallelKerpleLog" | "ParallelKerplePower") => {
                let kernel = match record.text("args", "kernel") {
                    Some("log") => Kernel::Log,
                    Some("power") => Kernel::Power,
                    other => return fail(format!("kernel {other:?}")),
                };
                (Kerple { kernel, ..Kerple::log() }.into(), line)
            }
            Some("FIRE") => {
                let fire = Fire::new().with_hidden(size("hidden")?);
                (fire.with_length(record.number_or("args", "length", 512.0)?).into(), line)
            }
            Some("SandwichRelativePositionEmbedding") => (Sandwich::nemo(size("hidden")?).into(), line),
            Some("SwinRelativePositionBias") => (SwinBias::new(window()).into(), grid()?),
            _ => (LogCpb::new(window()).with_hidden(size("hidden")?).into(), grid()?),
        };
        Ok(Biased {
            plan: encoding.plan(Dims::new(2 * heads, heads)?)?,
            at,
            causal: record.json["is_causal"].as_bool().unwrap_or(false),
        })
    }
}

impl Subject for Biased {
    fn streams(&self) -> &'static [&'static str] {
        &["v"]
    }

    fn specs(&self) -> Vec<ParamSpec> {
        self.plan.parameters().to_vec()
    }

    fn run(&self, record: &Record<'_>, params: &Params<f64>, streams: &Tensors) -> Outcome<(Tensors, Params<f64>)> {
        let [q_at, k_at] = &self.at;
        let (heads, q_len, k_len) = (self.plan.dims().heads, q_at.len(), k_at.len());
        let (q_shape, k_shape) = ([1, heads, q_len, 2], [1, heads, k_len, 2]);
        let (d_shape, d_out) = numbers(record, "grad_out")?;
        let sinks = numbers(record, "sinks")?.1;
        let v_shape = [1, heads, k_len, d_shape[3]];
        let (q, k) = (vec![0.0; heads * q_len * 2], vec![0.0; heads * k_len * 2]);
        let attention = Attention {
            sinks: true,
            ..Attention::default()
        };
        let mut tensors = Tensors::new();
        if record.find("bias").is_some() {
            tensors.insert("bias".into(), through::bias(&self.plan, params, q_at, k_at)?);
        }
        let of = Attending {
            plan: &self.plan,
            at: [q_at, k_at],
            attention: &attention,
            q: (&q, q_shape),
            k: (&k, k_shape),
            v: (&streams["v"], v_shape),
            sinks: &sinks,
            weights: false,
            pairs: Pairs {
                causal: self.causal,
                before: if self.causal { vec![k_len - q_len] } else { Vec::new() },
                ..Pairs::default()
            },
        };
        let Attended { out, grads, .. } = through::attended(params, &of, Some(&d_out))?;
        let Some((dv, d_params)) = grads else {
            return fail("no gradients were given");
        };
        tensors.insert("out".into(), out);
        tensors.insert("grad_v".into(), dv);
        Ok((tensors, d_params))
    }
}
