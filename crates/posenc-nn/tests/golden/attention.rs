//! The set `attention`: modules of symm-learning and openlanguagemodel with inputs, outputs, averaged weights and gradients.

mod additive_pos;
mod olm;

use super::compare::Worst;
use super::set::{Outcome, Record, skip};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    match record.json["module"].as_str() {
        Some("AdditivePosMultiheadAttention") => additive_pos::check(record),
        Some("MultiHeadAttentionwithALiBi") => olm::alibi_attention(record),
        Some("AbsolutePositionalEmbedding") => olm::absolute(record),
        Some("RotaryPositionalEmbedding") => olm::rotary(record, 1.0),
        Some("PartialRotaryPositionalEmbedding") => olm::rotary(record, 0.5),
        Some(module @ ("AdditiveRelMultiheadAttention" | "RoPEMultiheadAttention")) => skip(format!("{module} comes with a later issue")),
        Some(module) => skip(format!("module `{module}` is not known here")),
        None => skip("the record names no module"),
    }
}
