//! Sizes as operators write them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(size) = text.parse::<xb::cli::Size>() {
        assert_eq!(format!("{}", size.0).parse(), Ok(size));
    }
});
