//! Changeproof captures, judges and documents the change streams of real databases.
//!
//! ```text
//! Script ──► Source (real) ──► Capture ──► Stream<Change> ──► snapshot
//!    │                                         │
//!    └─────► Model (ideal) ─────────────────► judge ──► Verdict
//! ```

pub mod binlog;
pub mod capture;
pub mod change;
pub mod connect;
pub mod dead_letters;
pub mod debezium;
pub mod error;
pub mod evidence;
pub mod foreign;
pub mod guarantees;
pub mod http;
pub mod judge;
pub mod kafka;
pub mod logical;
mod looking;
pub mod matrix;
pub mod maxwell;
pub mod model;
pub mod mysql;
mod pages;
pub mod pipeline_state;
pub mod polling;
pub mod postgres;
pub mod publication;
pub mod registry;
pub mod runner;
pub mod scenario;
pub mod schema;
pub mod script;
pub mod source;
pub mod stack;
pub mod text;
pub mod time;
pub mod transforms;
pub mod trigger;
pub mod value;
mod view;
pub mod warehouse;
pub mod workspace;

pub use change::{Change, Op};
pub use changeproof_macros::scenario;
pub use inventory;
pub use value::{Row, Value};
