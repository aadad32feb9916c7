//! What a comparison and a demonstration show to people: every function here takes the lab's results and returns text. Nothing is measured, read or written.
//!
//! - [`table::table`]: the answer and the verdicts for the terminal;
//! - [`html::report`]: `report.html`, one self-contained page with inline plots;
//! - [`command::command`]: the command that repeats a comparison;
//! - [`order::text`], [`rotary_bug::text`]: the demonstrations for the terminal.
//!
//! `results.csv` is the lab's own ([`posenc_lab::csv`]): it belongs to the folder.
//!
//! `answer` puts the verdicts into sentences and orders the encodings, `scaled` shows trained rotary models under scaling, `plots` turns results into charts, `svg` and `axis` draw a chart,
//! `words` writes numbers: the table and the page cannot disagree, because both say what these say.

pub mod answer;
mod axis;
pub mod command;
pub mod html;
pub mod order;
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
