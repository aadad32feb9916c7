//! Bytes as choices, lengths, numbers and positions.

use super::{Number, poison};
use posenc::{Positions, Real};

/// Lengths near the ends of their types, and some that only look like them.
const HOSTILE: [usize; 12] = [
    1 << 16,
    1 << 24,
    (1 << 31) + 1,
    1 << 32,
    1 << 40,
    1 << 53,
    isize::MAX as usize - 1,
    isize::MAX as usize,
    isize::MAX as usize + 1,
    usize::MAX / 2 - 1,
    usize::MAX - 1,
    usize::MAX,
];

const ENDS: [i64; 10] = [
    i64::MIN,
    i64::MIN + 1,
    -(1 << 53) - 1,
    -1,
    1 << 24,
    (1 << 31) - 1,
    1 << 32,
    (1 << 53) + 1,
    i64::MAX - 1,
    i64::MAX,
];

const STRANGE: [f64; 14] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    0.0,
    1.0,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    1e-40,
    65_504.0,
    1e30,
    -1e300,
];

/// What is left of the input; past its end all is 0.
pub struct Bytes<'a> {
    left: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Bytes { left: data }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        *first
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// One of sixteen times something else.
    pub fn rarely(&mut self) -> bool {
        self.byte() >= 240
    }

    pub fn length(&mut self) -> usize {
        match self.byte() {
            small @ 0..=219 => usize::from(small) % 20,
            large => HOSTILE[usize::from(large - 220) % HOSTILE.len()],
        }
    }

    /// A length that fits, but rarely another.
    pub fn near(&mut self, fits: usize) -> usize {
        if self.rarely() { self.length() } else { fits }
    }

    /// A length below `n`, but rarely another.
    pub fn about(&mut self, n: usize) -> usize {
        let fits = self.below(n);
        self.near(fits)
    }

    /// An even length below `2n`, but rarely another.
    pub fn even_about(&mut self, n: usize) -> usize {
        let fits = 2 * self.below(n);
        self.near(fits)
    }

    pub fn id(&mut self) -> i64 {
        match self.byte() {
            small @ 0..=229 => i64::from(small) % 40 - 4,
            large => ENDS[usize::from(large - 230) % ENDS.len()],
        }
    }

    /// Mostly a plain number of any sign.
    pub fn number(&mut self) -> f64 {
        match self.byte() {
            small @ 0..=233 => (f64::from(small) - 100.0) / 16.0,
            large => STRANGE[usize::from(large - 234) % STRANGE.len()],
        }
    }

    /// A finite one.
    pub fn plain(&mut self) -> f64 {
        (f64::from(self.byte()) - 100.0) / 16.0
    }

    /// `n` numbers of which the first few are chosen, some of them not finite, unless all are to be.
    pub fn numbers<T: Number>(&mut self, n: usize, finite: bool) -> Vec<T> {
        let mut numbers: Vec<T> = (0..n)
            .map(|i| T::narrow(T::Real::of(((i * 29) % 61) as f64 / 16.0 - 1.9)))
            .collect();
        for _ in 0..self.below(8).min(n) {
            let (at, x) = (self.below(n), if finite { self.plain() } else { self.number() });
            numbers[at] = T::narrow(T::Real::of(x));
        }
        numbers
    }

    /// Strides of a tensor, and how many numbers its storage has: without gaps, with gaps, in another order of axes, or any.
    pub fn strides(&mut self, shape: [usize; 4], padded: usize) -> ([usize; 4], usize) {
        let small = |n: usize| n.min(64);
        let [a, b, c, d] = shape.map(small);
        let row = d + self.below(3) * padded;
        let strides = match self.below(8) {
            0..3 => [b * c * d, c * d, d, 1],
            3 => [b * c * row, c * row, row, 1],
            4 => [b * c * row, row, b * row, 1],
            5 => [row, a * c * row, a * row, 1],
            6 => [0, c * row, row, 1],
            _ => [self.length(), self.length(), self.length(), self.pick(&[0, 1, 1, 2])],
        };
        let reach = (0..4).fold(1usize, |reach, axis| {
            reach.saturating_add(shape[axis].saturating_sub(1).saturating_mul(strides[axis]))
        });
        (strides, reach.min(1 << 14).saturating_sub(usize::from(self.rarely())))
    }

    /// Storage of poison with the numbers of a tensor where its elements are, as far as they lie inside.
    pub fn storage<T: Number>(&mut self, size: usize, shape: [usize; 4], strides: [usize; 4], finite: bool) -> Vec<T> {
        let mut data = vec![poison(); size];
        if let Some(count) = count(shape).filter(|count| *count <= 1 << 14) {
            for (i, x) in self.numbers::<T>(count, finite).into_iter().enumerate() {
                if let Some(place) = place(i, shape, strides).filter(|place| *place < size) {
                    data[place] = x;
                }
            }
        }
        data
    }

    /// Positions of about `len` tokens: ranges, ids, fractional ones, several axes, tokens without a position. Any length where that costs nothing.
    pub fn positions(&mut self, len: usize) -> Positions {
        let len = if self.rarely() { self.length() } else { len };
        let batch = self.pick(&[1, 1, 1, 2, 3]);
        let few = len.min(40);
        let at = match self.below(8) {
            0..3 => {
                let start = self.id();
                // As long as no table is made for.
                let len = if len > 1 << 20 { i64::MAX } else { len as i64 };
                Positions::range(start..start.saturating_add(len))
            }
            3 => Positions::whole(&(0..few).map(|_| self.id()).collect::<Vec<_>>()),
            4 => Positions::whole_rows(&(0..few * batch).map(|_| self.id()).collect::<Vec<_>>(), batch).expect("whole rows"),
            5 => {
                let ids: Vec<f64> = (0..few).map(|_| self.number()).collect();
                Positions::real(&ids).unwrap_or(Positions::range(0..few as i64))
            }
            6 => {
                let ids: Vec<i64> = (0..few * 2 * batch).map(|_| self.id()).collect();
                Positions::whole_axes(&ids, 2, batch).expect("two axes")
            }
            _ => {
                let flags: Vec<bool> = (0..few * batch).map(|_| self.flag()).collect();
                Positions::from_padding(&flags, batch).expect("rows of flags")
            }
        };
        if self.rarely() && at.len() == few {
            let flags: Vec<bool> = (0..few).map(|_| self.flag()).collect();
            return at.with_presence(&flags).expect("a flag for each token");
        }
        at
    }
}

/// Elements of a tensor.
pub fn count(shape: [usize; 4]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))
}

/// Where element `i` of a tensor lies.
pub fn place(i: usize, shape: [usize; 4], strides: [usize; 4]) -> Option<usize> {
    let mut rest = i;
    let mut place = 0usize;
    for axis in (0..4).rev() {
        place = place.checked_add((rest % shape[axis]).checked_mul(strides[axis])?)?;
        rest /= shape[axis];
    }
    Some(place)
}
