//! Files of every format: what they say, that they say the same of the same model, and what hostile bytes may do.
#![cfg(feature = "config")]

mod ggml;
mod gguf;
mod hostile;
mod page;
mod params;
mod same;
mod write;

use posenc::config::{ConfigError, LayerPlan, Mode, ModelConfig, read};
use posenc::{Method, Rotary};
use serde_json::Value;

fn strict(bytes: &[u8]) -> Result<ModelConfig, ConfigError> {
    read(bytes, Mode::Strict)
}

fn lenient(bytes: &[u8]) -> ModelConfig {
    read(bytes, Mode::Lenient).unwrap_or_else(|error| panic!("{error}"))
}

fn json(file: &Value) -> Vec<u8> {
    file.to_string().into_bytes()
}

/// What a layer turns by, whether it does or not.
fn rotary(plan: &LayerPlan) -> &Rotary {
    plan.described.as_ref().unwrap()
}

/// The plan of a layer of the first part.
fn layer(model: &ModelConfig, index: usize) -> &LayerPlan {
    model.parts[0].layer(index).unwrap()
}

/// Which layers of the first part turn.
fn turning(model: &ModelConfig) -> Vec<bool> {
    let turns = |method: &Method| matches!(method, Method::Rotary(_));
    model.parts[0]
        .specs()
        .iter()
        .map(|spec| spec.encoding.methods.iter().any(turns))
        .collect()
}

fn source(plan: &LayerPlan, value: &str) -> String {
    plan.source(value).map(ToString::to_string).unwrap_or_default()
}
