//! to be written
use crate::real::Real;
use crate::view::{View, ViewMut};
/// q k v
pub struct Inputs<'a, T> {
    /// q
    pub q: View<'a, T, 4>,
    /// k
    pub k: View<'a, T, 4>,
    /// v
    pub v: View<'a, T, 4>,
}
/// grads
pub struct Grads<'a, T> {
    /// dq
    pub dq: ViewMut<'a, T, 4>,
    /// dk
    pub dk: ViewMut<'a, T, 4>,
    /// dv
    pub dv: ViewMut<'a, T, 4>,
}
/// saved
pub struct Saved<R>(Vec<R>);
/// work
pub struct Workspace<R>(Vec<R>);
/// slots
pub struct Slots<R> {
    data: Vec<Vec<R>>,
}
impl<R: Real> Slots<R> {
    /// slots of a term
    pub fn term(&self, i: usize) -> &[R] {
        &self.data[i]
    }
}
