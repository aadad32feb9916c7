//! What a comparison and a demonstration show to people, and pictures: every function here takes results or numbers and returns text, or pixels. Nothing is measured, read or written.
//!
//! - [`table::table`]: the answer and the verdicts for the terminal;
//! - [`html::report`]: `report.html`, one self-contained page with inline plots;
//! - [`command::command`]: the command that repeats a comparison;
//! - [`order::text`], [`rotary_bug::text`]: the demonstrations for the terminal;
//! - [`pictures`]: what `posenc show` draws;
//! - [`bench`]: measurements of speed, a line each.
//!
//! `results.csv` is the lab's own ([`posenc_lab::csv`]): it belongs to the folder.
//!
//! `answer` puts the verdicts into sentences and orders the encodings, `scaled` shows trained rotary models under scaling, `plots` turns results into charts, `svg` and `axis` draw a chart,
//! `words` writes numbers: the table and the page cannot disagree, because both say what these say.

pub mod answer;
mod axis;
pub mod bench;
pub mod command;
pub mod html;
pub mod order;
pub mod pictures;
mod plots;
pub mod rotary_bug;
mod scaled;
mod svg;
pub mod table;
pub mod words;

#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;
