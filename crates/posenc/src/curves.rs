//! What methods look like, as numbers: the data behind every picture of `posenc show`.
//!
//! Each function asks the method itself and returns rows in f64; nothing is drawn here.
//!
//! ```
//! use posenc::{Pairing, Rotary, curves};
//! let frequencies = Rotary::new(Pairing::Halves).frequencies(128, 51)?.pairs;
//! let bound = curves::decay_bound(&frequencies, &[0.0, 50.0]);
//! assert!((bound[0] - 32.5).abs() < 1e-12 && (bound[1] - 12.629).abs() < 5e-4);
//! # Ok::<(), posenc::Error>(())
//! ```

use crate::bias::{Alibi, Form, t5_bucket};
use crate::catalogue::{CATALOGUE, Entry, PresetOptions, preset};
use crate::dims::Dims;
use crate::embed::{Sinusoidal, sinusoid};
use crate::encoding::{Encoding, Method};
use crate::error::{Error, Result};
use crate::memory;
use crate::params::{Init, Params};
use crate::plan::Plan;
use crate::positions::Positions;
use crate::reference::rotary::pair;
use crate::rotate::{Rotary, Side, Turn};
use crate::view::ViewMut;
use std::f64::consts::TAU;

/// One pair of coordinates of a vector, as a head sees it at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrow {
    /// The pair, from 0, the fastest.
    pub pair: usize,
    /// Where the token stands.
    pub position: f64,
    /// By how much the pair has turned since position 0, in radians; not reduced to one turn.
    pub angle: f64,
    /// Its first coordinate.
    pub x: f64,
    /// Its second coordinate.
    pub y: f64,
}

/// The same `vector` in each of these pairs of a head, turned at each of these positions; pair by pair.
///
/// # Errors
/// As [`Rotary::rotation`], a position that is not finite, or a pair that the head does not have.
///
/// ```
/// use posenc::{Pairing, Rotary, curves::turned};
/// let arrows = turned(&Rotary::new(Pairing::Halves), 64, [1.0, 0.0], &[0, 31], &[0.0, 2.0])?;
/// assert_eq!((arrows[1].angle, arrows[1].x), (2.0, 2f64.cos()));
/// assert!(arrows[3].angle < 3e-4); // the slowest pair has hardly moved
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn turned(rotary: &Rotary, head_dim: usize, vector: [f64; 2], pairs: &[usize], positions: &[f64]) -> Result<Vec<Arrow>> {
    let at = Positions::real(positions)?;
    let frequencies = rotary.frequencies(head_dim, rotary.length_of(&[&at]))?.pairs;
    let r = 2 * frequencies.len();
    let rotation = rotary.rotation_of::<f64>(Side::Query, head_dim, &at)?;
    let mut arrows = Vec::with_capacity(memory::check::<Arrow>(
        "arrows [pairs, positions]",
        &[pairs.len(), positions.len()],
    )?);
    let mut row = vec![0.0; head_dim];
    for &i in pairs {
        if i >= frequencies.len() {
            return Err(Error::Invalid {
                what: "pair",
                given: i.to_string(),
                expected: "a pair of the head: below half of rotary_dim",
            });
        }
        let (a, b) = pair(i, r, rotary.pairing);
        for (token, &position) in positions.iter().enumerate() {
            row.fill(0.0);
            [row[a], row[b]] = vector;
            rotation.turn_row(Turn::Forward, 0, token, &mut row);
            arrows.push(Arrow {
                pair: i,
                position,
                angle: position * frequencies[i],
                x: row[a],
                y: row[b],
            });
        }
    }
    Ok(arrows)
}

/// Positions per turn of each frequency: 2π/θ.
///
/// ```
/// use posenc::{Pairing, Rotary, curves::wavelengths};
/// let of = wavelengths(&Rotary::new(Pairing::Halves).frequencies(4, 1)?.pairs);
/// assert!((of[0] - 6.2832).abs() < 1e-4 && (of[1] - 628.32).abs() < 1e-2);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn wavelengths(frequencies: &[f64]) -> Vec<f64> {
    frequencies.iter().map(|theta| TAU / theta.abs()).collect()
}

/// RoFormer's bound on how a rotated score fades with distance (its section 3.4.3 and figure 2): with S_j the sum of the first j turning numbers e^{iΔθ}, the mean of
/// |S_1| … |S_{d/2}|. A bound: it says nothing of the score of two given vectors. NaN without frequencies, which have no mean.
///
/// ```
/// use posenc::curves::decay_bound;
/// // 1 and 1 + 1 at distance 0; at distance π one turns by half and cancels the other, which rests.
/// assert_eq!(decay_bound(&[1.0, 0.0], &[0.0]), [1.5]);
/// assert!((decay_bound(&[1.0, 0.0], &[std::f64::consts::PI])[0] - 0.5).abs() < 1e-15);
/// ```
pub fn decay_bound(frequencies: &[f64], distances: &[f64]) -> Vec<f64> {
    let at = |distance: &f64| {
        let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
        for theta in frequencies {
            let (sin, cos) = (distance * theta).sin_cos();
            re += cos;
            im += sin;
            sum += f64::hypot(re, im);
        }
        sum / frequencies.len() as f64
    };
    distances.iter().map(at).collect()
}

/// The rotated score of two equal vectors with the same length in every pair, as a share of their score at distance 0: the mean of cos Δθ. NaN without
/// frequencies, which have no mean.
///
/// ```
/// assert_eq!(posenc::curves::equal_vectors(&[1.0, 0.0], &[0.0, 1.0]), [1.0, (1.0 + 1f64.cos()) / 2.0]);
/// ```
pub fn equal_vectors(frequencies: &[f64], distances: &[f64]) -> Vec<f64> {
    let at = |distance: &f64| frequencies.iter().map(|theta| (distance * theta).cos()).sum::<f64>() / frequencies.len() as f64;
    distances.iter().map(at).collect()
}

/// The vectors of positions 0 … length − 1, `[length, width]`.
///
/// # Errors
/// As [`sinusoid`], or more numbers than fit in memory's index.
///
/// ```
/// use posenc::{Sinusoidal, curves::sinusoids};
/// assert_eq!(sinusoids(&Sinusoidal::paper(), 2, 2)?, [0.0, 1.0, 1f64.sin(), 1f64.cos()]);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn sinusoids(table: &Sinusoidal, length: usize, width: usize) -> Result<Vec<f64>> {
    let mut rows = vec![0.0; product("length times width", &[length, width])?];
    sinusoid(
        table,
        &Positions::range(0..length as i64),
        ViewMut::new(&mut rows, [1, length, width])?,
    )?;
    Ok(rows)
}

/// The products of all rows of a table `[rows, width]` with each other, `[rows, rows]`.
///
/// ```
/// assert_eq!(posenc::curves::products(&[1.0, 2.0, 0.0, 3.0], 2), [5.0, 6.0, 6.0, 9.0]);
/// ```
pub fn products(table: &[f64], width: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = table.chunks_exact(width.max(1)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect()
}

/// The length of each row of a table `[rows, width]`.
///
/// ```
/// assert_eq!(posenc::curves::norms(&[3.0, 4.0, 0.0, 0.0], 2), [5.0, 0.0]);
/// ```
pub fn norms(table: &[f64], width: usize) -> Vec<f64> {
    let norm = |row: &[f64]| {
        // Scaled by the largest number, so that squares neither overflow nor vanish.
        let most = row.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        if most > 0.0 {
            most * row.iter().map(|x| (x / most).powi(2)).sum::<f64>().sqrt()
        } else {
            0.0
        }
    };
    table.chunks_exact(width.max(1)).map(norm).collect()
}

/// The cosine of the angle between all rows of a table `[rows, width]`, `[rows, rows]`. A row of zeros has no direction: its cosines are 0.
///
/// ```
/// let cosines = posenc::curves::cosines(&[2.0, 0.0, 3.0, 3.0, 0.0, 0.0], 2);
/// assert!((cosines[1] - 0.5f64.sqrt()).abs() < 1e-15 && cosines[2] == 0.0);
/// ```
pub fn cosines(table: &[f64], width: usize) -> Vec<f64> {
    let width = width.max(1);
    let unit = |(row, norm): (&[f64], f64)| -> Vec<f64> { row.iter().map(|x| if norm > 0.0 { x / norm } else { 0.0 }).collect() };
    let units: Vec<f64> = table.chunks_exact(width).zip(norms(table, width)).flat_map(unit).collect();
    products(&units, width)
}

/// The bucket of each distance, `query − key`: T5's staircase. Negative distances are keys after the query.
///
/// # Errors
/// As [`t5_bucket`].
///
/// ```
/// assert_eq!(posenc::curves::t5_staircase(false, 32, 128, &[-3, 0, 5, 19, 1000])?, [0, 0, 5, 17, 31]);
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn t5_staircase(bidirectional: bool, buckets: usize, max_distance: usize, distances: &[i64]) -> Result<Vec<usize>> {
    let bucket = |distance: &i64| t5_bucket(distance.saturating_neg(), bidirectional, buckets, max_distance);
    distances.iter().map(bucket).collect()
}

/// An encoding whose bias can be looked at, with parameters.
#[derive(Clone, Debug)]
pub struct Biased {
    plan: Plan,
    params: Params<f64>,
    /// Its name, as [`biases`] lists it.
    pub name: String,
    /// It is made for a causal mask: what it says of keys after the query is never read.
    pub causal: bool,
    /// How what it learns began; `None` where it learns nothing, or was given it.
    pub drawn_from: Option<Init>,
}

/// The names that [`Biased::new`] knows: every method of the catalogue that adds a bias to scores, and the forms of T5 and ALiBi for encoders.
///
/// ```
/// let names = posenc::curves::biases()?;
/// assert!(["alibi", "alibi-symmetric", "clipped", "shared", "t5", "t5-encoder"].iter().all(|name| names.contains(name)));
/// # Ok::<(), posenc::Error>(())
/// ```
pub fn biases() -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for entry in CATALOGUE {
        if adds_bias(&preset(entry.name, &PresetOptions::new(64))?)? {
            names.push(entry.name);
            names.extend(FOR_ENCODERS.iter().filter(|name| name.starts_with(entry.name)));
        }
    }
    Ok(names)
}

/// Forms that the catalogue's presets, all a decoder's, leave out.
const FOR_ENCODERS: [&str; 2] = ["alibi-symmetric", "t5-encoder"];

fn encoding(name: &str, options: &PresetOptions) -> Result<Encoding> {
    match name {
        "alibi-symmetric" => Ok(Alibi::symmetric().into()),
        "t5-encoder" => {
            let mut encoding = preset("t5", options)?;
            for method in &mut encoding.methods {
                if let Method::T5Bias(t5) = method {
                    // A bucket is at least one wide, and half of them are for each side.
                    let (buckets, max_distance) = (t5.buckets.next_multiple_of(4), t5.max_distance.max(8));
                    *t5 = t5.clone().with_buckets(buckets, max_distance);
                    t5.bidirectional = true;
                }
            }
            Ok(encoding)
        }
        name => preset(name, options),
    }
}

fn adds_bias(encoding: &Encoding) -> Result<bool> {
    let plan = encoding.plan(Dims::new(16, 2)?)?;
    let (params, at) = (plan.init::<f64>(0)?, Positions::range(0..1));
    Ok(!plan.call(&params, &at, &at)?.bias().is_empty())
}

impl Biased {
    /// A bias by name, as its preset for a trained length makes it, for this many heads. What it learns and would begin at zero is drawn from N(0, 1) instead, so that there
    /// is something to see; the same seed gives the same numbers.
    ///
    /// # Errors
    /// A name that [`biases`] does not list, no heads, or a trained length of zero.
    ///
    /// ```
    /// use posenc::curves::Biased;
    /// let alibi = Biased::new("alibi", 8, 64, 0)?;
    /// assert_eq!(alibi.by_distance(&[0, 1, 10])?[..3], [0.0, -0.5, -5.0]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn new(name: &str, heads: usize, trained: usize, seed: u64) -> Result<Biased> {
        let biased = Biased::planned(name, heads, trained)?;
        let mut encoding = biased.plan.encoding().clone();
        encoding.methods.iter_mut().for_each(make_visible);
        let plan = encoding.plan(biased.plan.dims())?;
        Ok(Biased {
            drawn_from: plan.parameters().first().map(|spec| spec.init),
            params: plan.init(seed)?,
            plan,
            ..biased
        })
    }

    /// A bias by name with its table as a file holds it: `[rows, heads]`, or `[rows]` for all heads. Distances and buckets follow from the number of rows.
    ///
    /// # Errors
    /// As [`Biased::new`], a bias that learns nothing, or a table of another rank or with rows that it cannot have.
    ///
    /// ```
    /// use posenc::curves::Biased;
    /// let shared = Biased::with_table("shared", 64, &[3], &[0.5, 0.0, -0.5])?; // k = 1
    /// assert_eq!(shared.by_distance(&[-1, 0, 1])?, [-0.5, 0.0, 0.5]);
    /// # Ok::<(), posenc::Error>(())
    /// ```
    pub fn with_table(name: &str, trained: usize, shape: &[usize], table: &[f64]) -> Result<Biased> {
        let (rows, heads) = match *shape {
            [rows] => (rows, 1),
            [rows, heads] => (rows, heads),
            _ => (0, 1),
        };
        let mut biased = Biased::planned(name, heads.max(1), trained)?;
        let mut encoding = biased.plan.encoding().clone();
        for method in &mut encoding.methods {
            match method {
                Method::ClippedBias(m) if rows % 2 == 1 => m.max_distance = rows / 2,
                Method::SharedBias(m) if rows % 2 == 1 => m.max_distance = rows / 2,
                Method::SwinBias(m) if rows % 2 == 1 => m.window = [1, rows / 2 + 1],
                // A table of a checkpoint has T5's own distance, whatever the trained length.
                Method::T5Bias(m) if rows > 0 => (m.buckets, m.max_distance) = (rows, 128.max(rows)),
                _ => {}
            }
        }
        biased.plan = encoding.plan(biased.plan.dims())?;
        let [spec] = biased.plan.parameters() else {
            return Err(Error::Unsupported {
                method: "a bias from a table",
                what: "this one is not one table; it is drawn without a file",
            });
        };
        if spec.shape != shape || table.len() != spec.size() {
            return Err(Error::ParameterShape {
                name: spec.name.clone(),
                expected: spec.shape.clone(),
                given: shape.to_vec(),
            });
        }
        biased.params = Params::zeros(std::slice::from_ref(spec))?;
        biased.params.flat_mut().copy_from_slice(table);
        Ok(biased)
    }

    fn planned(name: &str, heads: usize, trained: usize) -> Result<Biased> {
        let options = PresetOptions::new(trained);
        let wanted = name.trim().to_lowercase().replace('_', "-");
        let name = match FOR_ENCODERS.iter().find(|name| **name == wanted) {
            Some(name) => name,
            None => match Entry::named(&wanted) {
                Ok(entry) => entry.name,
                Err(_) => return Err(Error::unknown_name("bias", name, &biases()?)),
            },
        };
        let encoding = encoding(name, &options)?;
        if !adds_bias(&encoding)? {
            return Err(Error::unknown_name("bias", name, &biases()?));
        }
        // A bias reads no width; the core wants one that the heads split evenly, and some methods an even share.
        let plan = encoding.plan(Dims::new(product("heads", &[heads, 2])?, heads)?)?;
        Ok(Biased {
            causal: plan.encoding().methods.iter().any(|method| match method {
                Method::Alibi(alibi) => alibi.form == Form::Causal,
                Method::T5Bias(t5) => !t5.bidirectional,
                _ => false,
            }),
            params: Params::zeros(plan.parameters())?,
            plan,
            name: name.to_string(),
            drawn_from: None,
        })
    }

    /// The encoding.
    pub fn encoding(&self) -> &Encoding {
        self.plan.encoding()
    }

    /// Heads of the model.
    pub fn heads(&self) -> usize {
        self.plan.dims().heads
    }

    /// The bias of queries and keys at positions 0 … length − 1, `[heads, query, key]`.
    ///
    /// # Errors
    /// Positions that the encoding refuses, a bias that reads the scores, or more numbers than fit in memory's index.
    pub fn matrix(&self, length: usize) -> Result<Vec<f64>> {
        let at = Positions::range(0..length as i64);
        self.write(&at, &at)
    }

    /// The bias at each distance `query − key`, `[heads, distances]`. The query stands where all keys have positions from 0 on.
    ///
    /// # Errors
    /// As [`Biased::matrix`], or distances too far from each other to stand in one row.
    pub fn by_distance(&self, distances: &[i64]) -> Result<Vec<f64>> {
        let query = distances.iter().copied().max().unwrap_or(0).max(0);
        let key = |distance: &i64| {
            query.checked_sub(*distance).ok_or_else(|| Error::Invalid {
                what: "distance",
                given: distance.to_string(),
                expected: "distances whose difference i64 holds",
            })
        };
        let keys = distances.iter().map(key).collect::<Result<Vec<i64>>>()?;
        self.write(&Positions::whole(&[query]), &Positions::whole(&keys))
    }

    fn write(&self, q_at: &Positions, k_at: &Positions) -> Result<Vec<f64>> {
        let shape = [1, self.heads(), q_at.len(), k_at.len()];
        let mut out = vec![0.0; product("heads times queries times keys", &shape)?];
        self.plan
            .call(&self.params, q_at, k_at)?
            .materialise_bias(ViewMut::new(&mut out, shape)?)?;
        Ok(out)
    }
}

/// A table of zeros shows nothing.
fn make_visible(method: &mut Method) {
    let visible = Init::Normal(1.0);
    match method {
        Method::ClippedBias(m) if m.init == Init::Zeros => m.init = visible,
        Method::SharedBias(m) if m.init == Init::Zeros => m.init = visible,
        Method::T5Bias(m) if m.init == Some(Init::Zeros) => m.init = Some(visible),
        Method::SwinBias(m) if m.init == Init::Zeros => m.init = visible,
        _ => {}
    }
}

/// Numbers in a table of this shape.
fn product(what: &'static str, shape: &[usize]) -> Result<usize> {
    let too_many = || Error::Invalid {
        what,
        given: shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × "),
        expected: "a product of at most 2^27",
    };
    shape
        .iter()
        .try_fold(1usize, |product, n| product.checked_mul(*n))
        .filter(|product| *product <= 1 << 27)
        .ok_or_else(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bias::alibi_slopes;
    use crate::rotate::Pairing;

    fn frequencies(head_dim: usize) -> Vec<f64> {
        Rotary::new(Pairing::Halves).frequencies(head_dim, 1).unwrap().pairs
    }

    /// Values computed apart from this code, to the digits that are written: half a unit of the last digit.
    #[test]
    fn the_decay_bound_has_its_known_values() {
        let known: [(usize, &[(f64, f64)]); 2] = [
            (
                128,
                &[
                    (0.0, 32.5),
                    (10.0, 17.954),
                    (50.0, 12.629),
                    (100.0, 10.227),
                    (200.0, 7.245),
                    (250.0, 6.548),
                    (1000.0, 4.471),
                ],
            ),
            (64, &[(0.0, 16.5), (50.0, 5.733), (100.0, 7.465), (250.0, 3.669)]),
        ];
        for (head_dim, known) in known {
            for &(distance, value) in known {
                let bound = decay_bound(&frequencies(head_dim), &[distance])[0];
                assert!(
                    (bound - value).abs() <= 5e-4,
                    "d = {head_dim}, distance {distance}: {bound}, not {value}"
                );
            }
        }
    }

    #[test]
    fn wavelengths_grow_from_two_pi_by_the_base() {
        for head_dim in [2, 64, 128] {
            for (i, wavelength) in wavelengths(&frequencies(head_dim)).into_iter().enumerate() {
                let known = TAU * 10_000f64.powf(2.0 * i as f64 / head_dim as f64);
                // A power, a reciprocal and a product: a few roundings.
                assert!((wavelength / known - 1.0).abs() < 8.0 * f64::EPSILON, "{i} of {head_dim}");
            }
        }
        // Document 004's count: 23 of 64 pairs take more than 2048 positions for a turn.
        assert_eq!(
            wavelengths(&frequencies(128))
                .iter()
                .filter(|&&wavelength| wavelength > 2048.0)
                .count(),
            23
        );
    }

    #[test]
    fn arrows_keep_their_length_and_turn_by_their_frequency() {
        for pairing in [Pairing::Halves, Pairing::Interleaved] {
            let arrows = turned(&Rotary::new(pairing), 8, [0.6, 0.8], &[0, 3], &[0.0, 1.0, 2.5]).unwrap();
            assert_eq!(arrows.len(), 6);
            for arrow in arrows {
                let theta = arrow.position * 10_000f64.powf(-2.0 * arrow.pair as f64 / 8.0);
                assert!((arrow.angle - theta).abs() < 1e-14 && (arrow.x.hypot(arrow.y) - 1.0).abs() < 1e-15);
                let known = (0.6 * theta.cos() - 0.8 * theta.sin(), 0.6 * theta.sin() + 0.8 * theta.cos());
                assert!((arrow.x - known.0).abs() < 1e-14 && (arrow.y - known.1).abs() < 1e-14);
            }
        }
        assert!(matches!(
            turned(&Rotary::new(Pairing::Halves), 8, [1.0, 0.0], &[4], &[0.0]),
            Err(Error::Invalid { what: "pair", .. })
        ));
    }

    /// PE(p)·PE(p′) = Σ cos((p − p′)θ): the products depend on the distance alone.
    #[test]
    fn products_of_sinusoids_depend_on_distance_alone() {
        let (length, width) = (40, 16);
        let products = products(&sinusoids(&Sinusoidal::paper(), length, width).unwrap(), width);
        let theta = Sinusoidal::paper().frequencies(width).unwrap();
        for p in 0..length {
            for q in 0..length {
                let known: f64 = theta.iter().map(|t| ((p as f64 - q as f64) * t).cos()).sum();
                // 16 products of numbers up to 1 in magnitude, each a rounding, and angles up to 40 radians, rounded.
                assert!((products[p * length + q] - known).abs() < (16.0 + 40.0) * 2.0 * f64::EPSILON * 4.0);
            }
        }
    }

    #[test]
    fn cosines_are_those_of_the_angles_and_norms_do_not_overflow() {
        let cosines = cosines(&[1.0, 0.0, 0.0, -2.0, 5.0, 0.0], 2);
        assert_eq!(cosines, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(norms(&[3e300, 4e300], 2), [5e300]);
    }

    #[test]
    fn every_bias_has_a_matrix_that_its_curve_agrees_with() {
        let length = 24;
        for name in biases().unwrap() {
            let biased = Biased::new(name, 4, 32, 7).unwrap();
            let matrix = biased.matrix(length).unwrap();
            let distances: Vec<i64> = (1 - length as i64..length as i64).collect();
            let curve = biased.by_distance(&distances).unwrap();
            assert!(matrix.iter().any(|x| *x != matrix[0]), "{name}: there is something to see");
            // Some ask where the query stands: it stands last there.
            let first = if name == "fire" { length - 1 } else { 0 };
            for head in 0..biased.heads() {
                for query in first..length {
                    for key in 0..length {
                        let distance = query + length - 1 - key;
                        assert_eq!(
                            matrix[(head * length + query) * length + key],
                            curve[head * distances.len() + distance],
                            "{name}: head {head}, query {query}, key {key}"
                        );
                    }
                }
            }
        }
        let slopes = alibi_slopes(4).unwrap();
        let alibi = Biased::new("ALiBi", 4, 32, 0).unwrap();
        assert!(alibi.causal && !Biased::new("alibi_symmetric", 4, 32, 0).unwrap().causal);
        assert_eq!(
            alibi.by_distance(&[3]).unwrap(),
            slopes.iter().map(|m| -3.0 * m).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_has_no_bias_is_refused_with_the_names_of_those_that_have() {
        for name in ["rotary", "none", "alibbi"] {
            let Err(Error::UnknownName { nearest, known, .. }) = Biased::new(name, 4, 32, 0) else {
                panic!("{name}")
            };
            assert!(known.contains(&"t5-encoder".to_string()) && !known.contains(&"rotary".to_string()));
            assert_eq!(nearest.as_deref(), (name == "alibbi").then_some("alibi"));
        }
        assert!(Biased::new("alibi", 0, 32, 0).is_err() && Biased::new("t5", 4, 0, 0).is_err());
        for trained in 1..40 {
            for name in biases().unwrap() {
                let matrix = Biased::new(name, 1, trained, 0).unwrap().matrix(3);
                assert_eq!(matrix.is_err(), name == "swin" && trained < 3, "{name} {trained}");
            }
        }
    }

    #[test]
    fn a_table_says_how_far_its_bias_reaches() {
        let table: Vec<f64> = (0..10).map(f64::from).collect();
        let clipped = Biased::with_table("clipped", 64, &[5, 2], &table).unwrap();
        // Row 0 is key − query = −2, that is distance 2; beyond it the row repeats.
        assert_eq!(
            clipped.by_distance(&[9, 2, 0, -9]).unwrap(),
            [0.0, 0.0, 4.0, 8.0, 1.0, 1.0, 5.0, 9.0]
        );
        let t5 = Biased::with_table("t5", 64, &[10, 1], &table).unwrap();
        assert_eq!(t5.by_distance(&[0, 3, 100_000]).unwrap(), [0.0, 3.0, 9.0]);
        assert!(t5.by_distance(&[i64::MAX]).is_ok());
        for apart in [&[i64::MIN][..], &[i64::MAX, -1]] {
            assert!(matches!(t5.by_distance(apart), Err(Error::Invalid { what: "distance", .. })));
        }
        let refused = |name, shape: &[usize], table: &[f64]| Biased::with_table(name, 64, shape, table).unwrap_err();
        assert!(matches!(refused("clipped", &[4, 2], &table[..8]), Error::ParameterShape { .. }));
        assert!(matches!(refused("shared", &[5, 2], &table), Error::ParameterShape { .. }));
        assert!(matches!(refused("clipped", &[1, 5, 2], &table), Error::ParameterShape { .. }));
        assert!(matches!(refused("alibi", &[5, 2], &table), Error::Unsupported { .. }));
        assert!(Biased::with_table("t5", 64, &[0, 2], &[]).is_err());
    }

    #[test]
    fn the_staircase_is_the_buckets() {
        let distances: Vec<i64> = (-200..=200).collect();
        for bidirectional in [false, true] {
            let stairs = t5_staircase(bidirectional, 32, 128, &distances).unwrap();
            for (distance, bucket) in distances.iter().zip(&stairs) {
                assert_eq!(*bucket, t5_bucket(-distance, bidirectional, 32, 128).unwrap());
            }
            // From the query backwards the steps only rise.
            assert!(stairs[200..].is_sorted());
            assert!(t5_staircase(bidirectional, 32, 128, &[i64::MIN, i64::MAX]).is_ok());
        }
    }
}
