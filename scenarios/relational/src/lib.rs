//! Scenarios that every relational database can play. They stand here once; the catalogue of each storage takes them in.
//!
//! What a database says in words of its own stands beside the words of the others, by [`Sql`](changeproof::source::Sql).

mod basics;
mod connections;
mod keys;
pub mod load;
pub mod mutants;
pub mod random;
mod schema_evolution;
mod snapshots;
mod statements;
mod tables;
mod timestamps;
mod transactions;
mod truncate;

/// The name by which a catalogue takes these scenarios in.
pub const PACKAGE: &str = env!("CARGO_PKG_NAME");

/// What every page of scenarios begins with.
pub mod prelude {
    pub use changeproof::{
        error::Result,
        judge::FaultKind,
        row, scenario,
        scenario::{KnownFlaw, Scenario},
        schema::Type::*,
        script::*,
        source::{
            Dialect::{MySql, PostgreSql},
            Sql,
        },
    };

    /// Begins the declaration of a table.
    pub fn table(name: &str) -> TableBuilder {
        TableBuilder::new(name)
    }
}
