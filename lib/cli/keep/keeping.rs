//! Rules of retention, as they are typed.

use clap::Args;

use crate::keep::retention::{Rules, Within};

/// Rules of retention; without any those of the settings.
#[derive(Args, Clone, Debug)]
pub(super) struct Keeping {
    /// Keep the last N sets: a full backup with its increments
    #[arg(long, value_name = "N")]
    pub(super) keep_last: Option<u32>,
    /// Keep the newest set of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub(super) keep_hourly: Option<u32>,
    /// The same for days
    #[arg(long, value_name = "N")]
    pub(super) keep_daily: Option<u32>,
    /// The same for weeks
    #[arg(long, value_name = "N")]
    pub(super) keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N")]
    pub(super) keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N")]
    pub(super) keep_yearly: Option<u32>,
    /// Keep all sets with a backup that is not older than this, counted back from the newest one: 2y5m7d3h
    #[arg(long, value_name = "SPAN")]
    pub(super) keep_within: Option<Within>,
}

impl From<Keeping> for Rules {
    fn from(keeping: Keeping) -> Rules {
        Rules {
            keep_last: keeping.keep_last,
            keep_hourly: keeping.keep_hourly,
            keep_daily: keeping.keep_daily,
            keep_weekly: keeping.keep_weekly,
            keep_monthly: keeping.keep_monthly,
            keep_yearly: keeping.keep_yearly,
            keep_within: keeping.keep_within,
        }
    }
}
