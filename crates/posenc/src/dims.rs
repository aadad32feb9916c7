//! The widths that a plan is checked against.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Widths of the model that an encoding is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dims {
    /// Width of the residual stream.
    #[doc(alias = "embed_dim")]
    #[doc(alias = "d_model")]
    pub model_dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads` (grouped-query attention; 1 is multi-query attention).
    pub kv_heads: usize,
    /// Width of one query or key head.
    pub head_dim: usize,
}

impl Dims {
    /// The largest width, and the largest product of heads and their width: far past any model, so that no product of a plan overflows.
    pub const WIDEST: usize = 1 << 24;

    /// Multi-head attention that splits the model's width evenly.
    ///
    /// # Errors
    /// A width of zero, or heads that do not divide the width.
    ///
    /// ```
    /// let dims = posenc::Dims::new(64, 4)?;
    /// assert_eq!(dims.head_dim, 16);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn new(model_dim: usize, heads: usize) -> Result<Dims> {
        if heads == 0 {
            return Err(Error::Zero { what: "heads" });
        }
        if !model_dim.is_multiple_of(heads) {
            return Err(Error::NotDivisible {
                what: "model_dim",
                value: model_dim,
                by: "heads",
                divisor: heads,
            });
        }
        Dims {
            model_dim,
            heads,
            kv_heads: heads,
            head_dim: model_dim / heads,
        }
        .checked()
    }

    /// The same widths with fewer key and value heads.
    ///
    /// # Errors
    /// `kv_heads` is zero or does not divide the heads.
    pub fn with_kv_heads(self, kv_heads: usize) -> Result<Dims> {
        Dims { kv_heads, ..self }.checked()
    }

    /// The widths themselves if none is zero, none (nor `heads · head_dim`) is more than [`Dims::WIDEST`], and the key heads divide the query heads.
    pub fn checked(self) -> Result<Dims> {
        for (what, value) in [
            ("model_dim", self.model_dim),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
        ] {
            if value == 0 {
                return Err(Error::Zero { what });
            }
            check_width(what, value)?;
        }
        check_width("heads · head_dim", self.heads * self.head_dim)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::NotDivisible {
                what: "heads",
                value: self.heads,
                by: "kv_heads",
                divisor: self.kv_heads,
            });
        }
        Ok(self)
    }
}

/// A width that a plan can work with.
pub(crate) fn check_width(what: &'static str, width: usize) -> Result<()> {
    if width > Dims::WIDEST {
        return Err(Error::Invalid {
            what,
            given: width.to_string(),
            expected: "at most 2^24",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_past_any_model_are_refused_by_name() {
        for (model_dim, heads, name) in [
            (usize::MAX - 1, 2, "model_dim"),
            (1 << 40, 1, "model_dim"),
            (Dims::WIDEST + 1, 1, "model_dim"),
        ] {
            assert!(matches!(Dims::new(model_dim, heads), Err(Error::Invalid { what, .. }) if what == name));
        }
        assert!(Dims::new(Dims::WIDEST, 1).is_ok());
        let dims = Dims::new(Dims::WIDEST, 1 << 12).unwrap();
        let wide = Dims { head_dim: 1 << 13, ..dims };
        assert!(matches!(
            wide.checked(),
            Err(Error::Invalid {
                what: "heads · head_dim",
                ..
            })
        ));
        let many = Dims {
            heads: usize::MAX,
            head_dim: usize::MAX,
            ..dims
        };
        assert!(matches!(many.checked(), Err(Error::Invalid { what: "heads", .. })));
    }
}
