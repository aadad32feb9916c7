//! What acts on scores in the layers of a model without rotary positions: encoding, scale and window.

use super::filled::Filled;
use super::json::shown;
use super::layers::renamed;
use super::registry::{Among, Distance, Reach, Scale, Scores, Span, Stack};
use super::{ConfigError, Source, Trace};
use crate::attention::{Attention, Window};
use crate::bias::{Alibi, Slopes, T5Bias, alibi_slopes};
use crate::content::{Deberta, DebertaProjections, Shaw, TransformerXl, XlNet};
use crate::dims::Dims;
use crate::embed::Sinusoidal;
use crate::encoding::Encoding;
use crate::input::{AddTo, InputTable};
use crate::params::Scope;
use crate::rotate::Precision;
use half::bf16;
use serde_json::Value;

impl Filled {
    /// What acts in a layer, and the scale that comes with it.
    pub fn scored(
        &self,
        model_type: &str,
        scores: &Scores,
        stack: &Stack,
        dims: Dims,
        trace: &mut Trace,
    ) -> Result<(Encoding, Option<f64>), ConfigError> {
        let plain = |encoding: Encoding| Ok((encoding, None));
        match *scores {
            Scores::None => plain(Encoding::none()),
            Scores::If(key, setting, default, [yes, no]) => {
                let on = self.node().find(key).map_or(default, |value| setting.is(value));
                trace.note("positions", if on { "relative" } else { "other" }.into(), self.source(key));
                self.scored(model_type, if on { yes } else { no }, stack, dims, trace)
            }
            Scores::T5 { buckets, distance, own } => {
                let count = self.needed(buckets, "the buckets of distances")?;
                trace.note("buckets", count.to_string(), self.source(buckets));
                let (distance, source) = match distance {
                    Distance::Key(key) => (self.needed(key, "the largest distance of a bucket")?, self.source(key)),
                    // MPNet counts 32 buckets, whatever the rows of its table.
                    Distance::Fixed(_) if count != 32 => {
                        return Err(self.wrong(buckets, count.to_string(), "32: the class counts as many"));
                    }
                    Distance::Fixed(distance) => (distance, Source::Model),
                };
                trace.note("max_distance", distance.to_string(), source);
                let sided = match stack.name {
                    Some("decoder") => T5Bias::decoder(),
                    _ => T5Bias::encoder(),
                };
                let directions = if sided.bidirectional { "both" } else { "keys before the query" };
                trace.note("directions", directions.into(), Source::Model);
                let owner = if own { "each layer" } else { "the first layer, for all" };
                trace.note("table", owner.into(), Source::Model);
                let scope = if own { Scope::Layer } else { Scope::Model };
                plain(sided.with_buckets(count, distance).with_scope(scope).into())
            }
            Scores::Deberta(version) => self.deberta(version, dims, trace),
            Scores::XlNet => {
                let clamp = self.node().number("clamp_len")?.filter(|x| *x >= 1.0);
                let mut method = XlNet::new();
                if let Some(clamp) = clamp {
                    method = method.with_clamp_len(clamp as usize);
                    trace.note("clamp_len", clamp.to_string(), self.source("clamp_len"));
                }
                plain(method.into())
            }
            Scores::Conformer(u, v, projection) => {
                trace.note("directions", "both".into(), Source::Model);
                plain(TransformerXl::conformer().with_names(u, v, projection).into())
            }
            Scores::Alibi => {
                trace.note("slopes", "BLOOM's".into(), Source::Model);
                plain(Alibi::new().into())
            }
            Scores::Mpt => self.mpt(dims, trace),
            Scores::Falcon => {
                // Slopes stand in bf16, and the sum of scores and biases is divided by √head_dim.
                let slopes = alibi_slopes(dims.heads).map_err(|error| self.setting(error))?;
                let root = (dims.head_dim as f64).sqrt();
                let slopes: Vec<f64> = slopes.into_iter().map(|m| bf16::from_f64(m).to_f64() / root).collect();
                trace.note("slopes", "BLOOM's in bf16, over √head_dim".into(), Source::Model);
                plain(Alibi::new().with_slopes(Slopes::Given(slopes)).into())
            }
            Scores::Pixels => {
                let key = "position_embedding_type";
                match self.node().text(key)?.unwrap_or("sine") {
                    "sine" | "v2" => {}
                    _ => {
                        return Err(ConfigError::NotExpressed {
                            model_type: model_type.into(),
                            reason: "a learned table of rows and one of columns stand side by side",
                        });
                    }
                }
                trace.note("layout", "row then column, each interleaved".into(), self.source(key));
                trace.note("normalisation", "counts over the size, times 2π".into(), Source::Model);
                plain(
                    Sinusoidal::detr()
                        .with_precision(Precision::Reference)
                        .added_to(AddTo::AttentionInputs)
                        .into(),
                )
            }
            Scores::Queries(key) => {
                let rows = self.needed(key, "the rows of the table of queries")?;
                trace.note("rows", rows.to_string(), self.source(key));
                if rows == 0 {
                    return Err(self.wrong(key, "0".into(), "at least one query"));
                }
                plain(InputTable::new(rows).with_scope(Scope::Model).into())
            }
            Scores::Keys(Span::Sides(left, right)) => {
                let before = self.needed(left, "the largest distance before the query")?;
                let after = self.needed(right, "the largest distance after the query")?;
                trace.note("max_distance", before.to_string(), self.source(left));
                trace.note("max_distance_after", after.to_string(), self.source(right));
                plain(Shaw::keys_only(before).with_max_after(after).into())
            }
        }
    }

    fn deberta(&self, version: u8, dims: Dims, trace: &mut Trace) -> Result<(Encoding, Option<f64>), ConfigError> {
        let node = self.node();
        let on = node.flag("relative_attention")?.unwrap_or(false);
        trace.note("relative_attention", on.to_string(), self.source("relative_attention"));
        if !on {
            return Ok((Encoding::none(), None));
        }
        let key = "max_relative_positions";
        // −1 says: as many as there are positions.
        let (distance, source) = match node.number(key)? {
            Some(x) if x >= 1.0 => (self.needed(key, "the largest distance")?, self.source(key)),
            _ => {
                let key = "max_position_embeddings";
                (self.needed(key, "the largest distance")?, self.source(key))
            }
        };
        trace.note("max_distance", distance.to_string(), source);
        let (c2p, p2c) = self.terms()?;
        trace.note("terms", format!("c2p {c2p}, p2c {p2c}"), self.source("pos_att_type"));
        let shared = version > 1 && node.flag("share_att_key")?.unwrap_or(false);
        let projections = match version {
            1 => DebertaProjections::V1,
            _ if shared => DebertaProjections::Shared,
            _ => DebertaProjections::V2,
        };
        let source = match self.says("share_att_key") && version > 1 {
            true => self.source("share_att_key"),
            false => Source::ClassDefault,
        };
        trace.note("projections", format!("{projections:?}"), source);
        let mut method = Deberta::new(distance, projections).with_terms(c2p, p2c);
        if version > 1
            && let Some(buckets) = node.number("position_buckets")?.filter(|x| *x >= 1.0)
        {
            trace.note("buckets", buckets.to_string(), self.source("position_buckets"));
            method = method.with_buckets(buckets as usize);
        }
        let scale = method.attention(dims.head_dim).scale;
        Ok((method.into(), scale))
    }

    /// `pos_att_type`: a list, or names with bars between them.
    fn terms(&self) -> Result<(bool, bool), ConfigError> {
        let key = "pos_att_type";
        let expected = "c2p, p2c or both, as a list or with | between them";
        let Some(value) = self.node().find(key) else {
            return Ok((false, false));
        };
        let names: Option<Vec<String>> = match value {
            Value::String(text) => Some(text.split('|').map(|name| name.trim().to_lowercase()).collect()),
            Value::Array(list) => list.iter().map(|name| name.as_str().map(str::to_lowercase)).collect(),
            _ => None,
        };
        let names = names.ok_or_else(|| self.wrong(key, shown(value), expected))?;
        if names.iter().any(|name| !["c2p", "p2c", ""].contains(&name.as_str())) {
            return Err(self.wrong(key, shown(value), expected));
        }
        let has = |name: &str| names.iter().any(|given| given == name);
        Ok((has("c2p"), has("p2c")))
    }

    fn mpt(&self, dims: Dims, trace: &mut Trace) -> Result<(Encoding, Option<f64>), ConfigError> {
        let node = self.node();
        let inner = node.object("attn_config")?;
        let (key, path) = ("alibi_bias_max", "attn_config.alibi_bias_max");
        let given = inner.as_ref().map(|inner| inner.number(key)).transpose()?.flatten();
        let bias_max = given.unwrap_or(8.0);
        let slopes = Slopes::Mpt { bias_max };
        slopes.for_heads(dims.heads).map_err(|error| self.setting(error))?;
        let source = match self.says("attn_config") && given.is_some() {
            true => Source::Key(node.path(path)),
            false => Source::ClassDefault,
        };
        trace.note("bias_max", bias_max.to_string(), source);
        Ok((Alibi::new().with_slopes(slopes).into(), None))
    }

    /// The attention of a layer.
    pub fn attention(
        &self,
        stack: &Stack,
        layer: usize,
        dims: Dims,
        trace: &mut Trace,
    ) -> Result<(Attention, Option<String>), ConfigError> {
        let mut attention = Attention::default();
        let node = self.node();
        let root = (dims.head_dim as f64).sqrt();
        let head = |trace: &mut Trace| trace.note("scale", format!("1/√{}", dims.head_dim), Source::Derived("1 / √head_dim".into()));
        match stack.scale {
            Scale::Head => head(trace),
            Scale::One => {
                attention.scale = Some(1.0);
                trace.note("scale", "1".into(), Source::Model);
            }
            Scale::HalfHead => {
                attention.scale = Some(1.0 / (dims.head_dim as f64 / 2.0).sqrt());
                trace.note("scale", format!("1/√({} / 2)", dims.head_dim), Source::Model);
            }
            Scale::Gpt2 => {
                let on = node.flag("scale_attn_weights")?.unwrap_or(true);
                let by_layer = node.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false);
                let mut scale = if on { 1.0 / root } else { 1.0 };
                if by_layer {
                    scale /= (layer + 1) as f64;
                }
                let shown = match (on, by_layer) {
                    (true, false) => format!("1/√{}", dims.head_dim),
                    (true, true) => format!("1/√{} / {}", dims.head_dim, layer + 1),
                    (false, true) => format!("1 / {}", layer + 1),
                    (false, false) => "1".into(),
                };
                if !on || by_layer {
                    attention.scale = Some(scale);
                }
                let key = if by_layer {
                    "scale_attn_by_inverse_layer_idx"
                } else {
                    "scale_attn_weights"
                };
                trace.note("scale", shown, self.source(key));
            }
            Scale::Mpt => {
                let inner = node.object("attn_config")?;
                match inner.as_ref().map(|inner| inner.number("softmax_scale")).transpose()?.flatten() {
                    Some(scale) => {
                        attention.scale = Some(scale);
                        trace.note("scale", scale.to_string(), Source::Key(node.path("attn_config.softmax_scale")));
                    }
                    None => head(trace),
                }
            }
        }
        if let Some(cap) = node.number("attn_logit_softcapping")? {
            attention.softcap = Some(cap);
            trace.note("softcap", cap.to_string(), self.source("attn_logit_softcapping"));
        }
        let kind = self.reach(stack.reach, layer, &mut attention, trace)?;
        attention.check().map_err(|error| self.setting(error))?;
        Ok((attention, kind))
    }

    /// Sets the window of a layer; its type, where the model has several.
    fn reach(&self, reach: Reach, layer: usize, attention: &mut Attention, trace: &mut Trace) -> Result<Option<String>, ConfigError> {
        let sides = |left: usize, right: usize| Window {
            left: Some(left),
            right: Some(right),
        };
        match reach {
            Reach::All => Ok(None),
            Reach::Radius => {
                let key = "local_radius";
                let radius = self.needed(key, "how far a layer sees")?;
                attention.window = Some(sides(radius, radius));
                trace.note("window", format!("{radius} keys on each side"), self.source(key));
                Ok(None)
            }
            Reach::Sliding => {
                let key = "sliding_window";
                if let Some(keys) = self.node().size(key)? {
                    attention.window = Some(Window::last(keys).map_err(|error| self.setting(error))?);
                    trace.note("window", format!("the last {keys} keys"), self.source(key));
                }
                Ok(None)
            }
            Reach::Sides(key) => {
                let value = self.node().find(key).ok_or_else(|| self.missing(key, "how far a layer sees"))?;
                let side = |index: usize| usize::try_from(value.get(layer)?.get(index)?.as_u64()?).ok();
                let (Some(left), Some(right)) = (side(0), side(1)) else {
                    return Err(self.wrong(key, shown(value), "a pair of whole numbers for each layer"));
                };
                attention.window = Some(sides(left, right));
                trace.note("window", format!("{left} keys before, {right} after"), self.source(key));
                Ok(None)
            }
            Reach::Longformer => {
                let key = "attention_window";
                let value = self.node().find(key).ok_or_else(|| self.missing(key, "how far a layer sees"))?;
                let number = match value {
                    Value::Array(list) => list.get(layer),
                    one => Some(one),
                };
                let width = number.and_then(Value::as_u64).and_then(|x| usize::try_from(x).ok());
                let Some(width) = width.filter(|x| *x > 0 && x.is_multiple_of(2)) else {
                    return Err(self.wrong(key, shown(value), "an even number above 0, or a list of one per layer"));
                };
                attention.window = Some(sides(width / 2, width / 2));
                trace.note("window", format!("{} keys on each side", width / 2), self.source(key));
                Ok(None)
            }
            Reach::Among(among) => Ok(Some(self.among(among, layer)?)),
            Reach::GptNeo => {
                let kind = self.gpt_neo_kind(layer)?;
                if kind == "local" {
                    let key = "window_size";
                    let keys = self.needed(key, "how far a local layer sees")?;
                    attention.window = Some(Window::last(keys).map_err(|_| self.wrong(key, keys.to_string(), "at least one key"))?);
                    trace.note("window", format!("the last {keys} keys"), self.source(key));
                }
                Ok(Some(kind))
            }
        }
    }

    /// The type of a layer among those of a state.
    fn among(&self, among: Among, layer: usize) -> Result<String, ConfigError> {
        const STATE: &str = "linear_attention";
        let node = self.node();
        for key in ["layer_types", "layers_block_type"] {
            if let Some(list) = node.list(key)? {
                let name = list.get(layer).and_then(Value::as_str);
                let name = name.ok_or_else(|| self.wrong(key, format!("a list of {}", list.len()), "a name for each layer"))?;
                return Ok(renamed(name).into());
            }
        }
        let kind = match among {
            Among::None => STATE,
            Among::Period {
                leading,
                period,
                offset,
                kind,
            } => {
                let period = node.size("attn_layer_period")?.unwrap_or(period).max(1);
                let offset = node.size("attn_layer_offset")?.unwrap_or(offset);
                match (leading.get(layer), layer.saturating_sub(leading.len()) % period == offset) {
                    (Some(leading), _) => leading,
                    (None, true) => kind,
                    (None, false) => STATE,
                }
            }
            Among::Numbered => {
                let inner = node.object("linear_attn_config")?;
                let numbers = inner.map(|inner| inner.numbers("full_attn_layers")).transpose()?.flatten();
                let attends = match numbers {
                    Some(numbers) => numbers.contains(&((layer + 1) as f64)),
                    None => layer > 0 && layer.is_multiple_of(4),
                };
                if attends { "full_attention" } else { STATE }
            }
            Among::Letters => {
                let key = "hybrid_override_pattern";
                match node.text(key)? {
                    Some(letters) => match letters.as_bytes().get(layer) {
                        Some(b'M') => STATE,
                        Some(b'*') => "full_attention",
                        Some(b'E') => "moe",
                        Some(b'-') => "mlp",
                        _ => return Err(self.wrong(key, format!("\"{letters}\""), "one of M, *, E and - for each layer")),
                    },
                    None => [STATE, "moe", "full_attention", "mlp"][layer % 4],
                }
            }
        };
        Ok(kind.into())
    }

    /// `global` or `local`.
    fn gpt_neo_kind(&self, layer: usize) -> Result<String, ConfigError> {
        let node = self.node();
        let of = |key: &str, value: &Value, name: Option<&str>| match name {
            Some(name @ ("global" | "local")) => Ok(name.to_string()),
            _ => Err(self.wrong(key, shown(value), "`global` or `local` for each layer")),
        };
        if let Some(value) = node.find("attention_layers") {
            return of("attention_layers", value, value.get(layer).and_then(Value::as_str));
        }
        let key = "attention_types";
        let Some(value) = node.find(key) else {
            return Ok(if layer.is_multiple_of(2) { "global" } else { "local" }.into());
        };
        // [[names, how often], …]
        let mut at = layer;
        for item in value.as_array().into_iter().flatten() {
            let names = item.get(0).and_then(Value::as_array);
            let times = item.get(1).and_then(Value::as_u64).and_then(|x| usize::try_from(x).ok());
            let (Some(names), Some(times)) = (names, times) else { break };
            let all = names.len().saturating_mul(times);
            if at < all {
                return of(key, value, names[at % names.len()].as_str());
            }
            at -= all;
        }
        of(key, value, None)
    }
}
