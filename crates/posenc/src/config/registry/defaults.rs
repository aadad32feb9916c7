//! What the classes leave unsaid about sizes, windows, scales and patterns: `defaults.txt`, written by `golden/config/hf_defaults.py` from transformers 5.23.0.
//!
//! A line is a model type and an object; only the line that is asked for is parsed.

use serde_json::{Map, Value};

static LINES: &str = include_str!("defaults.txt");

/// A class's fields with a default.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Defaults {
    pub fields: Map<String, Value>,
    /// Other names of a field and its own.
    pub names: Vec<(String, String)>,
    parts: Map<String, Value>,
}

/// What is known of a part that a file leaves out.
pub(in super::super) struct Absent {
    pub model_type: String,
    /// What differs from this type's own defaults.
    pub changes: Map<String, Value>,
}

pub(in super::super) fn defaults(model_type: &str) -> Defaults {
    let line = LINES
        .lines()
        .find_map(|line| line.strip_prefix(model_type)?.strip_prefix(' '))
        .and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    let Some(mut fields) = line else { return Defaults::default() };
    let object = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let names = object(fields.remove("@"));
    let parts = object(fields.remove("&"));
    Defaults {
        names: names.into_iter().filter_map(|(k, v)| Some((k, v.as_str()?.to_string()))).collect(),
        fields,
        parts,
    }
}

impl Defaults {
    /// The model type of a part whose object does not say it.
    pub fn implied(&self, key: &str) -> Option<&str> {
        match self.parts.get(key)? {
            Value::String(name) => Some(name),
            part => part.get("empty")?.as_str(),
        }
    }

    /// The part that the class makes where a file has none.
    pub fn absent(&self, key: &str) -> Option<Absent> {
        let (model_type, changes) = match self.parts.get(key)? {
            Value::String(name) => (name.clone(), Map::new()),
            part => (
                part.get("absent")?.as_str()?.to_string(),
                part.get("changes").and_then(Value::as_object).cloned().unwrap_or_default(),
            ),
        };
        Some(Absent { model_type, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_object_under_a_name_that_stands_once() {
        let mut names: Vec<&str> = Vec::new();
        for line in LINES.lines() {
            let (name, json) = line.split_once(' ').unwrap();
            let map: Map<String, Value> = serde_json::from_str(json).unwrap();
            assert!(!map.is_empty() && !names.contains(&name), "{name}");
            names.push(name);
        }
        assert!(names.len() > 300);
        let gemma = defaults("gemma3_text");
        assert_eq!(
            (gemma.fields["num_attention_heads"].as_u64(), gemma.fields["head_dim"].as_u64()),
            (Some(8), Some(256))
        );
        assert_eq!(defaults("gptj").names.iter().find(|(k, _)| k == "hidden_size").unwrap().1, "n_embd");
        assert_eq!(defaults("llava").implied("text_config"), Some("llama"));
        assert_eq!(defaults("llava").absent("vision_config").unwrap().changes["num_hidden_layers"], 24);
        assert!(defaults("no such type").fields.is_empty());
    }
}
