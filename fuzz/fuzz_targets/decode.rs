//! No bytes make a reader panic or allocate past its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use titans_fuzz::limits;
use titans_store::{ImportRules, ShardId, decode, import_untrusted, inspect};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes, &limits());
    let _ = inspect(bytes);
    let rules = ImportRules {
        limits: limits(),
        ..ImportRules::new([0; 32], &[])
    };
    let _ = import_untrusted(bytes, ShardId([0; 16]), &rules);
});
