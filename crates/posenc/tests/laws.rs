//! Every encoding of the library under the laws of `posenc::laws`, in layers that differ in more than the encoding: grouped heads, soft cap, window, dropout.

use posenc::rotate::{Axes, Scaling, Slice, XPos, Yarn};
use posenc::{
    Alibi, Attention, Call, ClippedBias, Deberta, DebertaProjections, Dims, Direction, Encoding, Error, Fire, InputTable, Kerple, Learned,
    LogCpb, Method, MusicTransformer, Overflow, Pairing, ParamSpec, Params, Plan, Positions, Real, Rotary, Sandwich, Scope, SharedBias,
    Shaw, SinusoidLayout, Sinusoidal, SwinBias, T5Bias, Temperature, TransformerXl, Window, XlNet, laws,
};

/// Four query heads of 4 coordinates over two key heads.
fn dims() -> Dims {
    Dims {
        model_dim: 6,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
    }
}

fn plan(method: impl Into<Method>) -> Plan {
    Encoding::none().with(method).plan(dims()).unwrap()
}

laws! { none: Encoding::none().plan(dims()).unwrap() }
laws! { none_capped_and_windowed: (
    Encoding::none().plan(dims()).unwrap(),
    Attention { softcap: Some(2.0), window: Some(Window { left: Some(3), right: None }), scale: Some(0.7), dropout: 0.3, ..Attention::default() },
) => [adjoint_matches_differences, fused_equals_naive] }

// Chunks run through a packed row, so documents that begin within one are cut elsewhere than alone: one law less.
laws! { chunked_and_tempered: (
    Encoding::from(Rotary::new(Pairing::Halves)).with(Shaw::new(2)).with(Alibi::new()).plan(dims()).unwrap(),
    Attention { chunk: Some(4), temperature: Some(Temperature::llama4(0.7, 3.0)), ..Attention::default() },
) => [
    adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding, left_padded_equals_unpadded, batch_order_is_irrelevant, threads_do_not_matter
] }
laws! { none_tempered: (
    Encoding::none().plan(dims()).unwrap(),
    Attention { temperature: Some(Temperature::log_n(3.0)), ..Attention::default() },
) }

laws! { learned: plan(Learned::new(256)) }

laws! { rotary_halves: plan(Rotary::new(Pairing::Halves)) }
laws! { rotary_interleaved: plan(Rotary::new(Pairing::Interleaved).with_base(100.0)) }
laws! { rotary_partial: plan(Rotary::new(Pairing::Halves).with_rotary_dim(2)) }
laws! { rotary_yarn: plan(Rotary::new(Pairing::Halves).with_scaling(Scaling::Yarn(Yarn::new(4.0, 8)))) }
laws! { rotary_linear: plan(Rotary::new(Pairing::Interleaved).with_scaling(Scaling::Linear { factor: 2.5 })) }
laws! { rotary_dynamic: plan(Rotary::new(Pairing::Halves).with_scaling(Scaling::Dynamic { factor: 4.0, original_len: 3 })) => [
    adjoint_matches_differences, fused_equals_naive, batch_order_is_irrelevant, threads_do_not_matter
] }
laws! { rotary_written_as_halves: plan(Rotary::new(Pairing::InterleavedToHalves)) }
laws! { rotary_halves_twice: plan(Rotary::new(Pairing::HalvesTwice)) }
laws! { rotary_trailing: plan(Rotary { slice: Slice::Trailing, ..Rotary::new(Pairing::Halves).with_rotary_dim(2) }) }
laws! { rotary_reversed: plan(Rotary { reversed: true, ..Rotary::new(Pairing::Halves) }) }
laws! { rotary_proportional: plan(Rotary::new(Pairing::Halves).with_scaling(Scaling::Proportional { partial: 0.5, factor: 1.0 })) }
laws! { rotary_of_several_axes: plan(Rotary { axes: Axes::Chunked { sections: vec![1, 1] }, ..Rotary::new(Pairing::Halves) }) }
laws! { rotary_xpos: plan(Rotary::new(Pairing::Interleaved).with_decay(XPos { scale_base: 20.0, center: 5.0 })) }
laws! { rotary_xpos_fades_with_distance_only: plan(Rotary::new(Pairing::Halves).with_decay(XPos::new())) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { rotary_across_heads: Encoding::from(Rotary { across_heads: true, ..Rotary::new(Pairing::Interleaved) }).plan(Dims::new(12, 3).unwrap()).unwrap() }
laws! { rotary_is_relative: plan(Rotary::new(Pairing::Halves)) => [rotation_preserves_norms, scores_depend_on_distance_only, ids_equal_ranges] }

laws! { alibi: plan(Alibi::new()) }
laws! { alibi_is_relative: plan(Alibi::new()) => [scores_depend_on_distance_only, ids_equal_ranges] }

laws! { learned_concatenated: plan(Learned::new(256).concatenated(3)) }
laws! { learned_dropped_and_interpolated: plan(Learned::new(5).with_overflow(Overflow::Interpolate).with_dropout(0.3)) => [
    adjoint_matches_differences, batch_order_is_irrelevant
] }
laws! { sinusoidal: plan(Sinusoidal::paper()) }
laws! { sinusoidal_concatenated_and_dropped: plan(Sinusoidal::paper().concatenated(5).with_dropout(0.2)) }
laws! { input_table: plan(InputTable::new(256)) }
laws! { input_table_projected: Encoding::from(InputTable::new(256).projected()).plan(Dims::new(8, 2).unwrap()).unwrap() }
laws! { shaw: plan(Shaw::new(3)) }
laws! { shaw_keys_only: plan(Shaw::keys_only(3)) }
laws! { shaw_nearer_after_the_query: plan(Shaw::new(3).with_max_after(1)) }
laws! { shaw_is_relative: plan(Shaw::new(3)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { music_transformer: plan(MusicTransformer::new(256)) }
laws! { music_transformer_clamped: plan(MusicTransformer::new(3).with_overflow(Overflow::Clamp)) => [
    adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding
] }
laws! { music_transformer_is_relative: plan(MusicTransformer::new(16)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { transformer_xl: plan(TransformerXl::paper()) }
laws! { transformer_xl_conformer: plan(TransformerXl::conformer()) }
laws! { transformer_xl_clamped: plan(TransformerXl::new(SinusoidLayout::SinFirst, true).with_clamp_len(2).with_scope(Scope::Model)) => [
    adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding
] }
laws! { transformer_xl_is_relative: plan(TransformerXl::conformer()) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { xlnet: plan(XlNet::new()) }
laws! { xlnet_is_relative: plan(XlNet::new().with_clamp_len(5)) => [scores_depend_on_distance_only, ids_equal_ranges] }

/// XLNet with segments of three positions each, the second axis.
struct Segmented(Plan);

impl laws::Subject for Segmented {
    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        self.0.parameters().to_vec()
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>, Error> {
        let segmented = |at: &Positions| {
            let segment = |b, t| at.get(0, b, t).map_or(0, |id| id as i64 / 3);
            let ids: Vec<i64> = (0..at.batch()).flat_map(|b| (0..at.len()).map(move |t| segment(b, t))).collect();
            at.clone().with_axis(&Positions::whole_rows(&ids, at.batch())?)
        };
        self.0.call(params, &segmented(q_at)?, &segmented(k_at)?)
    }
}

laws! { xlnet_with_segments: Segmented(plan(XlNet::new())) }
laws! { deberta: plan(Deberta::new(4, DebertaProjections::V2)) }
laws! { deberta_first: plan(Deberta::new(256, DebertaProjections::V1)) => [adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding] }
laws! { deberta_shared: (plan(Deberta::new(20, DebertaProjections::Shared).with_buckets(6)), Deberta::new(20, DebertaProjections::Shared).attention(4)) }
laws! { deberta_c2p: plan(Deberta::new(3, DebertaProjections::Shared).with_terms(true, false)) => [adjoint_matches_differences, fused_equals_naive] }
laws! { deberta_p2c: plan(Deberta::new(3, DebertaProjections::Shared).with_terms(false, true)) => [adjoint_matches_differences, fused_equals_naive] }
laws! { deberta_is_relative: plan(Deberta::new(4, DebertaProjections::V2)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { alibi_symmetric: plan(Alibi::symmetric()) }
laws! { clipped: plan(ClippedBias::new(3, Direction::KeyMinusQuery)) }
laws! { clipped_the_other_way: plan(ClippedBias::new(3, Direction::QueryMinusKey)) => [adjoint_matches_differences, fused_equals_naive] }
laws! { clipped_is_relative: plan(ClippedBias::new(3, Direction::KeyMinusQuery)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { shared: plan(SharedBias::new(3)) }
laws! { shared_is_relative: plan(SharedBias::new(3)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { t5_decoder: plan(T5Bias::decoder().with_buckets(8, 20)) }
laws! { t5_encoder: plan(T5Bias::encoder()) }
laws! { t5_is_relative: plan(T5Bias::decoder().with_buckets(8, 20)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { t5_capped: (plan(T5Bias::encoder()), Attention { softcap: Some(3.0), dropout: 0.2, ..Attention::unscaled() }) => [
    adjoint_matches_differences, fused_equals_naive
] }
laws! { kerple_log: plan(Kerple::log()) }
laws! { kerple_power: plan(Kerple::power().with_scope(Scope::Layer)) }
laws! { kerple_is_relative: plan(Kerple::log()) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { sandwich: plan(Sandwich::new()) }
laws! { sandwich_is_relative: plan(Sandwich::new().with_width(16)) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { fire: plan(Fire::new().with_hidden(6).with_length(4.0)) }
laws! { fire_of_the_model: plan(Fire::new().with_length(16.0).with_scope(Scope::Model)) => [ids_equal_ranges, fused_equals_naive, prefill_equals_decoding] }
laws! { swin_in_one_row: plan(SwinBias::new([1, 256])) }
laws! { swin_in_one_row_is_relative: plan(SwinBias::new([1, 64])) => [scores_depend_on_distance_only, ids_equal_ranges] }
laws! { log_cpb_in_one_row: plan(LogCpb::new([1, 5]).with_hidden(4)) }
laws! { log_cpb_in_one_row_is_relative: plan(LogCpb::new([1, 64]).with_hidden(4)) => [scores_depend_on_distance_only, ids_equal_ranges] }

/// Positions as the cells of rows of sixteen, on two axes.
struct OnGrid(Plan);

impl laws::Subject for OnGrid {
    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn parameters(&self) -> Vec<ParamSpec> {
        self.0.parameters().to_vec()
    }

    fn call<'p, R: Real>(&self, params: &'p Params<R>, q_at: &Positions, k_at: &Positions) -> Result<Call<'p, R>, Error> {
        let cells = |at: &Positions| {
            let of = |cell: fn(i64) -> i64| {
                let each = |b, t| at.get(0, b, t).map_or(0, |id| cell(id as i64));
                let ids: Vec<i64> = (0..at.batch()).flat_map(|b| (0..at.len()).map(move |t| each(b, t))).collect();
                let flags: Vec<bool> = (0..at.batch())
                    .flat_map(|b| (0..at.len()).map(move |t| at.get(0, b, t).is_some()))
                    .collect();
                Positions::whole_rows(&ids, at.batch())?.with_presence_rows(&flags, at.batch())
            };
            of(|id| id.div_euclid(16))?.with_axis(&of(|id| id.rem_euclid(16))?)
        };
        self.0.call(params, &cells(q_at)?, &cells(k_at)?)
    }
}

laws! { swin: OnGrid(plan(SwinBias::new([16, 16]))) }
laws! { log_cpb: OnGrid(plan(LogCpb::new([3, 4]).with_hidden(5))) }
laws! { several_projected: Encoding::from(TransformerXl::paper()).with(Learned::new(256)).with(Deberta::new(3, DebertaProjections::V2)).plan(dims()).unwrap() => [
    adjoint_matches_differences, fused_equals_naive, prefill_equals_decoding
] }
laws! { several_at_once: Encoding::from(Learned::new(256)).with(Rotary::new(Pairing::Halves)).with(Shaw::new(2)).with(Alibi::new()).plan(dims()).unwrap() }
