//! Tests the followers against simulated servers, for cases that a real server does not produce on demand.

mod mariadb;
mod mysql;
