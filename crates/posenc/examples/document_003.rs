//! The four code samples of document 003 in Rust, and the shapes that the document prints: [2, 5, 16], [10, 16], [4, 6, 6], [2, 5, 8].
//!
//! Run it with `cargo run -p posenc --example document_003`; `tests/documents.rs` holds it to the shapes, and to the numbers where the document's are right.
use posenc::embed::sinusoid;
use posenc::rotate::rotary::rotate;
use posenc::{
    Dims, Direction, Encoding, Init, Learned, Mode, Pairing, Positions, Result, Rng, Sinusoidal, Site, View, ViewMut, clipped_bias,
};

/// `torch.randn`.
fn randn(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal() as f32).collect()
}

/// `LearnedPositionalEncoding(max_len=50, d_model=16)` of x `[batch 2, seq_len 5, d_model 16]`: x + pos_embed.
pub fn learned_positional_encoding() -> Result<[usize; 3]> {
    let plan = Encoding::from(Learned::new(50).with_init(Init::Normal(1.0))).plan(Dims::new(16, 1)?)?;
    let (params, at) = (plan.init::<f32>(0)?, Positions::range(0..5));
    let mut x = randn(1, 2 * 5 * 16);
    let mut x = ViewMut::new(&mut x, [2, 5, 16])?;
    plan.call(&params, &at, &at)?.add(Site::Embedding, x.reborrow(), Mode::Evaluate)?;
    Ok(x.shape())
}

/// `sinusoidal_position_encoding(seq_len=10, d_model=16)`: the table itself.
pub fn sinusoidal_position_encoding() -> Result<[usize; 2]> {
    let (seq_len, d_model) = (10, 16);
    let mut pe = vec![0.0f32; seq_len * d_model];
    sinusoid(
        &Sinusoidal::paper(),
        &Positions::range(0..10),
        ViewMut::new(&mut pe, [1, seq_len, d_model])?,
    )?;
    Ok(View::new(&pe, [seq_len, d_model])?.shape())
}

/// `RelativePositionalBias(num_heads=4, max_distance=10)` for `seq_len=6`: b(j − i), as the document's code counts.
pub fn relative_positional_bias() -> Result<[usize; 3]> {
    let (num_heads, max_distance, at) = (4, 10, Positions::range(0..6));
    let table = randn(2, (2 * max_distance + 1) * num_heads);
    let table = View::new(&table, [2 * max_distance + 1, num_heads])?;
    let mut bias = vec![0.0; num_heads * 6 * 6];
    let mut bias = ViewMut::new(&mut bias, [num_heads, 6, 6])?;
    clipped_bias(table, Direction::KeyMinusQuery, &at, &at, bias.reborrow())?;
    Ok(bias.shape())
}

/// `rotary_embedding(x, seq_len=5)` of x `[batch 2, seq_len 5, d_model 8]`, as the document's formula says: pairs (x₂ᵢ, x₂ᵢ₊₁), base 10000.
pub fn rotary_embedding() -> Result<[usize; 3]> {
    let (x, mut out) = (randn(3, 2 * 5 * 8), vec![0.0; 2 * 5 * 8]);
    let (shape, at) = ([2, 1, 5, 8], Positions::range(0..5)); // one head
    rotate(
        View::new(&x, shape)?,
        ViewMut::new(&mut out, shape)?,
        &at,
        Pairing::Interleaved,
        10_000.0,
    )?;
    Ok(View::new(&out, [2, 5, 8])?.shape())
}

/// What the document's rotary *code* computes for one head of `d` coordinates at position `pos`: cosines and sines are repeated pair by pair, but the rotated vector is
/// put together as [−odd ‖ even], so that numbers of different pairs meet. It is kept to show what goes wrong; use [`rotate`].
pub fn rotary_embedding_as_printed(x: &[f64], pos: f64, base: f64) -> Vec<f64> {
    let d = x.len();
    let odd_then_even = |c: usize| if c < d / 2 { -x[2 * c + 1] } else { x[2 * (c - d / 2)] };
    let theta = |c: usize| pos / base.powf((2 * (c / 2)) as f64 / d as f64);
    (0..d).map(|c| x[c] * theta(c).cos() + odd_then_even(c) * theta(c).sin()).collect()
}

/// The lines that the document's samples print.
pub fn printed() -> Result<[String; 4]> {
    Ok([
        format!("{:?}", learned_positional_encoding()?),
        format!("{:?}", sinusoidal_position_encoding()?),
        format!("{:?}", relative_positional_bias()?),
        format!("{:?}", rotary_embedding()?),
    ])
}

/// Prints the four shapes.
pub fn main() -> Result<()> {
    printed()?.iter().for_each(|line| println!("{line}"));
    Ok(())
}
