//! The set `attention`: modules of symm-learning and openlanguagemodel with inputs, outputs, averaged weights and gradients.

mod olm;
mod symm_learning;

use super::compare::Worst;
use super::set::{Outcome, Record, skip};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    match record.json["module"].as_str() {
        Some("AdditivePosMultiheadAttention") => symm_learning::additive_pos(record),
        Some("AdditiveRelMultiheadAttention") => symm_learning::additive_rel(record),
        Some("RoPEMultiheadAttention") => symm_learning::rope(record),
        Some("MultiHeadAttentionwithALiBi") => olm::alibi_attention(record),
        Some("AbsolutePositionalEmbedding") => olm::absolute(record),
        Some("RotaryPositionalEmbedding") => olm::rotary(record, 1.0),
        Some("PartialRotaryPositionalEmbedding") => olm::rotary(record, 0.5),
        Some(module) => skip(format!("module `{module}` is not known here")),
        None => skip("the record names no module"),
    }
}
