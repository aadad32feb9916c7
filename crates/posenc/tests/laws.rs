//! Every encoding of the library under the laws of `posenc::laws`, in layers that differ in more than the encoding: grouped heads, soft cap, window, dropout.

use posenc::rotate::{Axes, Scaling, Slice, Yarn};
use posenc::{
    Alibi, Attention, ClippedBias, Dims, Direction, Encoding, InputTable, Learned, Method, Overflow, Pairing, Plan, Rotary, SharedBias,
    Shaw, Sinusoidal, T5Bias, Window, laws,
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
    Attention { softcap: Some(2.0), window: Some(Window { left: Some(3), right: None }), scale: Some(0.7), dropout: 0.3, sinks: false },
) => [adjoint_matches_differences, fused_equals_naive] }

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
laws! { shaw_is_relative: plan(Shaw::new(3)) => [scores_depend_on_distance_only, ids_equal_ranges] }
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
laws! { several_at_once: Encoding::from(Learned::new(256)).with(Rotary::new(Pairing::Halves)).with(Shaw::new(2)).with(Alibi::new()).plan(dims()).unwrap() }
