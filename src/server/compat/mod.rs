//! The routes of the systems that goflow stands in for, under their own names and in their own shapes.
//! They call the same verbs as `v1`; nothing else is done here than to put one shape for another.

pub mod flows;
pub mod queue;
pub mod sagas;
pub mod tasks;
pub mod workflows;
