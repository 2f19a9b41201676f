// Copyright 2019 Octavian Oncescu

#![no_std]

//! A drop-in global allocator wrapper around the [mimalloc](https://github.com/microsoft/mimalloc) allocator.
//! Mimalloc is a general purpose, performance oriented allocator built by Microsoft.
//!
//! ## Usage
//! ```rust,ignore
//! use mimalloc::MiMalloc;
//!
//! #[global_allocator]
//! static GLOBAL: MiMalloc = MiMalloc;
//! ```
//!
//! ## Usage with secure mode
//! Using secure mode adds guard pages,
//! randomized allocation, encrypted free lists, etc. The performance penalty is usually
//! around 10% according to [mimalloc's](https://github.com/microsoft/mimalloc)
//! own benchmarks.
//!
//! To enable secure mode, put in `Cargo.toml`:
//! ```toml
//! [dependencies]
//! mimalloc = { version = "*", features = ["secure"] }
//! ```

extern crate libmimalloc_sys as ffi;

#[cfg(feature = "extended")]
mod extended;

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use ffi::*;

/// Drop-in mimalloc global allocator.
///
/// ## Usage
/// ```rust,ignore
/// use mimalloc::MiMalloc;
///
/// #[global_allocator]
/// static GLOBAL: MiMalloc = MiMalloc;
/// ```
pub struct MiMalloc;

/// Every block is aligned to this, as far as it is as large: mimalloc's `MI_MAX_ALIGN_SIZE`, that of `max_align_t`.
#[cfg(target_pointer_width = "64")]
const NATURAL_ALIGN: usize = 16;
#[cfg(not(target_pointer_width = "64"))]
const NATURAL_ALIGN: usize = 8;

/// Up to this a block whose size is a power of two is aligned to its size: mimalloc's `MI_PAGE_MAX_START_BLOCK_ALIGN2`.
const NATURAL_POWER_OF_TWO: usize = 4096;

/// Whether any block of `size` is aligned to `align`.
#[inline]
const fn is_natural(size: usize, align: usize) -> bool {
    align <= NATURAL_ALIGN && align <= size
}

/// The size to ask for where more than the natural alignment is asked for.
#[inline]
const fn aligned_size(size: usize, align: usize) -> usize {
    if align <= size && size <= NATURAL_POWER_OF_TWO {
        size.next_power_of_two()
    } else {
        size
    }
}

unsafe impl GlobalAlloc for MiMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_natural(size, align) {
            mi_malloc(size) as *mut u8
        } else {
            mi_malloc_aligned(aligned_size(size, align), align) as *mut u8
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_natural(size, align) {
            mi_zalloc(size) as *mut u8
        } else {
            mi_zalloc_aligned(aligned_size(size, align), align) as *mut u8
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        mi_free(ptr as *mut c_void);
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let align = layout.align();
        if is_natural(new_size, align) {
            mi_realloc(ptr as *mut c_void, new_size) as *mut u8
        } else {
            mi_realloc_aligned(ptr as *mut c_void, aligned_size(new_size, align), align) as *mut u8
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_frees_allocated_memory() {
        unsafe {
            let layout = Layout::from_size_align(8, 8).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc(layout);
            alloc.dealloc(ptr, layout);
        }
    }

    #[test]
    fn it_frees_allocated_big_memory() {
        unsafe {
            let layout = Layout::from_size_align(1 << 20, 32).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc(layout);
            alloc.dealloc(ptr, layout);
        }
    }

    #[test]
    fn it_frees_zero_allocated_memory() {
        unsafe {
            let layout = Layout::from_size_align(8, 8).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc_zeroed(layout);
            alloc.dealloc(ptr, layout);
        }
    }

    #[test]
    fn it_frees_zero_allocated_big_memory() {
        unsafe {
            let layout = Layout::from_size_align(1 << 20, 32).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc_zeroed(layout);
            alloc.dealloc(ptr, layout);
        }
    }

    #[test]
    fn it_frees_reallocated_memory() {
        unsafe {
            let layout = Layout::from_size_align(8, 8).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc(layout);
            let ptr = alloc.realloc(ptr, layout, 16);
            alloc.dealloc(ptr, layout);
        }
    }

    #[test]
    fn it_frees_reallocated_big_memory() {
        unsafe {
            let layout = Layout::from_size_align(1 << 20, 32).unwrap();
            let alloc = MiMalloc;

            let ptr = alloc.alloc(layout);
            let ptr = alloc.realloc(ptr, layout, 2 << 20);
            alloc.dealloc(ptr, layout);
        }
    }

    const SIZES: [usize; 20] = [
        1,
        2,
        7,
        8,
        9,
        15,
        16,
        17,
        24,
        40,
        100,
        384,
        520,
        1000,
        1024,
        1025,
        4096,
        4097,
        13_400,
        1 << 20,
    ];

    /// What the two constants above say of mimalloc, and what a layout asks for: for blocks that lie beside each other, new and reused.
    #[test]
    fn every_block_is_as_aligned_as_it_must_be() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192] {
            for size in SIZES {
                let layout = Layout::from_size_align(size, align).unwrap();
                for _ in 0..2 {
                    let blocks = [(); 40].map(|()| unsafe {
                        let (plain, zeroed) =
                            (MiMalloc.alloc(layout), MiMalloc.alloc_zeroed(layout));
                        assert!(!plain.is_null() && !zeroed.is_null());
                        assert_eq!(plain as usize % align, 0, "{size} bytes");
                        assert_eq!(zeroed as usize % align, 0, "{size} zeroed bytes");
                        for at in 0..size {
                            assert_eq!(*zeroed.add(at), 0);
                        }
                        plain.write_bytes(0xa5, size);
                        zeroed.write_bytes(0x5a, size);
                        [plain, zeroed]
                    });
                    for [plain, zeroed] in blocks {
                        unsafe {
                            for at in [0, size / 2, size - 1] {
                                assert_eq!((*plain.add(at), *zeroed.add(at)), (0xa5, 0x5a));
                            }
                            MiMalloc.dealloc(plain, layout);
                            MiMalloc.dealloc(zeroed, layout);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_alignment_and_content() {
        for align in [1, 8, 16, 64, 128, 4096] {
            for from in SIZES {
                for to in SIZES {
                    unsafe {
                        let layout = Layout::from_size_align(from, align).unwrap();
                        let ptr = MiMalloc.alloc(layout);
                        for at in 0..from {
                            ptr.add(at).write(at as u8);
                        }
                        let ptr = MiMalloc.realloc(ptr, layout, to);
                        assert_eq!(ptr as usize % align, 0, "{from} to {to} bytes");
                        for at in 0..from.min(to) {
                            assert_eq!(*ptr.add(at), at as u8);
                        }
                        let layout = Layout::from_size_align(to, align).unwrap();
                        MiMalloc.dealloc(ptr, layout);
                    }
                }
            }
        }
    }
}
