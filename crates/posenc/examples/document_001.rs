//! The exercise of document 001: `output[n, t, :] = embedding_table[positions[n, t], :]`.
//!
//! Ids arrive as f32, as the exercise says; each is checked before a row is copied. Run it with `cargo run -p posenc --example document_001`.
use posenc::{Positions, Result, View, ViewMut, embed::lookup};

/// `positions` `(N, T)` as floats, `embedding_table` `(max_len, d_model)`; gives `(N, T, d_model)`.
pub fn learned_position_embedding(
    positions: &[f32],
    [n, t]: [usize; 2],
    embedding_table: &[f32],
    [max_len, d_model]: [usize; 2],
) -> Result<Vec<f32>> {
    let ids = Positions::strict(positions, n)?;
    let mut output = vec![0.0; n * t * d_model];
    lookup(
        &ids,
        View::new(embedding_table, [max_len, d_model])?,
        ViewMut::new(&mut output, [n, t, d_model])?,
    )?;
    Ok(output)
}

/// Prints the exercise's usual ids, any others, and two that have no row.
pub fn main() -> Result<()> {
    let table: Vec<f32> = (0..8).map(|x| x as f32).collect(); // 4 rows of 2
    println!(
        "{:?}",
        learned_position_embedding(&[0.0, 1.0, 2.0, 0.0, 1.0, 2.0], [2, 3], &table, [4, 2])?
    );
    println!("{:?}", learned_position_embedding(&[3.0, 0.0, 3.0], [1, 3], &table, [4, 2])?);
    for past in [4.0, 1.5] {
        println!("{}", learned_position_embedding(&[past], [1, 1], &table, [4, 2]).unwrap_err());
    }
    Ok(())
}
