//! The set `encodings`: tables, buckets, biases, and attention with projected tables.

pub mod alibi;
mod relative;
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
        Some("deberta_log_bucket") => relative::buckets(record),
        Some("deberta_attention") => relative::deberta(record),
        Some("transformer_xl_attention") => relative::conformer(record),
        Some("xlnet_rel_encoding") => relative::xlnet(record),
        Some(kind) => skip(format!("kind `{kind}` is not known here")),
        None => skip("the record names no kind"),
    }
}
