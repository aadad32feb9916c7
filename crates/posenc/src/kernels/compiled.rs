//! Kernels by type: compiled with this crate, and not once more with each crate whose code is generic over them.

use super::Present;
use super::panels::{pack_columns, pack_rows};
use super::product::{Product, product};
use super::softmax::{
    Of, RowSum, Running, add_mask, block_where, probabilities, rescale, score_gradient, soft_cap, soft_cap_gradient, softmax_step,
};
use super::turn::{Item, Own, Rows, Tables, turn_item, turn_own};
use super::unpacked::{FewScores, FewSums, few_scores, few_sums};
use crate::real::Element;

/// What attention does to tiles of an arithmetic type. Public in a private module: only f32 and f64 have it.
pub trait Compiled: Sized {
    fn product(on: Present, job: Product<'_, Self>);
    fn softmax_step(on: Present, s: &mut [Self], tile: Of, largest: Option<&[Self]>, running: Running<'_, Self>);
    fn probabilities(on: Present, s: &mut [Self], tile: Of, sums: &[RowSum<Self>]);
    fn score_gradient(on: Present, p: &[Self], dp: &mut [Self], tile: Of, delta: &[Self]);
    fn soft_cap(on: Present, s: &mut [Self], tile: Of, cap: Self);
    fn soft_cap_gradient(on: Present, ds: &mut [Self], s: &[Self], tile: Of, cap: Self);
    fn add_mask(on: Present, s: &mut [Self], mask: &[Self]);
    fn block_where(on: Present, s: &mut [Self], mask: &[bool], blocks: bool);
    fn rescale(on: Present, rows: &mut [Self], tile: Of, factors: &[Self]);
    fn pack_columns(on: Present, rows: &[Self], ld: usize, shape: [usize; 2], panel: &mut [Self]);
    fn pack_rows(rows: &[Self], ld: usize, shape: [usize; 2], panels: &mut [Self], panel: usize);
    fn turn_own(on: Present, tables: Own<'_, Self>, rows: &mut [Self], ld: usize, tokens: usize);
}

macro_rules! compiled {
    ($t:ty) => {
        impl Compiled for $t {
            fn product(on: Present, job: Product<'_, $t>) {
                product(on, job);
            }
            fn softmax_step(on: Present, s: &mut [$t], tile: Of, largest: Option<&[$t]>, running: Running<'_, $t>) {
                softmax_step(on, s, tile, largest, running);
            }
            fn probabilities(on: Present, s: &mut [$t], tile: Of, sums: &[RowSum<$t>]) {
                probabilities(on, s, tile, sums);
            }
            fn score_gradient(on: Present, p: &[$t], dp: &mut [$t], tile: Of, delta: &[$t]) {
                score_gradient(on, p, dp, tile, delta);
            }
            fn soft_cap(on: Present, s: &mut [$t], tile: Of, cap: $t) {
                soft_cap(on, s, tile, cap);
            }
            fn soft_cap_gradient(on: Present, ds: &mut [$t], s: &[$t], tile: Of, cap: $t) {
                soft_cap_gradient(on, ds, s, tile, cap);
            }
            fn add_mask(on: Present, s: &mut [$t], mask: &[$t]) {
                add_mask(on, s, mask);
            }
            fn block_where(on: Present, s: &mut [$t], mask: &[bool], blocks: bool) {
                block_where(on, s, mask, blocks);
            }
            fn rescale(on: Present, rows: &mut [$t], tile: Of, factors: &[$t]) {
                rescale(on, rows, tile, factors);
            }
            fn pack_columns(on: Present, rows: &[$t], ld: usize, shape: [usize; 2], panel: &mut [$t]) {
                pack_columns(on, rows, ld, shape, panel);
            }
            fn pack_rows(rows: &[$t], ld: usize, shape: [usize; 2], panels: &mut [$t], panel: usize) {
                pack_rows(rows, ld, shape, panels, panel);
            }
            fn turn_own(on: Present, tables: Own<'_, $t>, rows: &mut [$t], ld: usize, tokens: usize) {
                turn_own(on, tables, rows, ld, tokens);
            }
        }
    };
}

compiled!(f32);
compiled!(f64);

/// What is done to rows of a stored type where they lie. Public in a private module: only the types of storage have it.
pub trait CompiledStored: Sized {
    fn turn_item(on: Present, tables: &Tables<'_, Self::Real>, from: Rows<*const Self>, to: Rows<*mut Self>, item: Item)
    where
        Self: Element;
    fn few_scores(on: Present, job: FewScores<'_, Self>)
    where
        Self: Element;
    fn few_sums(on: Present, job: FewSums<'_, Self>)
    where
        Self: Element;
}

macro_rules! compiled_stored {
    ($($t:ty),*) => {
        $(impl CompiledStored for $t {
            fn turn_item(on: Present, tables: &Tables<'_, <$t as Element>::Real>, from: Rows<*const $t>, to: Rows<*mut $t>, item: Item) {
                turn_item(on, tables, from, to, item);
            }
            fn few_scores(on: Present, job: FewScores<'_, $t>) {
                few_scores(on, job);
            }
            fn few_sums(on: Present, job: FewSums<'_, $t>) {
                few_sums(on, job);
            }
        })*
    };
}

compiled_stored!(f32, f64, half::f16, half::bf16);
