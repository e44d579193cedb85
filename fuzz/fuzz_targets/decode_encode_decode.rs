//! What decodes, with its checksums made right, encodes to a fixed point.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titans_fuzz::{assert_fixed_point, with_right_checksums};

fuzz_target!(|bytes: &[u8]| {
    if let Some(file) = with_right_checksums(bytes) {
        assert_fixed_point(&file);
    }
});
