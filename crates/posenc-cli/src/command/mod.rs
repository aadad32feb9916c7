//! One file per subcommand: from its arguments to a call of the library to text.

pub mod compare;
