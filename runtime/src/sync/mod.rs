//! Small building blocks for the tasks of one core: no locks, nothing crosses a thread.

pub(crate) mod combine;
pub(crate) mod notify;
pub mod oneshot;
