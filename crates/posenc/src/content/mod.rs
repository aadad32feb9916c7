//! Methods that read queries and keys.
