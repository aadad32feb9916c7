//! An encoding at the positions of a pass, as operations on tensors.

use crate::add::{Add, HEADS, Place, WIDE};
use crate::attend::{self, Attend};
use crate::bias::WriteBias;
use crate::error::{Error, Result};
use crate::mask::Mask;
use crate::parameters::Parameters;
use crate::portable;
use crate::rotate::{Rotate, WHAT};
use crate::rows::Rows;
use crate::shared::Shared;
use crate::storage::{by_type, dims, real_of_tensor};
use candle_core::{DType, Device, Tensor};
use posenc::{Attention, Dims, Mode, Plan, Positions, Side, Site, Turn};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// An encoding with its positions and parameters resolved, for one forward pass: the core's [`posenc::Call`] on tensors. What it does to tensors is recorded by candle and has a gradient, to
/// the tensors and to the parameters.
///
/// On the CPU the core's kernels run on the tensors' own memory, whatever their strides, as long as the last axis is contiguous; in f32, f64, f16 and bf16, each number rounded once.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use posenc::{Attention, Dims, Encoding, Mode, Pairing, Positions, Rotary, Side};
/// use posenc_candle::{Call, Mask};
///
/// let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(64, 4)?)?;
/// let call = Call::new(&plan, &Positions::range(0..10))?; // once for all layers
///
/// // [batch, heads, seq, head_dim], here as a view of [batch, seq, heads, head_dim].
/// let x = Var::randn(0f32, 1f32, (2, 10, 4, 16), &Device::Cpu)?;
/// let q = call.rotate(Side::Query, &x.transpose(1, 2)?)?;
/// let grads = q.sqr()?.sum_all()?.backward()?;
/// assert!(grads.get(&x).is_some());
///
/// // Or all of attention at once: queries and keys are turned on the way.
/// let x = x.transpose(1, 2)?;
/// let out = call.attend(&Attention::default(), &x, &x, &x, &Mask::none().causal(0), Mode::Evaluate)?;
/// assert_eq!(out.dims(), [2, 4, 10, 16]);
/// # Ok::<(), posenc_candle::Error>(())
/// ```
#[derive(Clone)]
pub struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) parameters: Parameters,
    /// The tables that a layer projected, end to end, and their numbers.
    pub(crate) tables: Option<Tensor>,
    pub(crate) sinks: Option<Tensor>,
    /// Tensor operations, also on the CPU.
    pub(crate) portable: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { plan, q_at, k_at, .. } = &*self.shared;
        write!(f, "Call({plan}; {} queries, {} keys)", q_at.len(), k_at.len())
    }
}

impl Call {
    /// Of a plan without parameters, where queries and keys have the same positions.
    ///
    /// # Errors
    /// A position that the encoding has no answer for.
    pub fn new(plan: &Plan, at: &Positions) -> Result<Call> {
        Call::of(plan, &Parameters::NONE, at, at)
    }

    /// Of any plan. `q_at` are the positions of the queries, and of the embeddings; `k_at` those of the keys.
    ///
    /// # Errors
    /// A position that the encoding has no answer for; parameters of another plan.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use posenc::{Dims, Encoding, Learned, Mode, Positions};
    /// use posenc_candle::{Call, Parameters, init};
    /// let plan = Encoding::from(Learned::new(32)).plan(Dims::new(8, 2)?)?;
    /// let vars = init(&plan, 0, DType::F32, &Device::Cpu)?;
    /// let at = Positions::range(0..5);
    /// let call = Call::of(&plan, &Parameters::by_name(&plan, &vars)?, &at, &at)?;
    /// let x = call.embed(&Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?, Mode::Evaluate)?;
    /// let grads = x.sum_all()?.backward()?;
    /// assert_eq!(grads.get(&vars["pos_embedding.weight"]).unwrap().sum_all()?.to_scalar::<f32>()?, 2.0 * 5.0 * 8.0);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    pub fn of(plan: &Plan, parameters: &Parameters, q_at: &Positions, k_at: &Positions) -> Result<Call> {
        parameters.check(plan)?;
        Ok(Call {
            shared: Arc::new(Shared::new(plan, q_at, k_at)?),
            parameters: parameters.clone(),
            tables: None,
            sinks: None,
            portable: false,
        })
    }

    /// The same for another layer: its parameters, the same position tables. Tables and sinks are each layer's own and are left out.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use posenc::{ClippedBias, Dims, Direction, Encoding, Positions};
    /// use posenc_candle::{Call, Parameters, init};
    /// let plan = Encoding::from(ClippedBias::new(4, Direction::KeyMinusQuery)).plan(Dims::new(8, 2)?)?;
    /// let layers = [init(&plan, 0, DType::F32, &Device::Cpu)?, init(&plan, 1, DType::F32, &Device::Cpu)?];
    /// let at = Positions::range(0..5);
    /// let first = Call::of(&plan, &Parameters::by_name(&plan, &layers[0])?, &at, &at)?;
    /// let second = first.for_layer(&Parameters::by_name(&plan, &layers[1])?)?;
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// Parameters of another plan.
    pub fn for_layer(&self, parameters: &Parameters) -> Result<Call> {
        parameters.check(&self.shared.plan)?;
        Ok(Call {
            shared: self.shared.clone(),
            parameters: parameters.clone(),
            tables: None,
            sinks: None,
            portable: self.portable,
        })
    }

    /// The same with a logit per head that takes part in the softmax and has no value, `[heads]`, where [`Attention::sinks`] says so.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use posenc::{Attention, Dims, Encoding, Mode, Pairing, Positions, Rotary};
    /// use posenc_candle::{Call, Mask};
    /// let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(8, 2)?)?;
    /// let sinks = Var::zeros(2, DType::F32, &Device::Cpu)?; // GPT-OSS's `self_attn.sinks`
    /// let call = Call::new(&plan, &Positions::range(0..3))?.with_sinks(&sinks);
    /// let x = Tensor::ones((1, 2, 3, 4), DType::F32, &Device::Cpu)?;
    /// let attention = Attention { sinks: true, ..Attention::default() };
    /// let out = call.attend(&attention, &x, &x, &x, &Mask::none().causal(0), Mode::Evaluate)?;
    /// // The first token sees itself and the sink, whose logit is 0: e^2 / (e^2 + 1) of a value of 1, with a score of 4 / √4.
    /// let first = out.flatten_all()?.to_vec1::<f32>()?[0];
    /// assert!((first - 0.880_797).abs() < 1e-6);
    /// assert!(out.sum_all()?.backward()?.get(&sinks).is_some());
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    pub fn with_sinks(&self, sinks: &Tensor) -> Call {
        Call {
            sinks: Some(sinks.clone()),
            ..self.clone()
        }
    }

    /// The rows that a layer projects into one of its tables ([`Plan::projections`]), `[n, model_dim]`, in the arithmetic's own type: sinusoids of distances, or a parameter, to which its gradient
    /// goes.
    ///
    /// # Errors
    /// The plan has no such table, or a parameter is missing.
    pub fn rows(&self, table: &str, dtype: DType) -> Result<Tensor> {
        let op = Rows {
            shared: self.shared.clone(),
            table: table.to_string(),
            refusal: Arc::default(),
        };
        let refusal = op.refusal.clone();
        match self.parameters.for_type("rows", dtype)? {
            Some(parameters) => refusal.given_back(parameters.apply_op1(op)),
            None => by_type!("rows", dtype, T => {
                let (rows, shape) = op.run::<<T as posenc::Element>::Real>(None)?;
                Ok(Tensor::from_vec(rows, shape.as_slice(), &Device::Cpu)?)
            }),
        }
    }

    /// The same with the tables that a layer made of [`Call::rows`], `[n, heads, head_dim]` each, in the order of [`Plan::projections`]. Attention sends their gradients back to them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use posenc::{Attention, Dims, Encoding, Mode, Positions, TransformerXl};
    /// use posenc_candle::{Call, Mask, Parameters, init};
    /// let plan = Encoding::from(TransformerXl::paper()).plan(Dims::new(8, 2)?)?;
    /// let vars = init(&plan, 0, DType::F32, &Device::Cpu)?;
    /// let at = Positions::range(0..3);
    /// let call = Call::of(&plan, &Parameters::by_name(&plan, &vars)?, &at, &at)?;
    /// let r_net = Var::randn(0f32, 1f32, (8, 8), &Device::Cpu)?; // the layer's own
    /// let rows = call.rows("relative_keys", DType::F32)?;
    /// let table = rows.matmul(&r_net.t()?)?.reshape(((), 2, 4))?;
    /// let x = Tensor::ones((1, 2, 3, 4), DType::F32, &Device::Cpu)?;
    /// let out = call.with_tables(&[table])?.attend(&Attention::default(), &x, &x, &x, &Mask::none().causal(0), Mode::Evaluate)?;
    /// assert!(out.sum_all()?.backward()?.get(&r_net).is_some());
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// More or fewer tables than the plan has.
    pub fn with_tables(&self, tables: &[Tensor]) -> Result<Call> {
        let expected = self.shared.plan.projections().len();
        if tables.len() != expected {
            return Err(Error::Core(posenc::Error::Shape {
                what: "projected tables [tables]",
                expected: vec![expected],
                given: vec![tables.len()],
            }));
        }
        let some = tables.iter().filter(|table| table.elem_count() > 0);
        let flat = some.map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Call {
            tables: match flat.is_empty() {
                true => None,
                false => Some(Tensor::cat(&flat, 0)?),
            },
            ..self.clone()
        })
    }

    /// The same by candle's own operations on the CPU too, as on other devices: to compare, or where something else must see each operation. Results differ by roundings.
    pub fn portable(&self) -> Call {
        Call {
            portable: true,
            ..self.clone()
        }
    }

    /// The kernels do not run on this tensor.
    fn elsewhere(&self, x: &Tensor) -> bool {
        self.portable || !x.device().is_cpu()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Positions of the queries.
    pub fn q_at(&self) -> &Positions {
        &self.shared.q_at
    }

    /// Positions of the keys.
    pub fn k_at(&self) -> &Positions {
        &self.shared.k_at
    }

    /// `x` `[batch, heads, seq, head_dim]` turned as the encoding turns queries or keys; `x` itself if it turns nothing. The result is contiguous.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Side};
    /// use posenc_candle::Call;
    /// let plan = Encoding::from(Rotary::new(Pairing::Interleaved)).plan(Dims::new(2, 1)?)?;
    /// let call = Call::new(&plan, &Positions::range(0..2))?;
    /// let x = Tensor::new(&[[[[1f32, 0.0], [1.0, 0.0]]]], &Device::Cpu)?; // [1, 1, 2, 2]
    /// let turned = call.rotate(Side::Query, &x)?.flatten_all()?.to_vec1::<f32>()?;
    /// assert_eq!(turned, [1.0, 0.0, 1f64.cos() as f32, 1f64.sin() as f32]); // the token at 1 by one radian
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another type, rank, length or width; a last axis with gaps.
    pub fn rotate(&self, side: Side, x: &Tensor) -> Result<Tensor> {
        dims::<4>(WHAT, x.shape())?;
        if !self.rotates() {
            return Ok(x.clone());
        }
        real_of_tensor(WHAT, x)?;
        if self.elsewhere(x) {
            return portable::rotate(self, side, x);
        }
        let op = self.rotation(side);
        let refusal = op.refusal.clone();
        refusal.given_back(x.apply_op1(op))
    }

    /// The same over `x` itself, without new memory: for inference. Whoever else sees the same memory sees it turned: also a graph that recorded the tensor of which this one is detached, and `copy` parts them. The memory
    /// is locked meanwhile, so jobs of one thread pool must not turn views of one tensor at once.
    ///
    /// # Errors
    /// As [`Call::rotate`]; a tensor that gradients flow through, because they would flow past the rotation; one that repeats its memory. Nothing is turned then.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Side};
    /// use posenc_candle::{Call, Error};
    /// let plan = Encoding::from(Rotary::new(Pairing::Interleaved)).plan(Dims::new(8, 2)?)?;
    /// let call = Call::new(&plan, &Positions::range(0..3))?;
    /// let x = Tensor::ones((1, 2, 3, 4), DType::F32, &Device::Cpu)?;
    /// call.rotate_in_place(Side::Query, &x)?;
    /// let trained = Var::from_tensor(&x)?;
    /// assert!(matches!(call.rotate_in_place(Side::Query, &trained), Err(Error::Tracked { .. })));
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    pub fn rotate_in_place(&self, side: Side, x: &Tensor) -> Result<()> {
        self.in_place(side, x, false)
    }

    /// What [`Call::rotate_in_place`] would refuse.
    pub(crate) fn check_in_place(&self, side: Side, x: &Tensor) -> Result<()> {
        self.in_place(side, x, true)
    }

    fn in_place(&self, side: Side, x: &Tensor, only_checks: bool) -> Result<()> {
        if x.track_op() {
            return Err(Error::Tracked {
                op: "rotate_in_place",
                shape: x.shape().clone(),
                instead: "use `rotate`, or a detached copy (`detach` alone shares its memory)",
            });
        }
        dims::<4>(WHAT, x.shape())?;
        if !self.rotates() {
            return Ok(());
        }
        real_of_tensor(WHAT, x)?;
        if !x.device().is_cpu() {
            return Err(Error::Device {
                op: "rotate_in_place; use `rotate` there",
                shape: x.shape().clone(),
            });
        }
        let op = Rotate {
            only_checks,
            ..self.rotation(side)
        };
        op.refusal.given_back(x.inplace_op1(&op))
    }

    fn rotation(&self, side: Side) -> Rotate {
        Rotate {
            shared: self.shared.clone(),
            side,
            turn: Turn::Forward,
            only_checks: false,
            refusal: Arc::default(),
        }
    }

    fn rotates(&self) -> bool {
        let encoding = self.shared.plan.encoding();
        encoding.methods.iter().any(|method| matches!(method, posenc::Method::Rotary(_)))
    }

    /// Embeddings `[batch, seq, model_dim]` with everything that is added and concatenated to them, and dropout where a method names one.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use posenc::{Dims, Encoding, Mode, Positions, Sinusoidal};
    /// use posenc_candle::Call;
    /// let plan = Encoding::from(Sinusoidal::paper()).plan(Dims::new(4, 1)?)?;
    /// let tokens = Tensor::zeros((2, 3, 4), DType::BF16, &Device::Cpu)?;
    /// let x = Call::new(&plan, &Positions::range(0..3))?.embed(&tokens, Mode::Evaluate)?;
    /// assert_eq!(x.narrow(1, 0, 1)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?[..4], [0.0, 1.0, 0.0, 1.0]);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another type, rank, length or width; a last axis with gaps; a parameter that is missing.
    pub fn embed(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.added(Place::Embeddings, x, mode)
    }

    /// `x` with what is added at a site, or `x` itself where nothing is: `[batch, seq, model_dim]` before the projections, `[batch, heads, seq, head_dim]` after them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use posenc::{Dims, Encoding, InputTable, Mode, Positions, Site};
    /// use posenc_candle::{Call, Parameters, init};
    /// // A table that queries and keys see, and values do not.
    /// let plan = Encoding::from(InputTable::new(16)).plan(Dims::new(8, 2)?)?;
    /// let table = init(&plan, 0, DType::F32, &Device::Cpu)?;
    /// let at = Positions::range(0..5);
    /// let call = Call::of(&plan, &Parameters::by_name(&plan, &table)?, &at, &at)?;
    /// let x = Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?;
    /// let [query, key] = [Site::QueryInput, Site::KeyInput].map(|site| call.add(site, &x, Mode::Evaluate));
    /// assert!(query?.sum_all()?.backward()?.get(&table["pos_emb"]).is_some());
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Call::embed`].
    pub fn add(&self, site: Site, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let place = match site {
            Site::Query | Site::Key => Place::Heads(site),
            _ => Place::Stream(site),
        };
        self.added(place, x, mode)
    }

    fn added(&self, place: Place, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (site, what, rank) = match place {
            Place::Embeddings => (Site::Embedding, WIDE, 3),
            Place::Stream(site) => (site, WIDE, 3),
            Place::Heads(site) => (site, HEADS, 4),
        };
        if x.rank() != rank {
            return Err(Error::Rank {
                what,
                expected: rank,
                given: x.shape().clone(),
            });
        }
        if !self.shared.resolved::<f32>()?.adds_at(site) {
            return Ok(x.clone());
        }
        real_of_tensor(what, x)?;
        if self.elsewhere(x) {
            return portable::add(self, place, x, mode);
        }
        self.add_fused(place, x, mode)
    }

    pub(crate) fn add_fused(&self, place: Place, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let op = Add {
            shared: self.shared.clone(),
            place,
            mode,
            refusal: Arc::default(),
        };
        let refusal = op.refusal.clone();
        match self.parameters.for_type(WHAT, x.dtype())? {
            Some(parameters) => refusal.given_back(x.apply_op2(&parameters, op)),
            None => refusal.given_back(x.apply_op1(op)),
        }
    }

    /// The sum of the encoding's biases as a tensor of a type, `[batch, heads, q_len, k_len]`, with a batch of 1 where all rows have the same positions. For who adds it to scores of their own;
    /// [`Call::attend`] never writes it.
    ///
    /// # Errors
    /// A type that is not a floating-point one; a bias that depends on the scores; a parameter that is missing.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use posenc::{Alibi, Dims, Encoding, Positions};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims::new(16, 2)?)?;
    /// let bias = posenc_candle::Call::new(&plan, &Positions::range(0..3))?.bias(DType::BF16, &Device::Cpu)?;
    /// assert_eq!(bias.dims(), [1, 2, 3, 3]);
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    pub fn bias(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let op = WriteBias {
            shared: self.shared.clone(),
            dtype,
            refusal: Arc::default(),
        };
        let refusal = op.refusal.clone();
        let bias = match self.parameters.for_type("bias", dtype)? {
            Some(parameters) => refusal.given_back(parameters.apply_op1(op))?,
            None => by_type!("bias", dtype, T => {
                let (bias, shape) = op.run::<T>(None)?;
                Ok(Tensor::from_vec(bias, shape.as_slice(), &Device::Cpu)?)
            })?,
        };
        Ok(bias.to_device(device)?)
    }

    /// `softmax(scale·qkᵀ + the encoding, masked) · v`: queries and keys are turned, biases added and relative vectors read on the way; nothing of size q_len × k_len is made, forward or
    /// backward. What an encoding adds at [`Site::Query`] and [`Site::Key`] is added before, by [`Call::add`].
    ///
    /// `q` `[batch, heads, q_len, head_dim]`, `k` `[batch, kv_heads, k_len, head_dim]`, `v` `[batch, kv_heads, k_len, value_dim]`, in any storage order whose last axis is contiguous. The result
    /// is `[batch, heads, q_len, value_dim]`; a row that attends to nothing is zeros.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use posenc::{Alibi, Attention, Dims, Encoding, Mode, Positions};
    /// use posenc_candle::{Call, Mask};
    /// let plan = Encoding::from(Alibi::new()).plan(Dims { model_dim: 32, heads: 4, kv_heads: 2, head_dim: 8 })?;
    /// // Two new tokens after eight that are in the cache.
    /// let call = Call::of(&plan, &posenc_candle::Parameters::NONE, &Positions::range(8..10), &Positions::range(0..10))?;
    /// let q = Tensor::randn(0f32, 1f32, (1, 4, 2, 8), &Device::Cpu)?.to_dtype(DType::F16)?;
    /// let k = Tensor::randn(0f32, 1f32, (1, 2, 10, 8), &Device::Cpu)?.to_dtype(DType::F16)?;
    /// let out = call.attend(&Attention::default(), &q, &k, &k, &Mask::none().causal(8), Mode::Evaluate)?;
    /// assert_eq!((out.dims(), out.dtype()), (&[1, 4, 2, 8][..], DType::F16));
    /// # Ok::<(), posenc_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// Types, ranks or shapes that do not fit; a setting out of range; a parameter or table that is missing.
    pub fn attend(&self, attention: &Attention, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, mode: Mode) -> Result<Tensor> {
        if self.elsewhere(q) {
            return portable::attend(self, attention, [q, k, v], mask, mode);
        }
        self.attend_fused(attention, [q, k, v], mask, mode)
    }

    pub(crate) fn attend_fused(&self, attention: &Attention, [q, k, v]: [&Tensor; 3], mask: &Mask, mode: Mode) -> Result<Tensor> {
        let [_, k_shape, v_shape] = attend::check(q, k, v)?;
        let real = real_of_tensor(attend::Q, q)?;
        let beside = [&self.tables, &self.sinks].into_iter().flatten();
        let beside = beside.map(|tensor| attend::flat(tensor, real)).collect::<Result<Vec<_>>>()?;
        let parameters = self.parameters.followed_by(&beside)?.for_type(attend::Q, q.dtype())?;
        let trained = |tensor: &Tensor| tensor.track_op();
        let packed = parameters.as_ref().is_some_and(trained);
        let op = Attend {
            shared: self.shared.clone(),
            attention: attention.clone(),
            mask: mask.clone(),
            mode,
            packed,
            constants: if packed { None } else { parameters.clone() },
            k_shape,
            v_shape,
            tables: self.tables.as_ref().map(Tensor::elem_count),
            training: packed || [q, k, v].into_iter().any(trained),
            saved: OnceLock::new(),
            refusal: Arc::default(),
        };
        let refusal = op.refusal.clone();
        refusal.given_back(match parameters {
            Some(parameters) if packed => q.apply_op3(&attend::together(k, v)?, &parameters, op),
            _ => q.apply_op3(k, v, op),
        })
    }

    /// The widths of the plan.
    pub fn dims(&self) -> Dims {
        self.shared.plan.dims()
    }
}
