//! Every encoding of the library under the laws of `posenc::laws`, in layers that differ in more than the encoding: grouped heads, soft cap, window, dropout.

use posenc::{Alibi, Attention, Dims, Encoding, Learned, Method, Pairing, Plan, Rotary, laws};

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
    Attention { softcap: Some(2.0), window: Some(4), scale: Some(0.7), dropout: 0.3 },
) => [adjoint_matches_differences, fused_equals_naive] }

laws! { learned: plan(Learned::new(32)) }

laws! { rotary_halves: plan(Rotary::new(Pairing::Halves)) }
laws! { rotary_interleaved: plan(Rotary::new(Pairing::Interleaved).with_base(100.0)) }
laws! { rotary_partial: plan(Rotary::new(Pairing::Halves).with_rotary_dim(2)) }
laws! { rotary_is_relative: plan(Rotary::new(Pairing::Halves)) => [scores_depend_on_distance_only, ids_equal_ranges] }

laws! { alibi: plan(Alibi::new()) }
laws! { alibi_is_relative: plan(Alibi::new()) => [scores_depend_on_distance_only, ids_equal_ranges] }
