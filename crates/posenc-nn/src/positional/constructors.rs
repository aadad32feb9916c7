//! The modules of the documents by their names: thin, over [`PositionalMultiheadAttention::new`].

use super::PositionalMultiheadAttention;
use crate::attention::Projections;
use crate::error::Result;
use posenc::{Alibi, Attention, Deberta, InputTable, Pairing, Rotary, SharedBias, T5Bias};

impl PositionalMultiheadAttention {
    /// A learned table of `max_len` rows (the largest position plus one), begun with zeros, added to the inputs of queries and keys: [`InputTable`].
    ///
    /// Parameters: `pos_emb` `[max_len, embed_dim]`, `attn.in_proj_weight`, `attn.in_proj_bias`, `attn.out_proj.weight`, `attn.out_proj.bias`.
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or no rows.
    #[doc(alias = "AdditivePosMultiheadAttention")]
    pub fn additive_pos(embed_dim: usize, num_heads: usize, max_len: usize) -> Result<PositionalMultiheadAttention> {
        PositionalMultiheadAttention::new(&InputTable::new(max_len).into(), embed_dim, num_heads)
    }

    /// A number per distance, clipped at ±`max_distance`, begun with zeros, shared by all heads and subtracted from the scores: [`SharedBias`].
    ///
    /// Parameters: `rel_bias` `[2·max_distance + 1]`, then as [`PositionalMultiheadAttention::additive_pos`].
    ///
    /// ```
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let module = PositionalMultiheadAttention::additive_rel(8, 2, 4)?;
    /// assert_eq!(module.specs()[0].name, "rel_bias");
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or a distance past 2^30.
    #[doc(alias = "AdditiveRelMultiheadAttention")]
    pub fn additive_rel(embed_dim: usize, num_heads: usize, max_distance: usize) -> Result<PositionalMultiheadAttention> {
        PositionalMultiheadAttention::new(&SharedBias::new(max_distance).into(), embed_dim, num_heads)
    }

    /// Queries and keys turned, neighbouring coordinates paired: [`Rotary`]. `base` is 10000 in symm-learning's module and 100 in the models built on it.
    ///
    /// Parameters: `q_proj.weight`, `q_proj.bias`, and so on for `k_proj`, `v_proj`, `out_proj`.
    ///
    /// ```
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let module = PositionalMultiheadAttention::rope(8, 2, 10_000.0)?;
    /// assert_eq!(module.specs()[0].name, "q_proj.weight");
    /// assert!(PositionalMultiheadAttention::rope(6, 2, 10_000.0).is_err()); // heads of 3 have no pairs
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Widths that are zero or do not divide, heads of an odd width, or a base that is not a positive number.
    #[doc(alias = "RoPEMultiheadAttention")]
    #[doc(alias = "RopeMultiheadAttention")]
    pub fn rope(embed_dim: usize, num_heads: usize, base: f64) -> Result<PositionalMultiheadAttention> {
        let rotary = Rotary::new(Pairing::Interleaved).with_base(base);
        Ok(PositionalMultiheadAttention::new(&rotary.into(), embed_dim, num_heads)?.with_projections(Projections::SEPARATE))
    }

    /// A penalty per head that grows with the distance: [`Alibi`]. For an encoder give [`PositionalMultiheadAttention::new`] an [`Alibi::symmetric`].
    ///
    /// Parameters: those of the projections, as [`PositionalMultiheadAttention::additive_pos`] has them. openlanguagemodel's module has no biases by default
    /// ([`PositionalMultiheadAttention::without_bias`]) and is causal by default; here causality is an argument of the call.
    ///
    /// # Errors
    /// Widths that are zero or do not divide.
    #[doc(alias = "AlibiMultiheadAttention")]
    #[doc(alias = "MultiHeadAttentionwithALiBi")]
    pub fn alibi(embed_dim: usize, num_heads: usize) -> Result<PositionalMultiheadAttention> {
        PositionalMultiheadAttention::new(&Alibi::new().into(), embed_dim, num_heads)
    }

    /// T5's attention: a number per head and bucket of distances ([`T5Bias::encoder`] or [`T5Bias::decoder`], or another), scores that are not scaled,
    /// projections without biases.
    ///
    /// Parameters: the bias's table, then `q.weight`, `k.weight`, `v.weight`, `o.weight`.
    ///
    /// ```
    /// use posenc::T5Bias;
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let module = PositionalMultiheadAttention::t5(8, 2, T5Bias::encoder())?;
    /// let names: Vec<String> = module.specs().into_iter().map(|spec| spec.name).collect();
    /// assert_eq!(names, ["relative_attention_bias.weight", "q.weight", "k.weight", "v.weight", "o.weight"]);
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or buckets that make no sense.
    #[doc(alias = "T5MultiheadAttention")]
    #[doc(alias = "T5Attention")]
    pub fn t5(embed_dim: usize, num_heads: usize, bias: T5Bias) -> Result<PositionalMultiheadAttention> {
        let module = PositionalMultiheadAttention::new(&bias.into(), embed_dim, num_heads)?;
        Ok(module
            .with_attention(Attention::unscaled())
            .with_projections(Projections::T5)
            .without_bias())
    }

    /// DeBERTa's disentangled attention ([`Deberta`]), with the scale that belongs to its terms, 1/√(head_dim · (1 + terms)): the constructor for any encoding leaves
    /// it at 1/√head_dim.
    ///
    /// Parameters: the table of distances, then the projections under the names of Hugging Face's models, and those of the table where it has its own.
    ///
    /// ```
    /// use posenc::{Deberta, DebertaProjections};
    /// use posenc_nn::PositionalMultiheadAttention;
    /// let module = PositionalMultiheadAttention::deberta(8, 2, Deberta::new(512, DebertaProjections::Shared))?;
    /// assert_eq!(module.attn.attention.scale, Some(1.0 / 12f64.sqrt())); // heads of 4, three terms
    /// # Ok::<(), posenc_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Widths that are zero or do not divide, or distances that make no sense.
    #[doc(alias = "DisentangledSelfAttention")]
    pub fn deberta(embed_dim: usize, num_heads: usize, deberta: Deberta) -> Result<PositionalMultiheadAttention> {
        const NAMES: Projections = Projections::Separate(["query_proj", "key_proj", "value_proj", "out_proj"]);
        let module = PositionalMultiheadAttention::new(&deberta.clone().into(), embed_dim, num_heads)?;
        let attention = deberta.attention(module.attn.dims.head_dim);
        Ok(module.with_attention(attention).with_projections(NAMES))
    }
}
