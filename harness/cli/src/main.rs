//! cdc: change data capture, tried on real systems.

mod attempt;
mod changes;
mod dlq;
mod exit;
mod generate;
mod judge;
mod list;
mod matrix;
mod pipeline;
mod progress;
mod services;
mod sql_file;
mod state;

use std::process::ExitCode;

use changeproof::runner::Catalogue;
use clap::{CommandFactory, Parser, Subcommand};
use mimalloc::MiMalloc;
use scenarios_postgres::CATALOGUE;

use self::exit::Failure;

/// What is captured are many small values, which the system's allocator takes several times as long for.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Change data capture, tried on real systems: what does each method make of your changes?
#[derive(Parser)]
#[command(name = "cdc", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A variant's doc comment takes the place of that of its arguments, whose first paragraph is otherwise what the list of commands has.
#[derive(Subcommand)]
enum Command {
    /// Run a SQL file of your own and see what each capture method makes of it
    Try(attempt::Arguments),
    Judge(judge::Arguments),
    /// Print the changes of an existing table of Apache Iceberg or Delta Lake
    ///
    /// Of Iceberg they are those between two snapshots, with deletes by position, by value and by vector; of Delta Lake those between two
    /// versions, as its Change Data Feed tells them.
    Changes(changes::Arguments),
    Replicate(pipeline::ReplicateArguments),
    Check(pipeline::CheckArguments),
    Pipelines(pipeline::PipelinesArguments),
    Dlq(dlq::Arguments),
    State(state::Arguments),
    /// List storages, methods and scenarios, with the services and memory they need
    List,
    /// Print what each method makes of each scenario, as the pages on record say
    Matrix(matrix::Arguments),
    /// Start services and leave them running, to play by hand
    Up(services::UpArguments),
    /// Remove the services that `cdc up` or CHANGEPROOF_KEEP=1 left running
    Down,
    /// Show the services that are running, and how to reach them
    Ps,
    /// Remove containers, networks and volumes that a crash has left behind
    Sweep,
    /// Write rows of the shop that fixtures/ describes
    Generate(generate::Arguments),
    /// Write the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    changeproof::stack::run_guard_if_asked();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::input(error.to_string()).report(),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The storages that this program was built with.
fn catalogues() -> Vec<&'static Catalogue> {
    vec![
        &CATALOGUE,
        &scenarios_mysql::CATALOGUE,
        &scenarios_mysql::MARIADB,
        #[cfg(feature = "iceberg")]
        &scenarios_iceberg::CATALOGUE,
        #[cfg(feature = "delta")]
        &scenarios_delta::CATALOGUE,
    ]
}

/// Those, and what begins or ends in one of them.
fn on_record() -> Vec<&'static Catalogue> {
    let further: [&'static Catalogue; _] = [
        &scenarios_connect::CATALOGUE,
        #[cfg(feature = "iceberg")]
        &scenarios_pipelines::CATALOGUE,
    ];
    catalogues().into_iter().chain(further).collect()
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Try(arguments) => attempt::run(&arguments, &catalogues()).await,
        Command::Judge(arguments) => judge::run(&arguments, &catalogues()).await,
        Command::Changes(arguments) => changes::run(&arguments).await,
        Command::Replicate(arguments) => pipeline::replicate(&arguments).await,
        Command::Check(arguments) => pipeline::check(&arguments).await,
        Command::Dlq(arguments) => dlq::run(&arguments).await,
        Command::State(arguments) => state::run(&arguments).await,
        Command::Pipelines(arguments) => pipeline::pipelines(&arguments).await,
        Command::List => {
            list::print(&on_record());
            Ok(())
        }
        Command::Matrix(arguments) => matrix::run(&arguments, &on_record()),
        Command::Up(arguments) => services::up(&arguments).await,
        Command::Down | Command::Sweep => services::remove().await,
        Command::Ps => services::ps().await,
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cdc", &mut std::io::stdout());
            Ok(())
        }
    }
}
