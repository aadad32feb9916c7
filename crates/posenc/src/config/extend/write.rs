//! The keys of a scaling, written into a text, and read again.

use super::spans::{Edits, Layout, Member, Spanned, number, quoted};
use super::{By, Change, ExtendError, Extension};
use crate::attention::Attention;
use crate::config::rope::BETA;
use crate::config::{LayerPlan, ModelConfig, Part, Source, read, registry};
use crate::rotate::{Rotary, Scaling};

/// Keys of a dictionary that belong to its scaling, and go with it.
const OF_SCALING: [&str; 16] = [
    "factor",
    "original_max_position_embeddings",
    "max_position_embeddings",
    "attention_factor",
    "attn_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "alpha",
    "finetuned",
];
/// Those that stay where YaRN gives way to YaRN.
const OF_YARN: [&str; 6] = ["beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "attn_factor"];
/// Where a new key goes: behind the first of these.
const BESIDE: [&str; 5] = [
    "rope_scaling",
    "rope_theta",
    "rotary_emb_base",
    "max_position_embeddings",
    "n_positions",
];

/// A number as this library's reader reads it from how it is written.
pub(super) fn as_read(x: f64) -> f64 {
    serde_json::from_str(&number(x)).unwrap_or(x)
}

/// Two texts of a value say the same.
fn same(one: &str, other: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<f64>> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        match value.as_array() {
            Some(list) => list.iter().map(serde_json::Value::as_f64).collect(),
            None => Some(vec![value.as_f64()?]),
        }
    };
    numbers(one).is_some_and(|one| numbers(other) == Some(one))
}

/// Classes of transformers 5.23.0 whose modules make their own tables and read no scaling, or refuse any: found by looking for its table of scalings in each modeling file, and by making a
/// configuration of each type with each scaling.
const NONE: [&str; 6] = [
    "cosmos3_edge_text",
    "ernie4_5_vl_moe_text",
    "recurrent_gemma",
    "seamless_m4t",
    "wav2vec2-bert",
    "wav2vec2-conformer",
];
/// Those whose base, 10 000, is written in their code.
const FIXED: [&str; 4] = ["clvp_encoder", "codegen", "esm", "gptj"];
/// Those that take LongRoPE alone, and read YaRN as LongRoPE or refuse it.
const LONGROPE: [&str; 3] = ["phi3", "phi4_multimodal", "phimoe"];

/// What a model's class does not take.
pub(super) fn check_class(model_type: &str, by: &By) -> Result<(), ExtendError> {
    let refused = |takes| {
        Err(ExtendError::NotTaken {
            model_type: model_type.into(),
            method: by.name(),
            takes,
        })
    };
    match by {
        _ if FIXED.contains(&model_type) => refused("its base and its frequencies are written in its code"),
        // A larger base is no scaling.
        By::Ntk => Ok(()),
        By::Longrope { .. } if LONGROPE.contains(&model_type) => Ok(()),
        _ if LONGROPE.contains(&model_type) => refused("it takes longrope alone (and ntk, which is a larger base)"),
        _ if NONE.contains(&model_type) => refused("its base is read from the file, so ntk, a larger base, is"),
        _ => Ok(()),
    }
}

/// A file that was written.
pub(super) struct Written {
    pub text: String,
    pub changes: Vec<Change>,
    pub after: ModelConfig,
}

/// What is asked, with what follows from it.
struct Asked<'e> {
    extension: &'e Extension,
    original: usize,
    factor: f64,
}

/// One text in the making.
struct Page<'t> {
    text: &'t str,
    node: &'t Spanned,
    path: &'t str,
    layout: Layout,
    edits: Edits,
    /// Members of an object that had none.
    fresh: Vec<(String, String)>,
    changes: Vec<Change>,
}

/// Writes what was wanted in the first place where it is read as that.
pub(super) fn write(
    text: &str,
    root: &Spanned,
    part: &Part,
    wanted: &[(usize, Rotary)],
    extension: &Extension,
    original: usize,
    factor: f64,
) -> Result<Written, ExtendError> {
    let no_place = |reason: String| ExtendError::NoPlace {
        model_type: part.model_type.clone(),
        reason,
    };
    // A class can make a part of its own.
    let node = root
        .object(&part.path)
        .ok_or_else(|| no_place(format!("it leaves `{}` to its class: write `\"{0}\": {{}}` into it", part.path)))?;
    let page = || Page {
        text,
        node,
        path: &part.path,
        layout: Layout::of(text, root),
        edits: Edits::default(),
        fresh: Vec::new(),
        changes: Vec::new(),
    };
    let asked = Asked {
        extension,
        original,
        factor,
    };
    let mut refusal = None;
    // A class with a dictionary for each layer type reads one for all only where it says which of them it scales.
    let own_types = part.plans.iter().any(|plan| plan.dictionary.is_some());
    let flat_first = !own_types || registry::find(&part.model_type).is_some_and(|model| !model.flat_scales.is_empty());
    for by_type in [!flat_first, flat_first] {
        let mut page = page();
        if !page.dictionaries(part, wanted, &asked, by_type) {
            continue;
        }
        page.head_dim(part, wanted, &extension.by);
        page.lengths(part, extension, original);
        page.filled();
        let new = page.edits.applied(text);
        // What cannot be read is no candidate; why the first could not is the reason.
        match read(new.as_bytes(), extension.mode).map_err(|error| error.to_string()) {
            Ok(after) => match agrees(part, &after, wanted) {
                Ok(()) => {
                    return Ok(Written {
                        text: new,
                        changes: page.changes,
                        after,
                    });
                }
                Err(reason) => refusal = refusal.or(Some(reason)),
            },
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(no_place(refusal.unwrap_or_else(|| {
        "its rotary settings stand where no key of a scaling can".into()
    })))
}

/// What was read again is what was wanted, layer by layer.
fn agrees(before: &Part, after: &ModelConfig, wanted: &[(usize, Rotary)]) -> Result<(), String> {
    let Some(after) = after.parts.iter().find(|part| part.path == before.path) else {
        return Err("its language model is not found again".into());
    };
    let plan_of = |part: &Part, layer: usize| -> Option<usize> {
        match part.layers.is_empty() {
            true => (layer < part.plans.len()).then_some(layer),
            false => part.layers.get(layer).copied(),
        }
    };
    let count = if before.layers.is_empty() {
        before.plans.len()
    } else {
        before.layers.len()
    };
    for layer in 0..count {
        let (Some(old), Some(new)) = (plan_of(before, layer), plan_of(after, layer)) else {
            return Err(format!("layer {layer} is not found again"));
        };
        let (old_plan, new_plan) = (&before.plans[old], &after.plans[new]);
        // A temperature can read a key of the scaling. The softmax scale may change with YaRN's magnitude.
        let beside = |plan: &LayerPlan| Attention {
            scale: None,
            ..plan.spec.attention.clone()
        };
        let (was, is) = (beside(old_plan), beside(new_plan));
        if was != is {
            return Err(format!(
                "layer {layer} would no longer have the window, chunk or temperature that it has: {is:?} in place of {was:?}"
            ));
        }
        if old_plan.spec.encoding.methods.is_empty() && new_plan.spec.encoding.methods.is_empty() {
            continue;
        }
        let expected = wanted.iter().find(|(i, _)| *i == old).map(|(_, rotary)| rotary);
        let expected = expected.or(old_plan.described.as_ref());
        if new_plan.described.as_ref() != expected {
            let shown = |rotary: Option<&Rotary>| rotary.map_or_else(|| "none".into(), ToString::to_string);
            return Err(format!(
                "layer {layer} would have {} where {} was asked for",
                shown(new_plan.described.as_ref()),
                shown(expected)
            ));
        }
    }
    Ok(())
}

impl Page<'_> {
    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// How deep the members of this part's object stand.
    fn depth(&self) -> usize {
        1 + self.path.split('.').filter(|key| !key.is_empty()).count()
    }

    fn raw(&self, value: &Spanned) -> String {
        self.text[value.at.clone()].into()
    }

    /// Writes a value of this part's object, in its place or beside what it belongs to.
    fn set(&mut self, key: &str, value: String) {
        let before = self.node.get(key);
        if before.is_some_and(|old| self.raw(old) == value) {
            return;
        }
        self.changes.push(Change {
            key: self.full(key),
            before: before.map(|old| self.raw(old)),
            after: Some(value.clone()),
        });
        if let Some(old) = before {
            self.edits.replace(old.at.clone(), value);
            return;
        }
        let between = self.layout.between(self.depth());
        let anchor = BESIDE.iter().find_map(|key| self.node.get(key));
        match anchor.or(self.node.members.last().map(|member| &member.value)) {
            Some(anchor) => {
                let end = anchor.at.end;
                self.edits.replace(end..end, format!(",{between}{}: {value}", quoted(key)));
            }
            None => self.fresh.push((key.into(), value)),
        }
    }

    /// Writes the members of an object that had none.
    fn filled(&mut self) {
        if !self.fresh.is_empty() {
            let object = self.layout.object(&self.fresh, self.depth());
            self.edits.replace(self.node.at.clone(), object);
        }
    }

    /// A dictionary with this scaling in place of its own; `depth` is its members'.
    fn scaled(&self, old: Option<&Spanned>, rotary: &Rotary, asked: &Asked<'_>, theta: Option<f64>, depth: usize) -> Vec<(String, String)> {
        let Asked {
            extension,
            original,
            factor,
        } = *asked;
        let name = match rotary.scaling {
            Scaling::Proportional { .. } => "proportional",
            Scaling::Unscaled => "default",
            _ => extension.by.name(),
        };
        let is_yarn = |dictionary: &Spanned| {
            let named = |key| dictionary.get(key).is_some_and(|value| self.raw(value).contains("yarn"));
            named("rope_type") || named("type")
        };
        let stays = |dictionary: &Spanned, key: &str| {
            let of_temperature = key == "original_max_position_embeddings" && dictionary.get(BETA).is_some();
            !OF_SCALING.contains(&key) || of_temperature || (extension.by == By::Yarn && is_yarn(dictionary) && OF_YARN.contains(&key))
        };
        let mut new: Vec<(&str, String)> = theta.map(|theta| ("rope_theta", number(theta))).into_iter().collect();
        if rotary.scaling != Scaling::Unscaled {
            new.push(("factor", number(factor)));
        }
        let original = ("original_max_position_embeddings", original.to_string());
        match &rotary.scaling {
            Scaling::Yarn(_) => new.push(original),
            Scaling::Llama3 {
                low_freq_factor,
                high_freq_factor,
                ..
            } => new.extend([
                ("low_freq_factor", number(*low_freq_factor)),
                ("high_freq_factor", number(*high_freq_factor)),
                original,
            ]),
            Scaling::Longrope(long) => {
                let list = |numbers: &[f64]| self.layout.list(numbers, depth + 1);
                new.extend([
                    ("short_factor", list(&long.short_factor)),
                    ("long_factor", list(&long.long_factor)),
                    original,
                ]);
            }
            _ => {}
        }
        let mut members: Vec<(String, String)> = Vec::new();
        for member in old.into_iter().flat_map(|old| &old.members) {
            let raw = self.raw(&member.value);
            let value = if ["rope_type", "type"].contains(&member.key.as_str()) {
                quoted(name)
            } else if let Some(at) = new.iter().position(|(key, _)| *key == member.key) {
                // What says the same stays as it is written.
                let (_, value) = new.remove(at);
                if same(&raw, &value) { raw } else { value }
            } else if old.is_some_and(|old| stays(old, &member.key)) {
                raw
            } else {
                continue;
            };
            members.push((member.key.clone(), value));
        }
        if !members.iter().any(|(key, _)| key == "rope_type" || key == "type") {
            members.insert(0, ("rope_type".into(), quoted(name)));
        }
        members.extend(new.into_iter().map(|(key, value)| (key.to_string(), value)));
        members
    }

    /// The dictionaries that the file has: those keys whose value is an object that says something.
    fn given(&self) -> Vec<(&'static str, &Spanned)> {
        ["rope_scaling", "rope_parameters"]
            .into_iter()
            .filter_map(|key| Some((key, self.node.get(key).filter(|value| !value.members.is_empty())?)))
            .collect()
    }

    /// Writes the scaling into the file's own dictionaries, or into one for all layers, or (`by_type`) into one for each layer type; `false` where that cannot be.
    fn dictionaries(&mut self, part: &Part, wanted: &[(usize, Rotary)], asked: &Asked<'_>, by_type: bool) -> bool {
        let depth = self.depth() + 1;
        let given: Vec<(&'static str, Spanned)> = self.given().into_iter().map(|(key, value)| (key, value.clone())).collect();
        let Some((first_plan, first)) = wanted.first() else { return false };
        let larger_base = asked.extension.by == By::Ntk;
        let label = |i: usize| part.plans[i].dictionary.as_deref();
        let is_object = |member: &Member| !member.value.members.is_empty() || self.raw(&member.value) == "null";
        if given.iter().any(|(_, value)| value.members.iter().all(is_object)) {
            // The file's own dictionary of each layer type that is extended; there is one way.
            let mut done: Vec<&str> = Vec::new();
            for (i, rotary) in wanted {
                let Some(label) = label(*i).filter(|label| !done.contains(label)) else {
                    continue;
                };
                done.push(label);
                for (key, value) in &given {
                    let Some(old) = value.get(label) else { return false };
                    let members = self.scaled(Some(old), rotary, asked, larger_base.then_some(rotary.base), depth + 1);
                    let new = self.layout.object(&members, depth + 1);
                    self.replace(&format!("{key}.{label}"), old, new);
                }
            }
            return !done.is_empty();
        }
        if !by_type {
            let base = part.plans[*first_plan].source("base");
            let mut inside = larger_base && given.iter().any(|(key, _)| *key == "rope_parameters");
            if larger_base {
                match base {
                    Some(Source::Key(path)) => {
                        let key = path.strip_prefix(&format!("{}.", part.path)).unwrap_or(path);
                        inside = key.contains('.');
                        if !inside && self.node.get(key).is_none() {
                            // A list of one per layer.
                            return false;
                        }
                        if !inside {
                            self.set(key, number(first.base));
                        }
                    }
                    _ if !inside => self.set("rope_theta", number(first.base)),
                    _ => {}
                }
            } else if given.is_empty() {
                // An empty one is filled, whatever its name.
                let key = match self.node.get("rope_parameters") {
                    Some(_) => "rope_parameters",
                    None => "rope_scaling",
                };
                let members = self.scaled(None, first, asked, None, depth);
                self.set(key, self.layout.object(&members, depth));
            }
            for (key, old) in &given {
                let is_scaled = old.members.iter().any(|member| OF_SCALING.contains(&member.key.as_str()));
                if larger_base && !inside && !is_scaled {
                    continue;
                }
                let members = self.scaled(Some(old), first, asked, inside.then_some(first.base), depth);
                self.set(key, self.layout.object(&members, depth));
            }
            return true;
        }
        // One for each layer type, in place of one for all.
        let mut labels: Vec<(&str, &Rotary)> = Vec::new();
        for plan in &part.plans {
            if let (Some(label), Some(described)) = (plan.dictionary.as_deref(), &plan.described)
                && !labels.iter().any(|(known, _)| *known == label)
            {
                labels.push((label, described));
            }
        }
        let flat = given.first().map(|(_, value)| value);
        let written: Vec<(String, String)> = labels
            .iter()
            .map(|(name, described)| {
                let own = wanted.iter().find(|(i, _)| label(*i) == Some(name)).map(|(_, rotary)| rotary);
                let (old, rotary) = match own {
                    Some(rotary) => (flat, rotary),
                    // What a dictionary for all did not scale, none scales.
                    None => (flat.filter(|_| described.scaling != Scaling::Unscaled), *described),
                };
                let members = self.scaled(old, rotary, asked, Some(rotary.base), depth + 1);
                ((*name).to_string(), self.layout.object(&members, depth + 1))
            })
            .collect();
        if self.node.get("rope_scaling").is_some() {
            self.set("rope_scaling", "null".into());
        }
        self.set("rope_parameters", self.layout.object(&written, depth));
        !labels.is_empty()
    }

    /// transformers takes `head_dim: null` for a width under these methods, and fails: the width goes into the file. Some classes have that null by themselves.
    fn head_dim(&mut self, part: &Part, wanted: &[(usize, Rotary)], by: &By) {
        const NULL: [&str; 6] = [
            "hunyuan_v1_dense",
            "hunyuan_v1_moe",
            "hunyuan_vl_text",
            "minimax",
            "ministral",
            "mixtral",
        ];
        let Some((first, _)) = wanted.first() else { return };
        let missing = match self.node.get("head_dim") {
            Some(value) => self.raw(value) == "null",
            None => NULL.contains(&part.model_type.as_str()),
        };
        let looks = matches!(by, By::Dynamic | By::Yarn | By::Longrope { .. });
        if looks && missing && self.node.get("qk_rope_head_dim").is_none() {
            self.set("head_dim", part.plans[*first].dims.head_dim.to_string());
        }
    }

    /// A value inside this part's object, in its place.
    fn replace(&mut self, key: &str, old: &Spanned, new: String) {
        self.changes.push(Change {
            key: self.full(key),
            before: Some(self.raw(old)),
            after: Some(new.clone()),
        });
        self.edits.replace(old.at.clone(), new);
    }

    /// The length that the file names, where the method does not count from it.
    fn lengths(&mut self, part: &Part, extension: &Extension, original: usize) {
        let keeps = matches!(extension.by, By::Linear | By::Dynamic);
        let length = if keeps { original } else { extension.to };
        let key = match &part.max_len_source {
            Some(Source::Key(path)) => path.strip_prefix(&format!("{}.", part.path)).unwrap_or(path).to_string(),
            _ => "max_position_embeddings".into(),
        };
        if part.max_len != Some(length) {
            self.set(&key, length.to_string());
        }
        let beside = "original_max_position_embeddings";
        if self.node.get(beside).is_some() && !keeps {
            self.set(beside, original.to_string());
        }
    }
}
