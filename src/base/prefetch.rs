//! Tells the processor what will be read next. Nothing but time depends on it.
//!
//! Records that are a megabyte apart come from memory, 100 ns a line, and no hardware guesses which is next. We know: while one
//! is checked, the next is on its way. So it is with tables of a million entries: what will be looked for is known some hundred
//! instructions before it is.

#![allow(unsafe_code)]

/// Octets of a line of the processor's caches.
const LINE: usize = 64;

/// Has the processor fetch these octets into its caches, without waiting for them.
#[inline]
pub fn prefetch(octets: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..octets.len()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it neither faults nor changes anything, whatever the address (Intel SDM, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(octets.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (octets, LINE);
}

/// The same for the line in which a value begins.
#[inline]
pub fn prefetch_value<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefetch_changes_nothing_and_takes_nothing_too() {
        let octets = vec![7; 1000];
        super::prefetch(&octets);
        super::prefetch(&[]);
        octets.iter().for_each(super::prefetch_value);
        assert!(octets.iter().all(|octet| *octet == 7));
    }
}
