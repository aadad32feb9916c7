//! Adding tables at their sites, and the adjoint: rows shared by the caller's pool, the same bits for any number of threads.

use super::{Call, Site};
use crate::dropout::Mode;
use crate::embed::Addend;
use crate::error::{Error, Result};
use crate::kernels::{Present, RowsMut, share_rows};
use crate::memory;
use crate::params::Params;
use crate::real::{Element, Real};
use crate::view::{View, ViewMut};

impl<'p, R: Real> Call<'p, R> {
    /// `x += table rows` at a site of the model's width, `[batch, seq, model_dim]`, then dropout of the sum where the method names one.
    ///
    /// # Errors
    /// A shape that does not fit the call, a site of another rank, or a table that is concatenated ([`Call::embed`] does that).
    #[doc(alias = "forward")]
    pub fn add<T: Element<Real = R>>(&self, site: Site, x: ViewMut<'_, T, 3>, mode: Mode) -> Result<()> {
        let [batch, len, width] = x.shape();
        self.check_rows(site, 3, batch, len)?;
        self.check_widths(site, width)?;
        if x.is_empty() {
            return Ok(());
        }
        let on = Present::current();
        share_rows(x.with_one_head(), self.row_bytes(site), |mut x| {
            self.addends(site).for_each(|addend| addend.add(on, &mut x));
            self.drop_out(site, &mut x, mode);
        });
        Ok(())
    }

    /// The adjoint of [`Call::add`]: turns `dx` from the gradient of the sum into that of `x`, and adds the tables' gradients to `grads`, a store of the layout
    /// of the parameters that the call was made with.
    ///
    /// # Errors
    /// As [`Call::add`], or a parameter that is missing from `grads`.
    pub fn add_adjoint<T: Element<Real = R>>(
        &self,
        site: Site,
        mut dx: ViewMut<'_, T, 3>,
        mode: Mode,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let [batch, len, width] = dx.shape();
        self.check_rows(site, 3, batch, len)?;
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        self.check_widths(site, width)?;
        for addend in self.addends(site) {
            addend.gradient(&mut grads)?;
        }
        if dx.is_empty() {
            return Ok(());
        }
        self.drop_out_of(site, dx.reborrow(), mode);
        for addend in self.addends(site) {
            if let Some(into) = addend.gradient(&mut grads)? {
                addend.scatter(dx.as_view().with_one_head(), into);
            }
        }
        Ok(())
    }

    /// `x += table rows` at a projected site, `[batch, heads, seq, head_dim]`: each head takes its own columns of the row.
    ///
    /// # Errors
    /// A shape that does not fit the call.
    pub fn add_heads<T: Element<Real = R>>(&self, site: Site, x: ViewMut<'_, T, 4>) -> Result<()> {
        let [batch, heads, len, head_dim] = x.shape();
        self.check_rows(site, 4, batch, len)?;
        self.check_widths(site, heads.saturating_mul(head_dim))?;
        if x.is_empty() {
            return Ok(());
        }
        let on = Present::current();
        share_rows(x, self.row_bytes(site), |mut x| {
            self.addends(site).for_each(|addend| addend.add(on, &mut x))
        });
        Ok(())
    }

    /// The adjoint of [`Call::add_heads`]: adds the tables' gradients to `grads`; the gradient of `x` is `dx` itself.
    ///
    /// # Errors
    /// As [`Call::add_heads`], or a parameter that is missing from `grads`.
    pub fn add_heads_adjoint<T: Element<Real = R>>(&self, site: Site, dx: View<'_, T, 4>, grads: &mut Params<R>) -> Result<()> {
        let [batch, heads, len, head_dim] = dx.shape();
        self.check_rows(site, 4, batch, len)?;
        self.check_widths(site, heads.saturating_mul(head_dim))?;
        memory::countable::<T>("dx [batch, heads, seq, head_dim]", &dx.shape())?;
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for addend in self.addends(site) {
            addend.gradient(&mut grads)?;
        }
        for addend in self.addends(site) {
            if let Some(into) = addend.gradient(&mut grads)? {
                addend.scatter(dx, into);
            }
        }
        Ok(())
    }

    /// Embeddings with everything that acts on them: `out = [x + added tables ‖ concatenated tables]`, then dropout of the whole where a method names one.
    /// `x` is `[batch, seq, model_dim]`, `out` is wider by [`Plan::concat_width`](crate::Plan::concat_width).
    ///
    /// # Errors
    /// A shape that does not fit the call.
    pub fn embed<T: Element<Real = R>>(&self, x: View<'_, T, 3>, out: ViewMut<'_, T, 3>, mode: Mode) -> Result<()> {
        let [batch, len, width] = x.shape();
        self.check_embeddings(batch, len, width)?;
        let wide = width + self.plan().concat_width();
        if out.shape() != [batch, len, wide] {
            return Err(Error::Shape {
                what: "out [batch, seq, width]",
                expected: vec![batch, len, wide],
                given: out.shape().to_vec(),
            });
        }
        for addend in self.addends(Site::Embedding).filter(|a| !a.concatenated) {
            addend.check_width(width)?;
        }
        let on = Present::current();
        share_rows(out.with_one_head(), self.row_bytes(Site::Embedding), |mut out| {
            out.each(|[b, _, t], row| {
                row[..width].copy_from_slice(x.row([b, t, 0]));
                row[width..].fill(T::narrow(R::ZERO));
            });
            let mut column = width;
            for addend in self.addends(Site::Embedding) {
                let columns = match addend.concatenated {
                    true => column..column + addend.width,
                    false => 0..width,
                };
                column = column.max(columns.end);
                addend.add(on, &mut out.columns(columns));
            }
            self.drop_out(Site::Embedding, &mut out, mode);
        });
        Ok(())
    }

    /// The adjoint of [`Call::embed`]: `dx` is overwritten with the gradient of `x`; the tables' gradients are added to `grads`. `d_out` is used as scratch.
    ///
    /// # Errors
    /// As [`Call::embed`], or a parameter that is missing from `grads`.
    pub fn embed_adjoint<T: Element<Real = R>>(
        &self,
        mut d_out: ViewMut<'_, T, 3>,
        dx: ViewMut<'_, T, 3>,
        mode: Mode,
        grads: &mut Params<R>,
    ) -> Result<()> {
        let [batch, len, width] = dx.shape();
        self.check_embeddings(batch, len, width)?;
        let wide = width + self.plan().concat_width();
        if d_out.shape() != [batch, len, wide] {
            return Err(Error::Shape {
                what: "d_out [batch, seq, width]",
                expected: vec![batch, len, wide],
                given: d_out.shape().to_vec(),
            });
        }
        let mut grads = grads.bound_mut(&self.prefixes[0], &self.prefixes[1]);
        for addend in self.addends(Site::Embedding) {
            if !addend.concatenated {
                addend.check_width(width)?;
            }
            addend.gradient(&mut grads)?;
        }
        self.drop_out_of(Site::Embedding, d_out.reborrow(), mode);
        let d_out = d_out.as_view();
        let mut column = width;
        for addend in self.addends(Site::Embedding) {
            let columns = match addend.concatenated {
                true => column..column + addend.width,
                false => 0..width,
            };
            column = column.max(columns.end);
            if let Some(into) = addend.gradient(&mut grads)? {
                addend.scatter(d_out.columns(columns).with_one_head(), into);
            }
        }
        share_rows(dx.with_one_head(), 0, |mut dx| {
            dx.each(|[b, _, t], row| row.copy_from_slice(&d_out.row([b, t, 0])[..width]));
        });
        Ok(())
    }

    /// What is added at a site, in the order of the methods.
    fn addends(&self, site: Site) -> impl Iterator<Item = &Addend<'p, R>> {
        self.parts.addends.iter().filter(move |a| a.site == site)
    }

    /// Bytes of all table rows of one token.
    fn row_bytes(&self, site: Site) -> usize {
        self.addends(site).map(Addend::row_bytes).sum()
    }

    /// Tables at a site are as wide as its rows.
    fn check_widths(&self, site: Site, width: usize) -> Result<()> {
        self.addends(site).try_for_each(|addend| addend.check_width(width))
    }

    /// The site has this rank (3: the model's width, 4: heads), and the call's positions fit the rows.
    fn check_rows(&self, site: Site, rank: usize, batch: usize, len: usize) -> Result<()> {
        match (site, rank) {
            (Site::Embedding | Site::QueryInput | Site::KeyInput, 3) | (Site::Query | Site::Key, 4) => {}
            (_, 3) => {
                return Err(Error::Unsupported {
                    method: "Call",
                    what: "this site is projected, [batch, heads, seq, head_dim]; use add_heads",
                });
            }
            _ => {
                return Err(Error::Unsupported {
                    method: "Call",
                    what: "this site has the model's width, [batch, seq, model_dim]; use add",
                });
            }
        }
        self.positions_of(site).check_fit("positions [batch, seq]", batch, len)
    }

    /// Token embeddings are as wide as the model was planned.
    fn check_embeddings(&self, batch: usize, len: usize, width: usize) -> Result<()> {
        let expected = self.dims().model_dim;
        if width != expected {
            let (expected, given) = (vec![batch, len, expected], vec![batch, len, width]);
            return Err(Error::Shape {
                what: "x [batch, seq, model_dim]",
                expected,
                given,
            });
        }
        self.check_rows(Site::Embedding, 3, batch, len)
    }

    /// Dropout of the sum, of each method that names one.
    fn drop_out<T: Element<Real = R>>(&self, site: Site, x: &mut RowsMut<'_, T>, mode: Mode) {
        for (i, addend) in self.parts.addends.iter().enumerate().filter(|(_, a)| a.site == site) {
            let Some(dropout) = mode.dropout(addend.dropout) else { continue };
            // Where attention has a head stands the site and the method's index, past any number of heads: no two of them drop the same places.
            x.each(|[b, _, t], row| dropout.apply_row(b, (site as usize + 1) << 32 | i, t, row));
        }
    }

    /// Of a whole stream.
    fn drop_out_of<T: Element<Real = R>>(&self, site: Site, x: ViewMut<'_, T, 3>, mode: Mode) {
        if self.addends(site).any(|addend| mode.dropout(addend.dropout).is_some()) {
            share_rows(x.with_one_head(), 0, |mut x| self.drop_out(site, &mut x, mode));
        }
    }
}
