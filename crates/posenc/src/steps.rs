//! Calls that follow each other: what the last one resolved is taken over, as in a decoding loop, where each step knows all positions of the last but one.

use crate::call::{Call, Located};
use crate::error::Result;
use crate::memory;
use crate::params::Bound;
use crate::plan::{Plan, Prepared};
use crate::positions::Positions;
use crate::real::Real;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What a plan's last call resolved, kept for the next ([`Plan::step`]): tables whose memory doubles when it runs out. It knows no parameters, so those may change from step to step.
///
/// A call shares its tables with the calls of its layers and with these steps. They go on in place where the call before is gone; where it still lives, they are made afresh.
#[derive(Clone)]
pub struct Steps<R = f32> {
    last: Option<Last<R>>,
}

#[derive(Clone)]
struct Last<R> {
    plan: Plan,
    at: [Positions; 2],
    prepared: Arc<[Arc<dyn Prepared<R>>]>,
}

impl<R> Default for Steps<R> {
    /// Nothing resolved yet.
    fn default() -> Self {
        Steps { last: None }
    }
}

impl<R> fmt::Debug for Steps<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.last.as_ref().map(|last| [last.at[0].len(), last.at[1].len()]);
        f.debug_struct("Steps").field("tokens", &at).finish()
    }
}

impl Plan {
    /// [`Plan::call`], bit for bit, from what the step before resolved: of the tables of positions, only those of tokens that it did not have are computed, as long as the tokens before them
    /// are the same. Steps of another plan are begun anew.
    ///
    /// # Errors
    /// As [`Plan::call`]; the steps then begin anew.
    ///
    /// ```
    /// use posenc::{Dims, Encoding, Pairing, Positions, Rotary, Steps};
    /// let plan = Encoding::from(Rotary::new(Pairing::Halves)).plan(Dims::new(64, 4)?)?;
    /// let (params, mut steps) = (plan.init::<f32>(0)?, Steps::default());
    /// let prompt = Positions::range(0..100);
    /// plan.step(&mut steps, &params, &prompt, &prompt)?;
    /// for token in 100..110 {
    ///     let call = plan.step(&mut steps, &params, &Positions::range(token..token + 1), &Positions::range(0..token + 1))?;
    ///     // … attention of every layer by `call`, or by `call.for_layer(…)`
    /// # drop(call);
    /// }
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn step<'p, R: Real>(
        &self,
        steps: &mut Steps<R>,
        params: impl Into<Bound<'p, R>>,
        q_at: &Positions,
        k_at: &Positions,
    ) -> Result<Call<'p, R>> {
        let last = steps.last.take().filter(|last| last.plan.is(self));
        q_at.check_len()?;
        k_at.check_len()?;
        let at = [q_at, k_at];
        let gone_on = last.and_then(|last| {
            let mut prepared = last.prepared;
            let before = [&last.at[0], &last.at[1]];
            self.advance(before, at, Arc::get_mut(&mut prepared)?).then_some(prepared)
        });
        // What could not go on is made afresh, and refuses what there is to refuse.
        let prepared = match gone_on {
            Some(prepared) => prepared,
            None => self.prepare(at)?,
        };
        let call = Located::new(self.clone(), q_at.clone(), k_at.clone(), prepared.clone()).call(params)?;
        steps.last = Some(Last {
            plan: self.clone(),
            at: at.map(Positions::clone),
            prepared,
        });
        Ok(call)
    }
}

/// What a method resolved, where nobody else has it.
pub(crate) fn owned<R: Real, P: Prepared<R>>(prepared: &mut Arc<dyn Prepared<R>>) -> Option<&mut P> {
    let any: &mut dyn Any = Arc::get_mut(prepared)?;
    any.downcast_mut()
}

/// How entries of tokens lie: `[batch, room, width]`, of each row the first `len` in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub batch: usize,
    pub len: usize,
    /// Tokens that each row has room for.
    pub room: usize,
    /// Numbers of an entry.
    pub width: usize,
}

impl Layout {
    /// Without gaps.
    pub fn new(batch: usize, len: usize, width: usize) -> Layout {
        Layout {
            batch,
            len,
            room: len,
            width,
        }
    }

    /// Puts `added` entries of each row, `more` `[batch, added, width]`, after the first `kept` ones. Memory doubles when it runs out; `None` where there is no more.
    pub fn go_on<T: Copy>(self, data: &mut Vec<T>, kept: usize, more: &[T], added: usize) -> Option<Layout> {
        let Layout { batch, room, width, .. } = self;
        let len = kept + added;
        debug_assert!(kept <= self.len && more.len() == batch * added * width);
        if batch == 1 {
            data.truncate(kept * width);
            memory::reserve("tables of a step", data, &[len, width]).ok()?;
            data.extend_from_slice(more);
            return Some(Layout { len, room: len, ..self });
        }
        let mut room = room;
        if len > room
            && let Some(&filler) = more.first()
        {
            let wider = len.max(2 * room);
            let mut larger = vec![filler; memory::check::<T>("tables of a step", &[batch, wider, width]).ok()?];
            for b in 0..batch {
                larger[b * wider * width..][..kept * width].copy_from_slice(&data[b * room * width..][..kept * width]);
            }
            (*data, room) = (larger, wider);
        }
        for b in 0..batch {
            let to = (b * room + kept) * width;
            data[to..][..added * width].copy_from_slice(&more[b * added * width..][..added * width]);
        }
        Some(Layout { len, room, ..self })
    }
}

/// Entries of a fixed number of numbers for each token of each batch row, with room for more tokens.
#[derive(Clone, Debug)]
pub(crate) struct ByToken<T> {
    data: Vec<T>,
    layout: Layout,
}

impl<T: Copy> ByToken<T> {
    /// Of entries `[batch, len, width]`.
    pub fn new(data: Vec<T>, batch: usize, len: usize, width: usize) -> ByToken<T> {
        debug_assert_eq!(data.len(), batch * len * width);
        ByToken {
            data,
            layout: Layout::new(batch, len, width),
        }
    }

    /// The index of a token's entry; a batch of 1 serves all rows.
    #[inline(always)]
    pub fn index(&self, batch: usize, token: usize) -> usize {
        (if self.layout.batch == 1 { 0 } else { batch }) * self.layout.room + token
    }

    /// All entries, by index.
    #[inline(always)]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// Rows that differ.
    pub fn batch(&self) -> usize {
        self.layout.batch
    }

    /// The entries of `more`, of as many rows, after the first `kept` tokens of each row; `false` where there is no memory for them.
    #[must_use]
    pub fn go_on(&mut self, kept: usize, more: &ByToken<T>) -> bool {
        let gone_on = self.layout.go_on(&mut self.data, kept, &more.data, more.layout.len);
        gone_on.is_some_and(|layout| {
            self.layout = layout;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries go on, are cut back and go on again, with one row and with several: each token has what it was given.
    #[test]
    fn entries_stand_where_their_tokens_do_however_often_they_grew() {
        for batch in [1usize, 3] {
            let entries = |from: usize, to: usize| -> Vec<u32> {
                let tokens = (0..batch).flat_map(|b| (from..to).map(move |t| (b, t)));
                tokens
                    .flat_map(|(b, t)| [(1000 * b + t) as u32, (1000 * b + t + 500) as u32])
                    .collect()
            };
            let mut grown = ByToken::new(entries(0, 3), batch, 3, 2);
            let mut moved = 0;
            for (kept, len) in (3..200).map(|t| (t, t + 1)).chain([(50, 60), (0, 4), (4, 4), (2, 300), (299, 301)]) {
                let room = grown.layout.room;
                assert!(grown.go_on(kept, &ByToken::new(entries(kept, len), batch, len - kept, 2)));
                moved += usize::from(grown.layout.room > room && batch > 1);
                for (b, t) in (0..batch).flat_map(|b| (0..len).map(move |t| (b, t))) {
                    let at = 2 * grown.index(b, t);
                    assert_eq!(grown.data()[at..at + 2], [(1000 * b + t) as u32, (1000 * b + t + 500) as u32]);
                }
            }
            assert!(moved <= 8, "memory doubles: {moved}");
        }
    }

    /// Each method goes on from step to step where its positions do; those whose rows a layer projects anew in every step are prepared anew.
    #[test]
    fn every_method_takes_over_what_it_has() {
        use crate::catalogue::{PresetOptions, catalogue, preset};
        use crate::encoding::each_method;
        use crate::input::AddTo;
        use crate::plan::Prepare;
        use crate::{Dims, Encoding, InputTable, Overflow, Sinusoidal};
        let dims = Dims::new(24, 2).unwrap();
        let options = PresetOptions::new(512);
        let mut methods: Vec<_> = catalogue()
            .iter()
            .flat_map(|entry| preset(entry.name, &options).unwrap().methods)
            .collect();
        methods.extend(Encoding::from(Sinusoidal::paper().added_to(AddTo::Projected)).methods);
        methods.extend(Encoding::from(InputTable::new(20).with_overflow(Overflow::Wrap)).methods);
        for method in methods {
            let name = method.to_string();
            let at = |n: i64| [Positions::range(n - 1..n), Positions::range(0..n)];
            let prompt = Positions::range(0..30);
            let mut prepared = each_method!(&method, m => m.prepare::<f32>(&dims, &prompt, &prompt)).unwrap();
            let mut before = [prompt.clone(), prompt];
            let gone_on = (31..60)
                .filter(|n| {
                    let now = at(*n);
                    let [old, new] = [&before, &now].map(|at| [&at[0], &at[1]]);
                    let gone_on = each_method!(&method, m => m.advance::<f32>(&dims, old, new, &mut prepared));
                    if !gone_on {
                        prepared = each_method!(&method, m => m.prepare::<f32>(&dims, &now[0], &now[1])).unwrap();
                    }
                    before = now;
                    gone_on
                })
                .count();
            let anew = ["transformer-xl", "xlnet"].iter().any(|method| name.starts_with(method));
            // Ids that follow each other in a table need nothing to be kept, nor does Shaw, nor biases whose values parameters decide: those are made when they are bound; and a prompt whose table serves queries and keys is two in the first step.
            let nothing_kept = ["learned", "shaw", "input_table(max_len 512", "kerple", "fire", "swin", "log cpb"]
                .iter()
                .any(|method| name.starts_with(method));
            match (anew, nothing_kept) {
                (false, false) => assert!(gone_on >= 28, "{name}: {gone_on}"),
                _ => assert_eq!(gone_on, 0, "{name}"),
            }
        }
    }
}
