//! Change data capture of PostgreSQL, scenario by scenario: those of all relational databases, and its own.

mod basics;
mod failover;
mod keys;
mod options;
mod publications;
mod schema_evolution;
mod slots;
mod statements;
mod tables;
mod toast;
mod truncate;
mod types;
mod values;

use std::process::ExitCode;

pub use self::values::TYPES;

use changeproof::{
    capture::Capture, debezium::DebeziumPostgres, logical::LogicalReplication, polling::TimestampPolling,
    runner::Catalogue, trigger::AuditTrigger,
};

/// The scenarios of PostgreSQL and the methods that capture it.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "postgres",
    packages: &[scenarios_relational::PACKAGE, env!("CARGO_PKG_NAME")],
    methods: &[&DebeziumPostgres, &LogicalReplication, &AuditTrigger, &TimestampPolling],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/postgres")),
    versions: &["15", "18"],
    readme: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")),
};

/// Runs all scenarios by methods of another crate, as [`conformance!`](crate::conformance) does: the body of the `main`
/// of a test target with `harness = false`.
pub fn run(methods: &'static [&'static dyn Capture], snapshots: Option<&'static str>) -> ExitCode {
    changeproof::runner::main(Catalogue { methods, snapshots, versions: &[], readme: None, ..CATALOGUE })
}

/// Makes a test target (with `harness = false`) of all scenarios, by a method of your own: `conformance!(MyMethod);`.
///
/// Each scenario is a test `METHOD::SCENARIO`, judged by what the method's guarantees promise. With `snapshots = "FOLDER"`,
/// relative to your crate, the pages are compared too: `conformance!(MyMethod, snapshots = "snapshots");`.
#[macro_export]
macro_rules! conformance {
    (@main $method:expr, $snapshots:expr) => {
        fn main() -> ::std::process::ExitCode {
            const METHODS: &[&dyn $crate::changeproof::capture::Capture] = &[&$method];
            $crate::run(METHODS, $snapshots)
        }
    };
    ($method:expr $(,)?) => {
        $crate::conformance!(@main $method, ::core::option::Option::None);
    };
    ($method:expr, snapshots = $folder:literal $(,)?) => {
        $crate::conformance!(
            @main $method,
            ::core::option::Option::Some(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", $folder))
        );
    };
}

#[doc(hidden)]
pub use changeproof;

/// What every page of scenarios begins with.
mod prelude {
    pub(crate) use changeproof::publication::publication;
    pub(crate) use scenarios_relational::prelude::*;
}
