//! The set `encodings`: tables, buckets and biases without projections.

pub mod alibi;
mod sinusoidal;
mod t5;

use super::compare::Worst;
use super::set::{Outcome, Record, skip};

/// Runs a record.
pub fn check(record: &Record<'_>) -> Outcome<Worst> {
    match record.json["kind"].as_str() {
        Some("sinusoidal") => sinusoidal::table(record),
        Some("sinusoidal_2d") => sinusoidal::grid(record),
        Some("t5_bucket") => t5::buckets(record),
        Some("t5_bias") => t5::bias(record),
        Some("alibi") => alibi::bloom(record),
        Some("alibi_mask") => alibi::bloom_padded(record),
        Some("alibi_mpt") => alibi::mpt(record),
        Some("alibi_symmetric") => alibi::symmetric(record),
        Some("deberta_log_bucket" | "deberta_attention") => skip("DeBERTa comes with a later issue"),
        Some("transformer_xl_attention") => skip("Transformer-XL comes with a later issue"),
        Some("xlnet_rel_encoding") => skip("XLNet comes with a later issue"),
        Some(kind) => skip(format!("kind `{kind}` is not known here")),
        None => skip("the record names no kind"),
    }
}
