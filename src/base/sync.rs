//! The atomics and locks of lock-free code, in one place, so that a model checker's can be put under it.
//!
//! Here they are the standard library's. `tests/models` compiles [`inbox`](super::inbox), [`mailbox`](super::mailbox) and the store's
//! directory a second time, the very files, over a module of this name whose atomics record who may see what
//! (`manual::decisions`). Lock-free code therefore names its atomics through this module, and nothing else through it.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// How many of something a table begins with. As many as said; under a model two, because a model follows every one of them.
pub(crate) const fn scaled(many: usize) -> usize {
    many
}
