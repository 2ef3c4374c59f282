//! Loom's atomics, with a shadow beside each.
//!
//! Loom decides which interleavings differ by the last access to an atomic, and a load of one's own hides the load of another from a
//! later write: a thread that looks, then swaps, was never tried before a thread that only looks. So every step here first
//! stores to a shadow that nobody ever reads. The stores conflict, so loom tries both orders of any two steps at one
//! atomic; and a store that is never read tells nobody anything: what may be seen stays what the orderings say.

use loom::sync::atomic as model;
pub use loom::sync::atomic::{Ordering, fence};

macro_rules! atomic {
    ($name:ident, $model:ident, $value:ty) => {
        /// Of this width.
        #[derive(Debug)]
        pub struct $name {
            inner: model::$model,
            shadow: model::AtomicU8,
        }

        impl $name {
            /// With this value.
            pub fn new(value: $value) -> $name {
                $name { inner: model::$model::new(value), shadow: model::AtomicU8::new(0) }
            }

            fn step(&self) -> &model::$model {
                self.shadow.store(0, Ordering::Relaxed);
                &self.inner
            }

            /// As the standard library's.
            pub fn load(&self, order: Ordering) -> $value {
                self.step().load(order)
            }

            /// As the standard library's.
            pub fn store(&self, value: $value, order: Ordering) {
                self.step().store(value, order);
            }

            /// As the standard library's.
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.step().swap(value, order)
            }

            /// As the standard library's.
            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.step().compare_exchange(old, new, success, failure)
            }

            /// As the standard library's; never fails without a reason.
            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, success, failure)
            }

            /// As the standard library's.
            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut old = self.load(failure);
                while let Some(new) = change(old) {
                    match self.compare_exchange(old, new, success, failure) {
                        Ok(old) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }
        }
    };
}

macro_rules! counting {
    ($name:ident, $value:ty) => {
        impl $name {
            /// As the standard library's.
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.step().fetch_add(value, order)
            }

            /// As the standard library's.
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.step().fetch_sub(value, order)
            }

            /// As the standard library's.
            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.step().fetch_max(value, order)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new(0)
            }
        }
    };
}

atomic!(AtomicBool, AtomicBool, bool);
atomic!(AtomicU16, AtomicU16, u16);
atomic!(AtomicU32, AtomicU32, u32);
atomic!(AtomicU64, AtomicU64, u64);
atomic!(AtomicUsize, AtomicUsize, usize);
counting!(AtomicU16, u16);
counting!(AtomicU32, u32);
counting!(AtomicU64, u64);
counting!(AtomicUsize, usize);

impl Default for AtomicBool {
    fn default() -> Self {
        AtomicBool::new(false)
    }
}
