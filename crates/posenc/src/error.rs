//! What can go wrong, with what was expected and what was given.
//!
//! Every function that returns an [`Error`] checks before it writes: on error no output was touched.

use std::fmt;

/// The result of everything that can refuse its input.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input was refused. On error no output was touched.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than its role asks for.
    Shape {
        /// The argument's name and axes, for example `q [batch, heads, seq, head_dim]`.
        what: &'static str,
        /// The shape its role asks for.
        expected: Vec<usize>,
        /// The shape that was given.
        given: Vec<usize>,
    },
    /// A slice is shorter than its shape and strides need.
    Storage {
        /// Elements that the shape and strides reach.
        needed: usize,
        /// Elements in the slice.
        given: usize,
    },
    /// The last axis of a view is not contiguous.
    LastAxisStrided {
        /// Its stride in elements.
        stride: usize,
    },
    /// Two elements of a mutable view share memory.
    Overlap {
        /// The view's shape.
        shape: Vec<usize>,
        /// Its strides in elements.
        strides: Vec<usize>,
    },
    /// A number that must not be zero is.
    Zero {
        /// Its name.
        what: &'static str,
    },
    /// A width that is split into pairs is odd.
    OddWidth {
        /// Its name.
        what: &'static str,
        /// The odd width.
        width: usize,
    },
    /// A number does not divide another.
    NotDivisible {
        /// The name of the number to be divided.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The name of the divisor.
        by: &'static str,
        /// The divisor's value.
        divisor: usize,
    },
    /// A setting lies outside its range.
    Invalid {
        /// The setting's name.
        what: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A position lies past the end of a learned table.
    PastTable {
        /// The position, with the table's offset added.
        position: i64,
        /// Row of the batch.
        batch: usize,
        /// Index of the token in its row.
        token: usize,
        /// Rows in the table.
        rows: usize,
    },
    /// A query and a key lie farther apart than their window is long.
    OutsideWindow {
        /// What is counted: rows or columns.
        axis: &'static str,
        /// How many of them the window has.
        side: usize,
    },
    /// A position is negative where a table row is asked for.
    Negative {
        /// The position.
        position: i64,
        /// Row of the batch.
        batch: usize,
        /// Index of the token in its row.
        token: usize,
    },
    /// A position is NaN or infinite.
    NonFinite {
        /// The value.
        value: f64,
        /// Flat index in what was given.
        index: usize,
    },
    /// A position has a fractional part where whole numbers are needed.
    Fractional {
        /// The value.
        value: f64,
        /// Flat index in what was given.
        index: usize,
    },
    /// A floating-point position is so large that its neighbours cannot be told apart.
    Imprecise {
        /// The value.
        value: f64,
        /// Flat index in what was given.
        index: usize,
        /// The largest magnitude at which the type still counts by one.
        limit: f64,
    },
    /// Two methods of one encoding both rotate queries and keys.
    TwoRotations {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// An encoding has the same method twice, or two whose parameters share a name.
    Repeated {
        /// The parameter's or method's name.
        name: String,
    },
    /// A parameter is missing from the store.
    MissingParameter {
        /// Its full name.
        name: String,
    },
    /// A parameter has another shape than the plan asks for.
    ParameterShape {
        /// Its full name.
        name: String,
        /// The shape the plan asks for.
        expected: Vec<usize>,
        /// The shape that was given.
        given: Vec<usize>,
    },
    /// A call waits for tables that its layer projects.
    MissingTables {
        /// Their names.
        tables: Vec<String>,
    },
    /// A distance lies past the end of a table.
    FarDistance {
        /// The distance, query − key.
        distance: i64,
        /// Row of the batch.
        batch: usize,
        /// Index of the query in its row.
        token: usize,
        /// Distances that the table has a row for, from 0.
        rows: usize,
    },
    /// A combination that the method does not define.
    Unsupported {
        /// Who refuses.
        method: &'static str,
        /// What is refused, and what to do instead.
        what: &'static str,
    },
    /// A name that is not known.
    UnknownName {
        /// What was looked for: `encoding`, `initialisation`, …
        kind: &'static str,
        /// What was given.
        given: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { what, expected, given } => write!(f, "{what}: expected shape {expected:?}, given {given:?}"),
            Error::Storage { needed, given } => write!(f, "the slice holds {given} elements; its shape and strides reach {needed}"),
            Error::LastAxisStrided { stride } => {
                write!(
                    f,
                    "the last axis has stride {stride}; make it contiguous (stride 1) before the call"
                )
            }
            Error::Overlap { shape, strides } => {
                write!(f, "a mutable view of shape {shape:?} with strides {strides:?} overlaps itself")
            }
            Error::Zero { what } => write!(f, "{what} is 0; it must be at least 1"),
            Error::OddWidth { what, width } => write!(f, "{what} is {width}; it is split into pairs and must be even"),
            Error::NotDivisible { what, value, by, divisor } => write!(
                f,
                "{what} = {value} is not divisible by {by} = {divisor}; choose a multiple of {divisor}"
            ),
            Error::Invalid { what, given, expected } => write!(f, "{what} = {given}; expected {expected}"),
            Error::PastTable {
                position,
                batch,
                token,
                rows,
            } => write!(
                f,
                "position {position} (batch row {batch}, token {token}) is past the learned table of {rows} rows; \
                 shorten the input, use a longer table, or name an overflow policy (clamp, wrap, interpolate)"
            ),
            Error::OutsideWindow { axis, side } => write!(
                f,
                "a query and a key lie {side} {axis} or more apart, in a window of {side}; give each window a row of the batch, with positions counted within it"
            ),
            Error::Negative { position, batch, token } => write!(
                f,
                "position {position} (batch row {batch}, token {token}) is negative; a learned table has rows from 0"
            ),
            Error::NonFinite { value, index } => write!(f, "position {value} at index {index} is not a finite number"),
            Error::Fractional { value, index } => write!(
                f,
                "position {value} at index {index} is not a whole number; round it, or ask for truncation as PyTorch does"
            ),
            Error::Imprecise { value, index, limit } => write!(
                f,
                "position {value} at index {index} is beyond {limit}: its type cannot tell it from its neighbour; pass integers"
            ),
            Error::MissingTables { tables } => write!(
                f,
                "this call waits for the projected tables {}; project `call.rows(table)` with the layer's weights (`plan.projections()`) and give them to `call.with_tables` before attention",
                tables.join(", ")
            ),
            Error::FarDistance {
                distance,
                batch,
                token,
                rows,
            } => write!(
                f,
                "a key lies {distance} before its query (batch row {batch}, token {token}), past the table of {rows} distances; shorten the input, use a longer table, or clamp distances"
            ),
            Error::TwoRotations { first, second } => write!(
                f,
                "an encoding rotates queries and keys once; given both `{first}` and `{second}`: remove one"
            ),
            Error::Repeated { name } => write!(f, "`{name}` appears twice in one encoding: remove one"),
            Error::MissingParameter { name } => {
                write!(
                    f,
                    "parameter `{name}` is not in the store; make it from the specs that the plan or module lists"
                )
            }
            Error::ParameterShape { name, expected, given } => {
                write!(f, "parameter `{name}`: expected shape {expected:?}, given {given:?}")
            }
            Error::Unsupported { method, what } => write!(f, "{method}: {what}"),
            Error::UnknownName {
                kind,
                given,
                nearest,
                known,
            } => {
                write!(f, "unknown {kind} `{given}`")?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean `{nearest}`?")?;
                }
                write!(f, "; known: {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// An [`Error::UnknownName`] that finds the nearest of `known` by edit distance.
    pub fn unknown_name<S: AsRef<str>>(kind: &'static str, given: &str, known: &[S]) -> Error {
        let nearest = known
            .iter()
            .map(|name| (edit_distance(&given.to_lowercase(), &name.as_ref().to_lowercase()), name.as_ref()))
            .min()
            // A name that shares less than half its letters is not a slip of the finger.
            .filter(|(distance, name)| *distance * 2 <= name.chars().count().max(given.chars().count()))
            .map(|(_, name)| name.to_string());
        Error::UnknownName {
            kind,
            given: given.to_string(),
            nearest,
            known: known.iter().map(|n| n.as_ref().to_string()).collect(),
        }
    }
}

/// Levenshtein's distance: insertions, deletions and substitutions that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_found_and_a_far_one_is_not_guessed() {
        let known = ["rotary", "alibi", "sinusoidal"];
        let Error::UnknownName { nearest, .. } = Error::unknown_name("encoding", "rotery", &known) else {
            panic!()
        };
        assert_eq!(nearest.as_deref(), Some("rotary"));
        let Error::UnknownName { nearest, .. } = Error::unknown_name("encoding", "xyzzy", &known) else {
            panic!()
        };
        assert_eq!(nearest, None);
    }

    #[test]
    fn edit_distance_counts_single_edits() {
        assert_eq!(edit_distance("alibi", "alibi"), 0);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
