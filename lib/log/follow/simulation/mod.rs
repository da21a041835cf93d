//! The followers against simulated servers, for what no real one does on demand.

mod mariadb;
mod mysql;
