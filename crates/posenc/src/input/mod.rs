//! Methods that are added to the inputs of attention, before their projections.
