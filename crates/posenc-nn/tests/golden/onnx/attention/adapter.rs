//! From a node's operands and attributes to a call.

use super::Given;
use crate::golden::asked::{Attended, Attending, Pairs};
use crate::golden::onnx::{Node, Sample};
use crate::golden::set::{Data, Outcome, Tensor, fail, skip};
use crate::through;
use posenc::attention::{Inputs, Outputs, Workspace};
use posenc::{Attention, BlockMut, Call, Dims, Encoding, Mask, Mode, Needs, Params, Positions, ScoreTerm, Tile, View, ViewMut, Window};
use std::sync::{Arc, Mutex};

/// One node, with its tensors in the layout `[batch, heads, seq, width]`, keys and values after what is past.
pub struct Case<T> {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub q_len: usize,
    /// With what is past.
    pub k_len: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub q: Vec<T>,
    pub k: Vec<T>,
    pub v: Vec<T>,
    /// With its shape, of four axes, each but the last 1 or as long as the scores'.
    pub mask: Option<([usize; 4], Given)>,
    pub scale: f64,
    pub softcap: Option<f64>,
    pub causal: bool,
    pub left: Option<i64>,
    pub right: Option<i64>,
    /// Keys before the first query, in each row of the batch; negative where there are fewer keys than queries.
    pub offsets: Vec<i64>,
    /// Keys that are no padding, in each row of the batch.
    pub valid: Option<Vec<i64>>,
    /// Inputs and output are `[batch, seq, heads·width]`.
    flat: bool,
}

impl<T: Sample + Default> Case<T> {
    pub fn read(node: Node<'_>) -> Outcome<Case<T>> {
        let q = node.required("inputs", 0)?;
        let flat = q.shape.len() == 3;
        let split = |place: usize, what: &str, heads: &str| -> Outcome<([usize; 4], Vec<T>)> {
            let tensor = node.required("inputs", place)?;
            let Some(data) = T::of(&tensor.data) else {
                return skip(format!("{what} of another type than Q is not known here: the core takes one type"));
            };
            if !flat {
                return Ok((tensor.rank(what)?, data.to_vec()));
            }
            let [batch, len, hidden] = tensor.rank(what)?;
            let heads = node.heads(heads)?;
            if hidden % heads != 0 {
                return fail(format!("{heads} heads do not divide {what}'s width of {hidden}"));
            }
            let width = hidden / heads;
            let axes = [batch, len, heads, width];
            Ok(([batch, heads, len, width], swapped(data, axes)))
        };
        let ([batch, heads, q_len, head_dim], q) = split(0, "Q", "q_num_heads")?;
        let (k_shape, k) = split(1, "K", "kv_num_heads")?;
        let (v_shape, v) = split(2, "V", "kv_num_heads")?;
        let past = |place: usize, what: &str, [batch, heads, len, width]: [usize; 4], new: Vec<T>| -> Outcome<(usize, Vec<T>)> {
            let Some(past) = node.operand("inputs", place)? else {
                return Ok((0, new));
            };
            let (before, data) = (past.rank::<4>(what)?, past.numbers::<T>(what)?);
            if [before[0], before[1], before[3]] != [batch, heads, width] {
                return fail(format!("{what} has shape {before:?}"));
            }
            let rows = data.chunks(before[2] * width).zip(new.chunks(len * width));
            Ok((before[2], rows.flat_map(|(past, new)| [past, new].concat()).collect()))
        };
        let (past_len, k) = past(4, "past_key", k_shape, k)?;
        let (past_values, v) = past(5, "past_value", v_shape, v)?;
        if past_len != past_values || k_shape[..3] != v_shape[..3] || k_shape[0] != batch {
            return fail(format!(
                "K {k_shape:?} after {past_len} and V {v_shape:?} after {past_values} do not fit"
            ));
        }
        let k_len = k_shape[2] + past_len;

        let valid = match node.operand("inputs", 6)? {
            None => None,
            Some(Tensor {
                shape,
                data: Data::I64(valid),
            }) if *shape == [batch] => Some(valid.clone()),
            Some(other) => return fail(format!("nonpad_kv_seqlen has shape {:?}, or is not i64", other.shape)),
        };
        let offsets = match &valid {
            Some(valid) => valid.iter().map(|valid| valid - q_len as i64).collect(),
            None => vec![past_len as i64; batch],
        };
        let mask = match node.operand("inputs", 3)? {
            None => None,
            Some(mask) => Some(padded(mask, k_len)?),
        };
        let side = |name: &str| -> Outcome<Option<i64>> {
            match node.attribute(name, -1)? {
                -1 => Ok(None),
                keys if keys >= 0 => Ok(Some(keys)),
                other => fail(format!("`attrs.{name}` is {other}")),
            }
        };
        Ok(Case {
            batch,
            heads,
            kv_heads: k_shape[1],
            q_len,
            k_len,
            head_dim,
            value_dim: v_shape[3],
            q,
            k,
            v,
            mask,
            scale: node.0.number_or("attrs", "scale", 1.0 / (head_dim as f64).sqrt())?,
            softcap: Some(node.0.number_or("attrs", "softcap", 0.0)?).filter(|cap| *cap > 0.0),
            causal: node.attribute("is_causal", 0)? != 0,
            left: side("left_window_size")?,
            right: side("right_window_size")?,
            offsets,
            valid,
            flat,
        })
    }

    fn dims(&self) -> Outcome<Dims> {
        Ok(Dims {
            model_dim: self.heads * self.head_dim,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
        }
        .checked()?)
    }

    /// Our answer `[batch, heads, q_len, value_dim]`, and its weights if they are asked for, `[batch, heads, q_len, k_len]`.
    pub fn run(&self, weights: bool) -> Outcome<Attended<T>> {
        let ordered = self.causal || self.left.is_some() || self.right.is_some();
        let firsts: Option<Vec<usize>> = self.offsets.iter().map(|offset| usize::try_from(*offset).ok()).collect();
        let mut attention = Attention {
            scale: Some(self.scale),
            softcap: self.softcap,
            ..Attention::default()
        };
        let mut pairs = Pairs::default();
        let by_hand: Vec<bool>;
        match (firsts, ordered) {
            (_, false) => {}
            (Some(firsts), true) => {
                let keys = |side: Option<i64>| side.map(|keys| usize::try_from(keys).unwrap_or(usize::MAX));
                attention.window = Some(Window {
                    left: keys(self.left),
                    right: keys(self.right),
                });
                (pairs.causal, pairs.before) = (self.causal, firsts);
            }
            // The first query stands before the first key, which is no number of keys: the order is written out.
            (None, true) => {
                let all = (0..self.batch * self.q_len * self.k_len)
                    .map(|at| (at / (self.q_len * self.k_len), at / self.k_len % self.q_len, at % self.k_len));
                by_hand = all.map(|(b, i, j)| self.in_order(b, i, j)).collect();
                pairs.attends.push((&by_hand, [self.batch, 1, self.q_len, self.k_len]));
            }
        }
        let padding: Vec<bool>;
        if self.valid.is_some() {
            padding = (0..self.batch * self.k_len)
                .map(|at| self.is_valid(at / self.k_len, at % self.k_len))
                .collect();
            pairs.attends.push((&padding, [self.batch, 1, 1, self.k_len]));
        }
        match &self.mask {
            Some((shape, Given::Attends(given))) => pairs.attends.push((given, *shape)),
            Some((shape, Given::Added(given))) => pairs.added = Some((given, *shape)),
            None => {}
        }
        let (q_at, k_at) = (Positions::absent(self.q_len), Positions::absent(self.k_len));
        let of = Attending {
            plan: &Encoding::none().plan(self.dims()?)?,
            at: [&q_at, &k_at],
            attention: &attention,
            q: (&self.q, [self.batch, self.heads, self.q_len, self.head_dim]),
            k: (&self.k, [self.batch, self.kv_heads, self.k_len, self.head_dim]),
            v: (&self.v, [self.batch, self.kv_heads, self.k_len, self.value_dim]),
            sinks: &[],
            weights,
            pairs,
        };
        through::attended(&Params::zeros(&[])?, &of, None)
    }

    /// scale·qkᵀ `[batch, heads, q_len, k_len]`, as a term of the scores sees it.
    pub fn run_products(&self) -> Outcome<Vec<f32>> {
        let seen = Arc::new(Mutex::new(vec![f32::NAN; self.batch * self.heads * self.q_len * self.k_len]));
        let none = Params::zeros(&[])?;
        let (q_at, k_at) = (Positions::absent(self.q_len), Positions::absent(self.k_len));
        let mut call: Call<'_, f32> = Encoding::none().plan(self.dims()?)?.call(&none, &q_at, &k_at)?;
        call.push_content(Arc::new(Recorder {
            shape: [self.heads, self.q_len, self.k_len],
            seen: seen.clone(),
        }));
        let attention = Attention {
            scale: Some(self.scale),
            ..Attention::default()
        };
        let mut out = vec![T::narrow(f32::NAN); self.batch * self.heads * self.q_len * self.value_dim];
        let inputs = Inputs::new(
            View::new(&self.q, [self.batch, self.heads, self.q_len, self.head_dim])?,
            View::new(&self.k, [self.batch, self.kv_heads, self.k_len, self.head_dim])?,
            View::new(&self.v, [self.batch, self.kv_heads, self.k_len, self.value_dim])?,
        );
        let outputs = Outputs {
            out: ViewMut::new(&mut out, [self.batch, self.heads, self.q_len, self.value_dim])?,
            saved: None,
            weights: None,
        };
        attention.forward(&call, inputs, &Mask::none(), Mode::Evaluate, outputs, &mut Workspace::default())?;
        let seen = seen.lock().map_err(|_| "the recorder panicked".to_string())?;
        Ok(seen.clone())
    }

    /// Causality and the window let query i see key j.
    pub fn in_order(&self, batch: usize, i: usize, j: usize) -> bool {
        let ahead = j as i64 - (i as i64 + self.offsets[batch]);
        (!self.causal || ahead <= 0) && self.left.is_none_or(|left| -ahead <= left) && self.right.is_none_or(|right| ahead <= right)
    }

    /// Key j is no padding.
    pub fn is_valid(&self, batch: usize, j: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| (j as i64) < valid[batch])
    }

    /// `[batch, heads, q_len, value_dim]` in the layout of Y.
    pub fn in_layout<N: Copy>(&self, out: &[N]) -> Vec<N> {
        match self.flat {
            true => swapped(out, [self.batch, self.heads, self.q_len, self.value_dim]),
            false => out.to_vec(),
        }
    }

    pub fn out_shape(&self) -> Vec<usize> {
        match self.flat {
            true => vec![self.batch, self.q_len, self.heads * self.value_dim],
            false => vec![self.batch, self.heads, self.q_len, self.value_dim],
        }
    }
}

/// The two axes in the middle in each other's place.
fn swapped<N: Copy>(data: &[N], [a, b, c, d]: [usize; 4]) -> Vec<N> {
    let rows = (0..a * b * c).map(|at| (at / (b * c), at / b % c, at % b));
    rows.flat_map(|(i, k, j)| data[((i * b + j) * c + k) * d..][..d].to_vec()).collect()
}

/// A mask of rank 0 to 4 with four axes, aligned at the last, which is filled up with what blocks.
fn padded(mask: &Tensor, k_len: usize) -> Outcome<([usize; 4], Given)> {
    let Some((&len, rest)) = mask.shape.split_last().filter(|(len, rest)| **len <= k_len && rest.len() <= 3) else {
        return fail(format!("a mask of shape {:?} does not fit {k_len} keys", mask.shape));
    };
    let mut shape = [1, 1, 1, k_len];
    shape[3 - rest.len()..3].copy_from_slice(rest);
    let rows: usize = rest.iter().product();
    let pad = |at: usize| (at / k_len * len + at % k_len, at % k_len < len);
    let places = (0..rows * k_len).map(pad);
    Ok((
        shape,
        match Given::of(&mask.data)? {
            Given::Attends(mask) => Given::Attends(places.map(|(at, there)| there && mask[at]).collect()),
            Given::Added(mask) => Given::Added(places.map(|(at, there)| if there { mask[at] } else { f32::NEG_INFINITY }).collect()),
        },
    ))
}

/// A term that adds nothing and keeps the scores that it sees.
struct Recorder {
    /// `[heads, q_len, k_len]`.
    shape: [usize; 3],
    seen: Arc<Mutex<Vec<f32>>>,
}

impl ScoreTerm<f32> for Recorder {
    fn needs(&self) -> Needs {
        Needs::bias(0).reading_scores()
    }

    fn add(&self, tile: &Tile<'_, f32>, s: &mut BlockMut<'_, f32>) {
        let [heads, q_len, k_len] = self.shape;
        if let Ok(mut seen) = self.seen.lock() {
            for i in 0..s.rows {
                let row = ((tile.at.batch * heads + tile.at.head) * q_len + tile.at.q0 + i) * k_len + tile.at.k0;
                let cols = s.cols;
                seen[row..][..cols].copy_from_slice(&s.row(i)[..cols]);
            }
        }
    }
}
