//! The command `posenc`.

#[cfg_attr(not(test), expect(dead_code, reason = "`compare`, which calls it, is written next"))]
mod export;

fn main() {}
