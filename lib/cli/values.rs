//! The values that options choose from, in the words of the command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::io::cache::Policy;
use crate::server::address::Protocol;
use crate::server::tls::Mode;
use crate::snap::LockDdl;
use crate::sum::Algorithm;

/// One row for each value: its name, and what `--help` says of it.
macro_rules! values {
    ($type:ident { $($variant:ident = $name:literal, $help:literal;)* }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$($type::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $($type::$variant => PossibleValue::new($name).help($help)),*
                })
            }
        }
    };
}

values!(Policy {
    Auto = "auto", "From the cache what is in it, past the cache what is not";
    Direct = "direct", "Past the cache";
    Drop = "drop", "Through the cache; from the first miss on, the rest of a file is dropped again, also what was in the cache before";
    Keep = "keep", "Through the cache, which keeps it";
});

values!(Protocol {
    Tcp = "tcp", "A port of a host";
    Socket = "socket", "A socket of this host";
});

values!(Mode {
    Disabled = "disabled", "Not encrypted";
    Preferred = "preferred", "Encrypted by TCP, if the server offers it";
    Required = "required", "Encrypted, or no connection";
    VerifyCa = "verify_ca", "So, and the server's certificate is issued by an authority of --ssl-ca or --ssl-capath";
    VerifyIdentity = "verify_identity", "So, and the certificate is made for this host";
});

values!(LockDdl {
    Early = "early", "Blocked from the start";
    End = "end", "Free until a short lock at the end, under which what changed is copied again";
    Off = "off", "Free; a backup during which tables changed is not valid";
});

values!(Algorithm {
    Sha1 = "sha1", "As sha1sum";
    Sha256 = "sha256", "As sha256sum";
    Sha512 = "sha512", "As sha512sum";
    Blake3 = "blake3", "As b3sum";
    Crc32 = "crc32", "As crc32 and gzip: against accidents only";
    Md5 = "md5", "As md5sum: against accidents only";
    Xxh3 = "xxh3", "As xxhsum -H3, 64 bits: against accidents only";
});
