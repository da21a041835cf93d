//! Sizes: parsing and printing.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// A number of bytes: `10m`, `1.5Gi`, `512k`, `100MB`.
///
/// As in pv, `k K m M g G t T` are powers of 1024, with or without an `i`; with a `B` and no `i` (`kB`, `MB`) they
/// are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The size in bytes, if it is between both; otherwise `option` has a wrong value.
    pub fn within(self, option: &str, least: usize, most: usize) -> Result<usize> {
        let bytes = usize::try_from(self.0).unwrap_or(usize::MAX);
        if (least..=most).contains(&bytes) {
            return Ok(bytes);
        }
        let (least, most) = (human(least as u64), human(most as u64));
        Err(Error::usage(option, format_args!("{} bytes; {least} to {most} are possible", self.0)))
    }
}

const GRAMMAR: &str = "want a number with an optional suffix: k, m, g, t (1024), Ki, Mi (1024), kB, MB (1000)";

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a size; {GRAMMAR}");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let unit: u64 = match suffix {
            "" | "B" => 1,
            "k" | "K" | "Ki" | "ki" | "KiB" => 1 << 10,
            "m" | "M" | "Mi" | "MiB" => 1 << 20,
            "g" | "G" | "Gi" | "GiB" => 1 << 30,
            "t" | "T" | "Ti" | "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(fault()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || (number.contains('.') && (whole.is_empty() || fraction.is_empty())) {
            return Err(fault());
        }
        let whole: u64 = whole.parse().map_err(|_| fault())?;
        let mut bytes = whole.checked_mul(unit).ok_or_else(|| format!("{text:?} is too large"))?;
        if !fraction.is_empty() {
            // Nine digits are exact enough for a terabyte, and cannot overflow 128 bits.
            let digits = fraction.get(..fraction.len().min(9)).ok_or_else(fault)?;
            let value: u128 = digits.parse().map_err(|_| fault())?;
            let scale = 10u128.pow(u32::try_from(digits.len()).map_err(|_| fault())?);
            let part = u64::try_from(value * u128::from(unit) / scale).map_err(|_| fault())?;
            bytes = bytes.checked_add(part).ok_or_else(|| format!("{text:?} is too large"))?;
        }
        Ok(Size(bytes))
    }
}

/// A time span: `2`, `0.5`; from a hundredth of a second to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
        let seconds = seconds.ok_or_else(|| format!("{text:?} is not a number of seconds, 0.01 to 86400"))?;
        Ok(Seconds(Duration::from_secs_f64(seconds)))
    }
}

/// Bytes for people: binary units, always with `i`.
pub fn human(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_what_pv_means_by_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1k", 1024),
            ("1K", 1024),
            ("10m", 10 << 20),
            ("1.5Gi", 3 << 29),
            ("100MB", 100_000_000),
            ("0.5k", 512),
            ("2t", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "k", "1.", ".5", "1x", "-1", "1 k", "1e3", "99999999999999999999", "99999999t", "1.2.3"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
