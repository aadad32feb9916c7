//! What attention reads, and where its gradients go.

use super::projections::Role;
use crate::error::Result;
use crate::number::Number;
use crate::shape::size;
use posenc::Error;
use std::borrow::Cow;

/// The streams that attention reads, each `[batch, seq, width]`.
#[derive(Clone, Copy, Debug)]
pub enum Streams<'a, R> {
    /// Queries, keys and values of one stream.
    Same(&'a [R]),
    /// A stream each; keys and values have the same length.
    Apart {
        /// What asks.
        query: &'a [R],
        /// What is compared.
        key: &'a [R],
        /// What is summed.
        value: &'a [R],
    },
}

/// Where the gradients of the streams are written.
#[derive(Debug)]
pub enum StreamGrads<'a, R> {
    /// The sum over all three uses of one stream.
    Same(&'a mut [R]),
    /// One each.
    Apart {
        /// Of the query stream.
        query: &'a mut [R],
        /// Of the key stream.
        key: &'a mut [R],
        /// Of the value stream.
        value: &'a mut [R],
    },
}

/// Streams that may have been converted.
pub(crate) enum WideStreams<'a, S: Clone> {
    Same(Cow<'a, [S]>),
    Apart([Cow<'a, [S]>; 3]),
}

impl<S: Clone> WideStreams<'_, S> {
    pub(crate) fn streams(&self) -> Streams<'_, S> {
        match self {
            WideStreams::Same(x) => Streams::Same(x),
            WideStreams::Apart([query, key, value]) => Streams::Apart { query, key, value },
        }
    }
}

impl<'a, R> Streams<'a, R> {
    /// Each stream in another precision.
    pub(crate) fn map<S: Clone>(self, wide: impl Fn(&'a [R]) -> Cow<'a, [S]>) -> WideStreams<'a, S> {
        match self {
            Streams::Same(x) => WideStreams::Same(wide(x)),
            Streams::Apart { query, key, value } => WideStreams::Apart([wide(query), wide(key), wide(value)]),
        }
    }

    pub(super) fn all(&self) -> [&'a [R]; 3] {
        match self {
            Streams::Same(x) => [x; 3],
            Streams::Apart { query, key, value } => [query, key, value],
        }
    }

    pub(super) fn of(&self, role: Role) -> &'a [R] {
        self.all()[role as usize]
    }
}

impl<R: Number> StreamGrads<'_, R> {
    pub(super) fn check(&self, streams: &Streams<'_, R>) -> Result<()> {
        const WHAT: [&str; 3] = [
            "d_query [batch, seq, width]",
            "d_key [batch, seq, width]",
            "d_value [batch, seq, width]",
        ];
        if let (StreamGrads::Same(_), Streams::Apart { .. }) = (self, streams) {
            return Err(Error::Unsupported {
                method: "StreamGrads::Same",
                what: "it takes the sum over one stream's three uses, and these streams are apart; give StreamGrads::Apart",
            }
            .into());
        }
        let given = match self {
            StreamGrads::Same(x) => [x.len(); 3],
            StreamGrads::Apart { query, key, value } => [query.len(), key.len(), value.len()],
        };
        for ((what, given), stream) in WHAT.into_iter().zip(given).zip(streams.all()) {
            size(what, given, &[stream.len()])?;
        }
        Ok(())
    }
}
