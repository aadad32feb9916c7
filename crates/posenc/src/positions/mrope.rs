//! # Positions of text, images and videos (M-RoPE)
//!
//! **Idea.** A token has a time, a row and a column. Text has the same number on all three axes, so that it is one-dimensional as ever; a patch of a picture has its own row and
//! column, counted from where the picture begins, and a frame of a video its own time.
//!
//! **Papers.** Wang and others, *Qwen2-VL*, 2024, arXiv 2409.12191; Bai and others, *Qwen2.5-VL Technical Report*, 2025, arXiv 2502.13923, which counts time in seconds;
//! *Qwen3-VL Technical Report*, 2025, arXiv 2511.21631, which writes timestamps as text and takes each frame as a picture.
//!
//! **Maths.** A segment that begins at s, with patches t × h × w before they are merged m by m:
//! ```text
//! text      token i                     (s + i, s + i, s + i)                            next segment at s + n
//! picture   frame k, row i, column j    (s + ⌊k·τ⌋, s + i, s + j),  i < h/m, j < w/m     next segment at the largest of these + 1
//! delta     the largest position + 1 − the number of tokens: token n of the answer is at n + delta on each axis
//! ```
//! τ is 1 in Qwen2-VL, and `tokens_per_second · second_per_grid_ts` for Qwen2.5-VL's videos, multiplied and rounded in f32 as transformers does.
//!
//! **Conventions that differ between codebases.** After a video that is longer than it is wide, papers, Qwen's own code, vLLM and transformers up to 5.2 go on behind its last time ([`Next::Largest`]);
//! transformers 5.3 and later (seen in 5.23) goes on at s + max(h, w)/m, inside the video's times ([`Next::Extent`]; huggingface/transformers#45381). For pictures both
//! are the same. A grid that the merge does not divide is floored by transformers, and refused here.

use super::{Ids, Positions, too_many_tokens};
use crate::error::{Error, Result};
use crate::memory;
use crate::real::Element;

/// A picture or a video as its processor counts it: patches **before** they are merged, `image_grid_thw` or `video_grid_thw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "image_grid_thw")]
#[doc(alias = "video_grid_thw")]
pub struct Patches {
    /// Frames, or pairs of frames where the patches take two: 1 for a picture.
    pub frames: usize,
    /// Patches from top to bottom.
    pub height: usize,
    /// Patches from left to right.
    pub width: usize,
}

impl Patches {
    /// One picture.
    pub fn picture(height: usize, width: usize) -> Patches {
        Patches { frames: 1, height, width }
    }

    /// Patches of all frames; `None` past usize.
    pub(super) fn count(&self) -> Option<usize> {
        self.frames.checked_mul(self.height)?.checked_mul(self.width)
    }

    /// The same merged `merge` by `merge`.
    fn merged(&self, merge: usize) -> Result<Patches> {
        if merge == 0 {
            return Err(Error::Zero { what: "merge" });
        }
        for (what, size) in [("frames", self.frames), ("patches high", self.height), ("patches wide", self.width)] {
            if size == 0 {
                return Err(Error::Zero { what });
            }
        }
        for (what, value) in [("patches high", self.height), ("patches wide", self.width)] {
            if !value.is_multiple_of(merge) {
                return Err(Error::NotDivisible {
                    what,
                    value,
                    by: "merge",
                    divisor: merge,
                });
            }
        }
        Ok(Patches {
            frames: self.frames,
            height: self.height / merge,
            width: self.width / merge,
        })
    }
}

/// A run of tokens of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Segment {
    /// So many tokens of text, the marks around pictures included.
    Text(usize),
    /// The patches of a picture.
    Image(Patches),
    /// The patches of a video.
    Video {
        /// Its patches.
        patches: Patches,
        /// Seconds from one of its frames to the next, for [`Time::Seconds`] (`second_per_grid_ts`).
        seconds_per_grid: f64,
    },
}

impl Segment {
    /// A video as Qwen3-VL reads it: before each frame, so many tokens of text (its timestamp and the marks around it), then the frame.
    ///
    /// # Errors
    /// Another number of timestamps than frames.
    pub fn with_timestamps(patches: Patches, text_before: &[usize]) -> Result<Vec<Segment>> {
        if text_before.len() != patches.frames {
            return Err(Error::Shape {
                what: "tokens of text before each frame",
                expected: vec![patches.frames],
                given: vec![text_before.len()],
            });
        }
        let frame = Segment::Image(Patches { frames: 1, ..patches });
        Ok(text_before.iter().flat_map(|text| [Segment::Text(*text), frame]).collect())
    }
}

/// What a video's frame adds to the time axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// Its number: Qwen2-VL.
    Frames,
    /// Its second times this: Qwen2.5-VL (`tokens_per_second` in its vision config).
    Seconds {
        /// Positions per second.
        tokens_per_second: f64,
    },
    /// Nothing: each frame is a picture of its own, and the next begins behind it. Qwen3-VL.
    Timestamps,
}

/// Where the segment after a picture or video begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Behind its largest position on any axis: the papers, Qwen's own code, vLLM, transformers up to 5.2.
    Largest,
    /// At its own beginning plus its height or width, whichever is larger, whatever its times: transformers from 5.3 on.
    Extent,
}

/// What a batch does with rows that are shorter than the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Fillers come first: how batches are generated from.
    Left,
    /// Fillers come last: how batches are trained on.
    Right,
}

/// A model's rule for positions on three axes: time, row, column.
///
/// ```
/// use posenc::positions::{Mrope, Padding, Patches, Segment};
/// // Three tokens of text, a picture of 4 × 6 patches merged 2 × 2, two tokens of text.
/// let row = [Segment::Text(3), Segment::Image(Patches::picture(4, 6)), Segment::Text(2)];
/// let placed = Mrope::qwen2_vl().positions(&[&row], Padding::Left)?;
/// let axis = |axis| (0..11).map(|t| placed.positions.get(axis, 0, t).unwrap()).collect::<Vec<_>>();
/// assert_eq!(axis(0), [0.0, 1.0, 2.0, /* picture: */ 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, /* text: */ 6.0, 7.0]);
/// assert_eq!(axis(1), [0.0, 1.0, 2.0, /* picture: */ 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, /* text: */ 6.0, 7.0]);
/// assert_eq!(axis(2), [0.0, 1.0, 2.0, /* picture: */ 3.0, 4.0, 5.0, 3.0, 4.0, 5.0, /* text: */ 6.0, 7.0]);
/// // The answer goes on at 8: eleven tokens were read, three fewer positions used.
/// assert_eq!(placed.deltas, [-3]);
/// assert_eq!(placed.following(&[11], 1)?.get(2, 0, 0), Some(8.0));
/// # Ok::<(), posenc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(alias = "get_rope_index")]
pub struct Mrope {
    /// Patches that become one token, along height and along width: 2 (`spatial_merge_size`).
    pub merge: usize,
    /// What frames add.
    pub time: Time,
    /// Where what comes after begins.
    pub next: Next,
}

/// The positions of a batch, and what its rows go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// `(3, B, T)`: time, row, column. Padding has no position.
    pub positions: Positions,
    /// What to add to the number of tokens that a row has read, to have its next position, `[batch]`.
    #[doc(alias = "mrope_position_deltas")]
    #[doc(alias = "rope_deltas")]
    pub deltas: Vec<i64>,
}

impl Placed {
    /// Positions `(3, B, n)` of each row's next n tokens of text, after it has read `read[b]` tokens, padding not counted.
    ///
    /// # Errors
    /// Another number of rows, or positions past `i64`.
    pub fn following(&self, read: &[usize], n: usize) -> Result<Positions> {
        if read.len() != self.deltas.len() {
            return Err(Error::Shape {
                what: "tokens read by each row [batch]",
                expected: vec![self.deltas.len()],
                given: vec![read.len()],
            });
        }
        let tokens = read.len().checked_mul(n).filter(|tokens| *tokens <= Positions::LONGEST);
        let tokens = tokens.ok_or_else(|| too_many_tokens(n))?;
        memory::check::<[i64; 6]>("positions of an answer [axes, batch, seq]", &[tokens])?;
        let mut ids = Vec::with_capacity(3 * tokens);
        for (read, delta) in read.iter().zip(&self.deltas) {
            let first = i64::try_from(*read).ok().and_then(|read| read.checked_add(*delta));
            let first = first.filter(|first| first.checked_add(n as i64).is_some());
            let first = first.ok_or_else(|| past_counting(*read as f64))?;
            ids.extend(first..first + n as i64);
        }
        ids.extend_from_within(..);
        ids.extend_from_within(..tokens);
        Positions::whole_axes(&ids, 3, read.len())
    }
}

impl Mrope {
    /// Qwen2-VL: merge 2, time by frames.
    pub fn qwen2_vl() -> Mrope {
        Mrope {
            merge: 2,
            time: Time::Frames,
            next: Next::Largest,
        }
    }

    /// Qwen2.5-VL: merge 2, time by seconds; `tokens_per_second` is 4 in its class and 2 in its published checkpoints.
    pub fn qwen2_5_vl(tokens_per_second: f64) -> Mrope {
        Mrope {
            time: Time::Seconds { tokens_per_second },
            ..Mrope::qwen2_vl()
        }
    }

    /// Qwen3-VL: merge 2, each frame a picture.
    pub fn qwen3_vl() -> Mrope {
        Mrope {
            time: Time::Timestamps,
            ..Mrope::qwen2_vl()
        }
    }

    /// The same with another answer to where the segment after a video begins.
    pub fn with_next(self, next: Next) -> Mrope {
        Mrope { next, ..self }
    }

    /// Positions of a batch of rows, each a list of segments, and each row's delta.
    ///
    /// # Errors
    /// A grid that is empty or that the merge does not divide, more than [`Positions::LONGEST`] tokens, seconds that are negative or no number, or a time past 2^53.
    pub fn positions(&self, rows: &[&[Segment]], padding: Padding) -> Result<Placed> {
        // Tokens are counted, and refused, before any is placed.
        let mut lens = Vec::with_capacity(rows.len());
        for row in rows {
            let mut len = 0usize;
            for segment in *row {
                len = self.tokens(segment)?.and_then(|n| len.checked_add(n)).unwrap_or(usize::MAX);
            }
            lens.push(len);
        }
        let longest = lens.iter().copied().max().unwrap_or(0);
        let tokens = longest.checked_mul(rows.len()).filter(|tokens| *tokens <= Positions::LONGEST);
        let tokens = tokens.ok_or_else(|| too_many_tokens(longest))?;

        // Three axes, and once more as they are put together.
        memory::check::<[i64; 9]>("positions of text and pictures [axes, batch, seq]", &[tokens])?;
        let mut axes = [vec![0; tokens], vec![0; tokens], vec![0; tokens]];
        let mut present = vec![false; tokens];
        let mut deltas = Vec::with_capacity(rows.len());
        for (b, row) in rows.iter().enumerate() {
            let first = b * longest + if padding == Padding::Left { longest - lens[b] } else { 0 };
            present[first..first + lens[b]].fill(true);
            let mut at = first;
            let (mut start, mut largest) = (0i64, -1i64);
            for segment in *row {
                let written = at;
                let next = self.write(segment, start, &mut at, &mut axes)?;
                largest = axes.iter().flat_map(|ids| &ids[written..at]).fold(largest, |a, b| a.max(*b));
                start = next;
            }
            deltas.push(largest + 1 - lens[b] as i64);
        }
        let positions = Positions {
            ids: Ids::Whole(axes.concat().into()),
            batch: if longest == 0 { 1 } else { rows.len() },
            len: longest,
            axes: 3,
            present: None,
        };
        let positions = if lens.iter().all(|len| *len == longest) {
            positions
        } else {
            positions.with_presence_rows(&present, rows.len())?
        };
        Ok(Placed { positions, deltas })
    }

    /// Tokens of a segment; `None` past usize.
    fn tokens(&self, segment: &Segment) -> Result<Option<usize>> {
        match segment {
            Segment::Text(n) => Ok(Some(*n)),
            Segment::Image(patches) | Segment::Video { patches, .. } => Ok(patches.merged(self.merge)?.count()),
        }
    }

    /// Writes the positions of a segment that begins at `start` from token `at` on, and says where the next begins.
    fn write(&self, segment: &Segment, start: i64, at: &mut usize, axes: &mut [Vec<i64>; 3]) -> Result<i64> {
        let mut push = |place: [i64; 3]| {
            axes.iter_mut().zip(place).for_each(|(axis, place)| axis[*at] = place);
            *at += 1;
        };
        let (patches, interval) = match (segment, self.time) {
            (Segment::Text(n), _) => {
                (start..start + *n as i64).for_each(|id| push([id; 3]));
                return Ok(start + *n as i64);
            }
            (Segment::Image(patches), _) => (patches, Some(1.0)),
            (Segment::Video { patches, .. }, Time::Frames) => (patches, Some(1.0)),
            (Segment::Video { patches, .. }, Time::Timestamps) => (patches, None),
            (Segment::Video { patches, seconds_per_grid }, Time::Seconds { tokens_per_second }) => {
                for (what, value) in [("seconds per grid", *seconds_per_grid), ("tokens per second", tokens_per_second)] {
                    if !(value.is_finite() && value >= 0.0) {
                        return Err(Error::Invalid {
                            what,
                            given: value.to_string(),
                            expected: "a number that is not negative",
                        });
                    }
                }
                (patches, Some(tokens_per_second as f32 * *seconds_per_grid as f32))
            }
        };
        let Patches { frames, height, width } = patches.merged(self.merge)?;
        let extent = height.max(width) as i64;
        let mut next = start;
        for frame in 0..frames {
            let (time, corner) = match interval {
                // Rounded to f32 and cut, as the models' code does.
                Some(interval) => {
                    let time = frame as f32 * interval;
                    if !time.is_finite() || f64::from(time) >= f64::EXACT_INTEGERS {
                        return Err(past_counting(time.into()));
                    }
                    (start + time as i64, start)
                }
                None => (next, next),
            };
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i as i64, j as i64))) {
                push([time, corner + i, corner + j]);
            }
            next = match (interval, self.next) {
                (None, _) => next + extent,
                (Some(_), Next::Extent) => start + extent,
                (Some(_), Next::Largest) => next.max(start + extent).max(time + 1),
            };
        }
        if next as f64 >= f64::EXACT_INTEGERS {
            return Err(past_counting(next as f64));
        }
        Ok(next)
    }
}

impl Positions {
    /// The patches of pictures and videos as vision towers of Qwen-VL and GLM-V read them, before the merge: axis 0 is the row, axis 1 the column, and the patches that
    /// `merge` × `merge` become one token lie together. All frames of a video have the same (transformers: `get_vision_position_ids`). Which
    /// patches attend to each other is [`Documents::frames`](super::Documents::frames).
    ///
    /// # Errors
    /// A grid that is empty or that the merge does not divide, or more than [`Positions::LONGEST`] patches.
    ///
    /// ```
    /// use posenc::Positions;
    /// use posenc::positions::Patches;
    /// let at = Positions::patches(&[Patches::picture(2, 4)], 2)?;
    /// let axis = |axis| (0..8).map(|t| at.get(axis, 0, t).unwrap()).collect::<Vec<_>>();
    /// assert_eq!(axis(0), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    /// assert_eq!(axis(1), [0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    #[doc(alias = "rot_pos_emb")]
    pub fn patches(pictures: &[Patches], merge: usize) -> Result<Positions> {
        let mut tokens = 0usize;
        for patches in pictures {
            patches.merged(merge)?;
            tokens = patches.count().and_then(|n| tokens.checked_add(n)).unwrap_or(usize::MAX);
        }
        if tokens > Positions::LONGEST {
            return Err(too_many_tokens(tokens));
        }
        memory::check::<[i64; 4]>("positions of patches [axes, seq]", &[tokens])?;
        let axis = |of: fn(usize, usize) -> usize| {
            pictures.iter().flat_map(move |patches| {
                let blocks = move |_| {
                    let corners =
                        (0..patches.height / merge).flat_map(move |i| (0..patches.width / merge).map(move |j| (i * merge, j * merge)));
                    corners.flat_map(move |(y, x)| (0..merge * merge).map(move |k| of(y + k / merge, x + k % merge) as i64))
                };
                (0..patches.frames).flat_map(blocks)
            })
        };
        Ok(Positions {
            ids: Ids::Whole(axis(|y, _| y).chain(axis(|_, x| x)).collect()),
            batch: 1,
            len: tokens,
            axes: 2,
            present: None,
        })
    }
}

fn past_counting(given: f64) -> Error {
    Error::Invalid {
        what: "time of a frame",
        given: format!("{given:e}"),
        expected: "a position below 2^53",
    }
}
