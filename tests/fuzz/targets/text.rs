//! What operators and other programs write as text: files of sums, option files, keys, sizes, names, logs of the server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::crypt::key;
use xb::crypt::keyring::Keyring;
use xb::server::mariadb::ddl_log;
use xb::server::{messages, options};
use xb::stream::name;
use xb::stream::pick::Patterns;
use xb::sum::{Algorithm, List};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = List::parse("x", bytes) {
        // What is written is what was read, if the algorithms are known for sure.
        let sums = list.stream.iter().chain(list.members.iter().flat_map(|(_, member)| &member.sums));
        assert!(sums.clone().all(|sum| !Algorithm::of_digits(sum.len()).is_empty()));
        let all = [Algorithm::Sha1; 64];
        if list.stream.len() <= all.len() {
            assert_eq!(List::parse("x", &list.write(&all)).unwrap(), list);
        }
    }
    if let Ok(key) = key::parse(bytes) {
        assert!(matches!(key.length(), 16 | 24 | 32));
    }
    assert!(Keyring::parse(bytes).is_ok_and(|ring| ring.key("").is_none()) || !bytes.is_empty());
    if let Ok(clean) = name::clean(bytes) {
        assert_eq!(name::clean(&clean).as_deref(), Ok(&*clean));
        assert!(!clean.starts_with(b"/") && clean.split(|byte| *byte == b'/').all(|part| part != b".."));
    }
    let named = ddl_log::Named::parse(bytes);
    named.has(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(size) = text.parse::<xb::cli::Size>() {
        assert_eq!(format!("{}", size.0).parse(), Ok(size));
    }
    if let Ok(seconds) = text.parse::<xb::cli::Seconds>() {
        assert!(seconds.0.as_secs() <= 86_400 && !seconds.0.is_zero());
    }
    for line in text.lines() {
        options::line(line);
        messages::parse(line);
    }
    if let Ok(patterns) = Patterns::new(&[text.to_owned()]) {
        patterns.picks(b"db/t.ibd");
    }
});
