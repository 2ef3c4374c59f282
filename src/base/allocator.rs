//! The allocator: mimalloc, asked for what is needed.
//!
//! The crate asks mimalloc for alignment whatever the alignment is, and where a size is no power of two mimalloc then takes `align - 1` octets
//! more, to have room to shift. Its blocks are multiples of a word anyway: at 8 octets of alignment, which is nearly everything, those 7 octets are for
//! nothing, but a user's address of 40 octets came to lie in a block of 48, and 1,024 lists of 56 KiB in one of 64.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

/// Every block is aligned to this: sizes are multiples of a word (`mi_bin`), and so is where a page's first block begins.
const WORD: usize = 8;

/// What `#[global_allocator]` names in the daemon and wherever the daemon is measured.
#[derive(Clone, Copy, Default, Debug)]
pub struct Allocator;

// SAFETY: mimalloc keeps the contract of `GlobalAlloc`; what is aligned to a word or less is asked for without alignment, because every block
// is. A block may be freed and grown by either way of asking: both are of one heap, and which one is decided by the layout, which stays.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= WORD {
            // SAFETY: any size may be asked for; null says that there is no memory.
            unsafe { libmimalloc_sys::mi_malloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { mimalloc::MiMalloc.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= WORD {
            // SAFETY: as in `alloc`.
            unsafe { libmimalloc_sys::mi_zalloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, _layout: Layout) {
        // SAFETY: the caller had it from here, and so from mimalloc.
        unsafe { libmimalloc_sys::mi_free(at.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= WORD {
            // SAFETY: the caller had it from here; a block that is moved is a block again.
            unsafe { libmimalloc_sys::mi_realloc(at.cast(), size).cast() }
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { mimalloc::MiMalloc.realloc(at, layout, size) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of page that mimalloc has, at sizes that are no power of two: where the first block lies, and the ones behind it.
    #[test]
    fn what_is_asked_for_without_alignment_is_aligned_and_stays_whole_when_it_grows() {
        let sizes = (1..300).chain((0..40).flat_map(|n| [40 * 1024 + n, 57_344 + n, 100_001 + n * 9_999, 600_001 + n]));
        for size in sizes {
            for align in [1, 2, 4, 8, 16, 64, 4096] {
                let Ok(layout) = Layout::from_size_align(size, align) else { continue };
                let blocks: Vec<*mut u8> = (0..3)
                    .map(|number| {
                        // SAFETY: the size is not zero; what is written is inside.
                        unsafe {
                            let at = if number == 1 { Allocator.alloc_zeroed(layout) } else { Allocator.alloc(layout) };
                            assert!(
                                !at.is_null() && at.addr() % align == 0,
                                "{size} octets aligned to {align}: {at:?}"
                            );
                            assert!(number != 1 || (0..size).all(|octet| *at.add(octet) == 0));
                            at.write_bytes(number + 1, size);
                            at
                        }
                    })
                    .collect();
                for (number, at) in blocks.into_iter().enumerate() {
                    // SAFETY: they are of that layout, and freed once.
                    unsafe {
                        let at = Allocator.realloc(at, layout, size * 2 + 1);
                        assert!(at.addr() % align == 0);
                        assert!((0..size).all(|octet| *at.add(octet) == number as u8 + 1));
                        Allocator.dealloc(at, Layout::from_size_align_unchecked(size * 2 + 1, align));
                    }
                }
            }
        }
    }
}
