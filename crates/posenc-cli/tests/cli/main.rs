//! The real binary, as a person or a script runs it: what it prints, what it leaves on disk, how it ends. One temporary folder per test.

mod bench;
mod compare;
mod demo;
mod explain;
mod extend;
mod input;
mod list;
mod model;
mod ran;
mod resume;
mod show;
mod usage;
