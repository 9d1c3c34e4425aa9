//! `cdc replicate` and `cdc check`: a database of the user's own, and tables of Iceberg that follow it.

#[cfg(feature = "iceberg")]
mod check;
#[cfg(feature = "iceberg")]
mod metrics;
#[cfg(feature = "iceberg")]
mod replicate;
#[cfg(feature = "iceberg")]
mod side_by_side;

use clap::{Args, ValueEnum};

use crate::exit::Failure;

/// What to do with a value that Iceberg has no place for: NaN in a decimal, infinity, a year before Christ in a date, an array of
/// arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Misfit {
    /// Stop, and say which value it is
    Refuse,
    /// Write NULL: the value is lost
    Null,
}

/// The two ends of a pipeline.
#[derive(Args, Debug)]
struct Ends {
    /// The database: postgres://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=verify-full or another mode of TLS if it has to be
    #[arg(long, value_name = "URL", env = "CDC_FROM", hide_env_values = true)]
    from: String,
    /// Where the tables are: a folder, which gets a catalog in SQLite, or the address of a REST catalog, http://HOST:PORT
    #[arg(long, value_name = "FOLDER|URI", env = "CDC_TO")]
    to: String,
    /// Which of the REST catalog's warehouses
    #[arg(long, value_name = "NAME")]
    warehouse: Option<String>,
    /// What the names of the sink's namespaces begin with, before two underscores, in a REST catalog that others use too
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// The publication that says which tables and rows are meant: CREATE PUBLICATION changeproof FOR TABLE a, b
    ///
    /// PostgreSQL refuses every UPDATE and DELETE of a published table that has neither a primary key nor another replica identity; a
    /// publication FOR ALL TABLES does that to each such table of the database. README.md has a query that finds them.
    #[arg(long, value_name = "NAME", default_value = "changeproof")]
    publication: String,
    /// What to do with a value that Iceberg has no place for
    #[arg(long, value_enum, default_value = "refuse")]
    misfit: Misfit,
}

/// Keep tables of Apache Iceberg as those of a PostgreSQL database are
///
/// They are copied first, and then follow every commit, exactly once, until Ctrl-C. Started again, it goes on where the tables stand. A
/// table of the source is one of the same name, in the namespace of its schema.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct ReplicateArguments {
    #[command(flatten)]
    ends: Ends,
    /// The replication slot, which is made if there is none, and keeps the server's log while nobody reads it
    #[arg(long, value_name = "NAME", default_value = "changeproof")]
    slot: String,
    /// Make the slot one that standbys get, so that the replication goes on at one of them after a failover (PostgreSQL 17)
    ///
    /// The standby is to have sync_replication_slots on, and the server to name the standby's slot in synchronized_standby_slots.
    #[arg(long)]
    failover: bool,
    /// Commit at least every so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    every: u64,
    /// Commit earlier once so many changes are waiting
    #[arg(long, value_name = "CHANGES", default_value_t = 100_000)]
    at_most: usize,
    /// Make few files of a table's small ones, and of its delete files, when there are more than this
    #[arg(long, value_name = "FILES", default_value_t = 100)]
    compact_above: u64,
    /// Let a table's snapshots expire that are older, and remove the files that only they have
    ///
    /// The table's properties history.expire.max-snapshot-age-ms, history.expire.min-snapshots-to-keep and gc.enabled have precedence. Files
    /// that stay, because the program was killed or the storage doesn't let them be removed, an engine's remove_orphan_files finds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    keep_snapshots: u64,
    /// Go on trying for so long while the source, the catalog or the storage doesn't answer
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    retry_for: u64,
    /// Answer Prometheus at http://HOST:PORT/metrics; at port 0 it is one that is free, which is told
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<std::net::SocketAddr>,
    /// Stop when everything is in the sink that was committed before the program was started
    #[arg(long)]
    once: bool,
}

/// Compare the tables of a PostgreSQL database with those of Apache Iceberg
///
/// Names the rows that differ, and exits with 1 if there are any. Compare when nothing is under way: let writers pause, and the replication
/// catch up, or run it with --once.
#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    ends: Ends,
    /// How the sink holds the rows
    #[arg(long, value_enum, default_value_t = LayoutName::Rows)]
    layout: LayoutName,
}

/// How a sink holds the rows of a table.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum LayoutName {
    /// as rows: `cdc replicate`
    Rows,
    /// as rows, with the column `_lsn`: the pipeline of Spark
    Merged,
    /// as the changes of them, with the column `_cdc`: Iceberg's sink for Kafka Connect
    Changelog,
}

/// Run a file of SQL, and show what three pipelines to Apache Iceberg make of it
///
/// It runs on a throw-away PostgreSQL. The pipelines are Debezium, Kafka and Spark Structured Streaming; Debezium, Kafka and Iceberg's sink
/// for Kafka Connect; and the direct one of `cdc replicate`. Tells how long after the last commit each sink holds everything, what its
/// tables hold, and how much memory each service has had. Exits with 1 if a pipeline has failed.
#[derive(Args, Debug)]
pub(crate) struct PipelinesArguments {
    /// The file; see `cdc try --help` for what it may hold
    file: std::path::PathBuf,
}

const AFTER_HELP: &str = "\
The server must run with wal_level=logical, and have two replication slots and WAL senders to spare. The user needs REPLICATION, USAGE \
on the schemas and SELECT on the tables. A table needs a primary key, or REPLICA IDENTITY USING INDEX: one without can be inserted into \
and truncated, and PostgreSQL refuses to update it or delete from it once it is published, unless it is REPLICA IDENTITY FULL.

Access to S3 is taken from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL; a catalog's token \
from ICEBERG_REST_TOKEN.

While the program doesn't run the slot keeps the server's log, and in the end fills its disk; max_slot_wal_keep_size limits that, and \
beyond it all tables have to be copied anew. To give the replication up: SELECT pg_drop_replication_slot('changeproof').

Exit codes: 0 it was ended by Ctrl-C or has done what --once asks, 2 the command line is wrong, 3 the source, the catalog or the storage \
failed or refused, 130 interrupted before it had begun.";

/// Runs `cdc replicate`.
#[cfg(feature = "iceberg")]
pub(crate) async fn replicate(arguments: &ReplicateArguments) -> Result<(), Failure> {
    replicate::run(arguments).await
}

/// Runs `cdc pipelines`.
#[cfg(feature = "iceberg")]
pub(crate) async fn pipelines(arguments: &PipelinesArguments) -> Result<(), Failure> {
    side_by_side::run(arguments).await
}

#[cfg(not(feature = "iceberg"))]
pub(crate) async fn pipelines(_arguments: &PipelinesArguments) -> Result<(), Failure> {
    std::future::ready(Err(Failure::built_without("iceberg", ", so it has no sink"))).await
}

/// Runs `cdc check`.
#[cfg(feature = "iceberg")]
pub(crate) async fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    check::run(arguments).await
}

#[cfg(not(feature = "iceberg"))]
pub(crate) async fn replicate(_arguments: &ReplicateArguments) -> Result<(), Failure> {
    std::future::ready(Err(Failure::built_without("iceberg", ", so it has no sink"))).await
}

#[cfg(not(feature = "iceberg"))]
pub(crate) async fn check(_arguments: &CheckArguments) -> Result<(), Failure> {
    std::future::ready(Err(Failure::built_without("iceberg", ", so it has no sink"))).await
}

#[cfg(feature = "iceberg")]
impl Ends {
    fn address(&self) -> changeproof::error::Result<changeproof::postgres::Address> {
        changeproof::postgres::Address::from_url(&self.from)
    }

    async fn sink(&self) -> changeproof::error::Result<changeproof_iceberg::Warehouse> {
        use changeproof_iceberg::{RestSettings, Warehouse};
        if !self.to.contains("://") {
            return Warehouse::open(std::path::Path::new(&self.to)).await;
        }
        let settings = RestSettings {
            uri: self.to.clone(),
            warehouse: self.warehouse.clone(),
            token: std::env::var("ICEBERG_REST_TOKEN").ok(),
            s3: changeproof::warehouse::S3Settings::from_environment(),
        };
        Warehouse::connect(&settings, self.prefix.as_deref()).await
    }

    fn misfit(&self) -> changeproof_pipelines::Misfit {
        match self.misfit {
            Misfit::Refuse => changeproof_pipelines::Misfit::Refuse,
            Misfit::Null => changeproof_pipelines::Misfit::Null,
        }
    }
}
