//! PURE: a header value that takes one allocation, together with the count of those who share it.
//!
//! A value that is made of a `Vec` takes a second allocation once it is cloned, for the count, and both are rounded up to a size
//! of the allocator's. With a hundred thousand tokens in the cache that is 3 MB for nothing. So a token is copied into a block
//! whose size is one of the allocator's already, with the count in front of it. The block is overwritten when the last
//! who shares it lets go.

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroize;

/// The bytes of a value and what is left of the block.
struct Block<const SIZE: usize> {
    length: usize,
    bytes: [u8; SIZE],
}

/// What stands in a block beside the bytes: the count, and the length.
const BESIDE: usize = 16;

// === impl Block ===

impl<const SIZE: usize> Block<SIZE> {
    fn of(value: &[u8]) -> Bytes {
        let mut block = Self {
            length: value.len(),
            bytes: [0; SIZE],
        };
        block.bytes[..value.len()].copy_from_slice(value);
        Bytes::from_owner(block)
    }
}

impl<const SIZE: usize> AsRef<[u8]> for Block<SIZE> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const SIZE: usize> Drop for Block<SIZE> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// The same value in a block of its own. Values that are longer than any token stay as they are.
pub(super) fn slim(value: HeaderValue) -> HeaderValue {
    let Some(bytes) = block(value.as_bytes()) else {
        return value;
    };
    match HeaderValue::from_maybe_shared(bytes) {
        Ok(mut slim) => {
            slim.set_sensitive(value.is_sensitive());
            slim
        }
        Err(_) => value,
    }
}

/// Chooses among the sizes that mimalloc has: four for each doubling.
fn block(value: &[u8]) -> Option<Bytes> {
    macro_rules! smallest {
        ($($size:literal)*) => {
            match value.len() {
                $(length if length <= $size - BESIDE => Some(Block::<{ $size - BESIDE }>::of(value)),)*
                _ => None,
            }
        };
    }
    smallest!(128 160 192 224 256 320 384 448 512 640 768 896 1024 1280 1536 1792 2048 2560 3072 3584 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_the_same_whatever_its_length() {
        for length in (0..5000).step_by(7).chain([112, 113, 624, 625, 4080, 4081]) {
            for sensitive in [true, false] {
                let mut value = HeaderValue::from_bytes(&vec![b'x'; length]).unwrap();
                value.set_sensitive(sensitive);
                let slim = slim(value.clone());
                assert_eq!((&slim, slim.is_sensitive()), (&value, sensitive));
                let shared = slim.clone();
                drop(slim);
                assert_eq!(shared, value);
            }
        }
    }

    #[test]
    fn a_block_is_as_large_as_one_of_the_allocator() {
        assert_eq!(
            size_of::<Block<{ 640 - BESIDE }>>() + size_of::<usize>(),
            640
        );
    }
}
