//! Change data capture of MySQL, scenario by scenario: those of all relational databases, and its own.

mod beside;
mod failover;
mod images;
mod log;
mod logged_statements;
mod mariadb;
mod online;
mod options;
mod partitions;
mod statements;
mod tables;
mod timestamps;
mod types;

use changeproof::{
    binlog::NativeBinlog,
    debezium::DebeziumMySql,
    maxwell::Maxwell,
    mysql::Flavour::{MariaDb, MySql},
    polling::MySqlTimestampPolling,
    runner::Catalogue,
};

/// The scenarios of MySQL and the methods that capture it.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "mysql",
    packages: &[scenarios_relational::PACKAGE, env!("CARGO_PKG_NAME")],
    methods: &[&DebeziumMySql(MySql), &NativeBinlog(MySql), &MySqlTimestampPolling(MySql)],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/mysql")),
    versions: &[],
    readme: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")),
};

/// The scenarios of MariaDB, nearly all of MySQL's, and the methods that capture it.
pub const MARIADB: Catalogue = Catalogue {
    storage: "mariadb",
    methods: &[&DebeziumMySql(MariaDb), &NativeBinlog(MariaDb), &Maxwell, &MySqlTimestampPolling(MariaDb)],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/mariadb")),
    ..CATALOGUE
};

/// What every page of scenarios begins with.
mod prelude {
    pub(crate) use changeproof::schema::Type;
    pub(crate) use scenarios_relational::prelude::*;

    /// A type as MySQL spells it.
    pub(crate) fn other(name: &str) -> Type {
        Other(name.to_owned())
    }
}
