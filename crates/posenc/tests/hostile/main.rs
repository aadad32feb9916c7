//! Input that no model has and every library is given once: strides that overlap or leave their slice, axes of no length beside axes of any, lengths near the ends of their types, positions that
//! have no answer, numbers that are none, sizes that no memory holds. Each is an answer or a typed error; an error has written nothing, and nothing ends the process or runs without end.

mod adding;
mod attention;
mod biases;
mod memory;
mod numbers;
mod positions;
mod rotation;
mod views;

use posenc::{Dims, Encoding, Params, Plan, Real};

/// What poisons a destination that must stay as it is.
const UNTOUCHED: f32 = -77.0;

/// Lengths beside an axis of no length: products of two of them overflow, and a loop over one of them never ends.
const ANY_LENGTH: [usize; 4] = [0, 1, 1 << 40, usize::MAX];

/// Runs something on a poisoned destination: it is refused, and the destination is as it was.
#[track_caller]
fn refused<E: std::error::Error>(what: &str, len: usize, run: impl FnOnce(&mut [f32]) -> Result<(), E>) -> E {
    let mut destination = vec![UNTOUCHED; len];
    let error = match run(&mut destination) {
        Ok(()) => panic!("{what} was taken"),
        Err(error) => error,
    };
    assert!(
        destination.iter().all(|x| *x == UNTOUCHED),
        "{what} wrote before it refused: {error}"
    );
    assert!(!error.to_string().is_empty());
    error
}

/// A plan of two heads of four in a model of eight, and its parameters.
fn planned<R: Real>(encoding: impl Into<Encoding>) -> (Plan, Params<R>) {
    let plan = encoding.into().plan(Dims::new(8, 2).unwrap()).unwrap();
    let params = plan.init(1).unwrap();
    (plan, params)
}
