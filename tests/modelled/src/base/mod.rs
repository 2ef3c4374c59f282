//! The room `base`, as far as it is modelled.

#[path = "../../../../src/base/inbox.rs"]
pub mod inbox;
#[path = "../../../../src/base/mailbox.rs"]
pub mod mailbox;
#[path = "../../../../src/base/net.rs"]
pub mod net;
#[path = "../../../../src/base/prefetch.rs"]
pub mod prefetch;
#[path = "../../../../src/base/spread.rs"]
pub mod spread;

/// In the place of the daemon's `base::epochs`: a model has one owner, so one set of epochs is enough.
pub mod epochs {
    use crate::epoch::{self, Guard};

    /// Epochs.
    #[derive(Debug, Default)]
    pub struct Epochs;

    impl Epochs {
        /// Nobody has entered yet.
        pub fn new() -> Epochs {
            Epochs
        }

        /// Holds back what is given back from now on.
        pub fn pin(&self) -> Guard {
            epoch::pin()
        }
    }
}

/// In the place of the daemon's `base::sync`.
pub mod sync {
    pub use crate::atomics::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
    pub use loom::sync::Mutex;

    /// Two of everything: a model follows every one of them.
    pub const fn scaled(many: usize) -> usize {
        if many < 2 { many } else { 2 }
    }
}
