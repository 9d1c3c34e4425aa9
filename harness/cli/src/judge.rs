//! `cdc judge`: every scenario, captured by a program of the user's own.

use std::{num::NonZeroUsize, path::PathBuf};

use anstyle::{AnsiColor, Style};
use changeproof::{
    binlog::NativeBinlog,
    capture::{CAPTURE, Capture, Options},
    error::{Error, Result},
    foreign::{ForeignCapture, GET_READY, PROGRAM},
    guarantees::{Granularity, Guarantees, Values},
    judge::Verdict,
    mysql::Flavour,
    runner::Catalogue,
    scenario::{Definition, Outcome, Scenario},
    source::Dialect,
    stack::Stack,
    workspace::Workspace,
};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, stream};

use crate::{attempt::Storage, exit::Failure, progress::Progress};

/// Judge a program of your own that captures changes, by all scenarios
///
/// A connector that writes elsewhere than to its standard output, such as to Kafka, is judged by a program that reads what it writes.
/// Scenarios are left out that have a meaning for the book's own methods only: settings, triggers, polling, slots, publications of a part.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The database whose scenarios to run
    #[arg(long, value_enum, default_value = "postgres", value_name = "STORAGE")]
    on: Database,
    /// The program, as a command for `sh -c`: it writes each change as a JSON line to its standard output
    #[arg(long, value_name = "COMMAND")]
    capture: String,
    /// What the program promises, as a JSON file [default: what the database's log, read without loss, can give]
    #[arg(long, value_name = "FILE")]
    guarantees: Option<PathBuf>,
    /// A scenario to run; give it again for more of them [default: all; `cdc list` has their names]
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// How many scenarios run at a time, each on a database of its own
    #[arg(long, value_name = "NUMBER", default_value = "4")]
    jobs: NonZeroUsize,
}

/// The storages that a program can capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Database {
    /// PostgreSQL
    Postgres,
    /// MySQL, with a binary log of rows
    #[value(name = "mysql")]
    MySql,
    /// MariaDB, with a binary log of rows
    #[value(name = "mariadb")]
    MariaDb,
}

impl From<Database> for Storage {
    fn from(database: Database) -> Self {
        match database {
            Database::Postgres => Self::Postgres,
            Database::MySql => Self::MySql,
            Database::MariaDb => Self::MariaDb,
        }
    }
}

const AFTER_HELP: &str = "\
The program is started once for each scenario, and told by its environment what to capture: CHANGEPROOF_URL (a connection \
string), CHANGEPROOF_SLOT (a name for a replication slot, or for whatever it makes), on PostgreSQL CHANGEPROOF_PUBLICATION \
(of all tables; it exists), on MySQL and MariaDB CHANGEPROOF_SERVER_ID (a replica's, of its own), CHANGEPROOF_SNAPSHOT (`initial` \
or `no_data`), CHANGEPROOF_FOLDER (for what it must remember), CHANGEPROOF_DATABASE and CHANGEPROOF_CONTAINER.

It writes {\"type\":\"ready\"} once whatever is committed from then on will be delivered, and then a line for each change:
  {\"type\":\"change\",\"op\":\"insert\",\"table\":\"public.t\",\"key\":{\"id\":1},\"before\":null,\"after\":{\"id\":1},\"tx\":\"7\"}
To be stopped it gets SIGTERM, and later perhaps SIGKILL; started again with CHANGEPROOF_RESUME=1 it goes on where it was.

harness/cli/README.md has all fields, and those of the guarantees.

Exit codes: 0 all promises kept, 1 a promise broken or the program failed, 2 the command line or a file is wrong or the \
program doesn't get ready, 3 a service failed, 130 interrupted.";

/// What came of a scenario: an outcome, or the program's failure.
type Judged = (&'static Definition, Result<Outcome>);

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, built: &[&'static Catalogue]) -> Result<(), Failure> {
    let catalogue = Storage::from(arguments.on).catalogue(built)?;
    // It lives as long as the process, as other methods do.
    let storage = catalogue.methods.first().map(|method| method.storage());
    let (storage, dialect) = storage.and_then(|storage| Some((storage, storage.dialect()?))).ok_or_else(|| {
        Failure::input(format!("a program can't capture {}, but a relational database", catalogue.title()))
    })?;
    let guarantees = read_guarantees(arguments, dialect)?;
    let method: &'static ForeignCapture =
        Box::leak(Box::new(ForeignCapture::new(&arguments.capture, guarantees, storage)));
    let scenarios = choose(arguments, catalogue, method)?;

    let progress = Progress::start();
    progress.say(&format!("starting {}", storage.title()));
    let stack = tokio::select! {
        stack = Stack::acquire(method.services()) => stack?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    progress.say(&format!("running {} scenarios by `{}`", scenarios.len(), arguments.capture));
    let judged = tokio::select! {
        judged = judge_all(scenarios, method, arguments.jobs) => judged,
        () = crate::exit::interrupted() => Err(Failure::Interrupted),
    };
    // The programs are gone with their scenarios; databases of scenarios that were cut short are still there.
    let removed = Workspace::remove_stale(&stack, method).await;
    let judged = judged?;
    removed?;
    summarise(&judged);
    progress.done(&stack);
    let is_kept = |outcome: &Result<Outcome>| outcome.as_ref().is_ok_and(|outcome| !outcome.verdict.is_broken());
    match judged.iter().all(|(_, outcome)| is_kept(outcome)) {
        true => Ok(()),
        false => Err(Failure::BrokenPromise),
    }
}

/// What the log of a database gives, read without loss.
fn default_guarantees(dialect: Dialect) -> Guarantees {
    match dialect {
        Dialect::PostgreSql => Guarantees::default(),
        // A program can look up which numbers are truth values.
        Dialect::MySql => {
            let of_the_log = NativeBinlog(Flavour::MySql).guarantees(&Options::default());
            Guarantees { initial_snapshot: true, values: Values::AS_STORED, ..of_the_log }
        }
    }
}

/// The default, with what the file says in its place.
fn read_guarantees(arguments: &Arguments, dialect: Dialect) -> Result<Guarantees, Failure> {
    let default = default_guarantees(dialect);
    let Some(file) = &arguments.guarantees else { return Ok(default) };
    let wrong = |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let given: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let mut stated = serde_json::to_value(default).map_err(|error| wrong(&error))?;
    stated.as_object_mut().into_iter().for_each(|stated| stated.extend(given.clone()));
    let guarantees: Guarantees = serde_json::from_value(stated).map_err(|error| wrong(&error))?;
    if guarantees.granularity != Granularity::EachChange {
        let why = "a program that looks from time to time can't be judged from outside, since nobody knows when it has \
                   looked; a method in Rust can: see “Judge your own connector” in README.md";
        return Err(wrong(&why));
    }
    Ok(guarantees)
}

fn choose(
    arguments: &Arguments,
    catalogue: &Catalogue,
    method: &dyn Capture,
) -> Result<Vec<&'static Definition>, Failure> {
    let all = catalogue.scenarios();
    if arguments.scenarios.is_empty() {
        return Ok(all.into_iter().filter(|scenario| scenario.applies_to(method)).collect());
    }
    let find = |name: &String| {
        let found = all.iter().find(|scenario| scenario.name == name).copied();
        let found = found.ok_or_else(|| Failure::input(format!("no scenario `{name}`; `cdc list` has their names")))?;
        match found.applies_to(method) {
            true => Ok(found),
            false => Err(Failure::input(format!("`{name}` has no meaning for a program: {}", found.why))),
        }
    };
    arguments.scenarios.iter().map(find).collect()
}

/// Runs the first scenario alone, since a wrong command fails in each, and then several at a time.
async fn judge_all(
    scenarios: Vec<&'static Definition>,
    method: &'static ForeignCapture,
    jobs: NonZeroUsize,
) -> Result<Vec<Judged>, Failure> {
    let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    let examine = |scenario: &'static Definition| async move { (scenario, Scenario::examine(scenario, method).await) };
    let (first, rest) = scenarios.split_at(scenarios.len().min(1));
    let first = stream::iter(first.to_vec()).then(examine);
    let rest = stream::iter(rest.to_vec()).map(examine).buffer_unordered(jobs.get());
    let mut running = std::pin::pin!(first.chain(rest));
    let mut judged: Vec<Judged> = Vec::new();
    while let Some((scenario, outcome)) = running.next().await {
        let outcome = match outcome {
            Err(error) if judged.is_empty() && is_programs(&error) && error.action() == GET_READY => {
                return Err(Failure::input(error.to_string()));
            }
            Err(error) if !is_programs(&error) => return Err(error.into()),
            outcome => outcome,
        };
        print(scenario, &outcome, width);
        judged.push((scenario, outcome));
    }
    Ok(judged)
}

/// Whether the program is to blame: what it did failed, or it fell silent.
fn is_programs(error: &Error) -> bool {
    matches!(error.service(), PROGRAM | CAPTURE)
}

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// A scenario's verdict on one line, as soon as it is there.
fn print(scenario: &Definition, outcome: &Result<Outcome>, width: usize) {
    let name = scenario.name;
    let (style, verdict) = match outcome {
        Ok(Outcome { verdict: Verdict::Broken { faults }, .. }) => {
            let mut kinds: Vec<_> = faults.iter().map(|fault| fault.kind).collect();
            kinds.sort_unstable();
            let counted = kinds.chunk_by(|a, b| a == b).map(|kind| format!("{} ({}×)", kind[0], kind.len()));
            (RED, format!("broken: {}", counted.collect::<Vec<_>>().join("; ")))
        }
        Ok(outcome) => (GREEN, outcome.verdict.to_string()),
        Err(error) => (RED, format!("failed: {}", error.to_string().lines().next().unwrap_or_default())),
    };
    anstream::println!("  {name:width$}  {style}{verdict}{style:#}");
}

/// The faults of each broken promise with the stream that shows them, and how many scenarios came out how.
fn summarise(judged: &[Judged]) {
    let [mut exact, mut guaranteed, mut broken, mut failed] = [0; 4];
    for (scenario, outcome) in judged {
        let name = scenario.name;
        match outcome {
            Ok(Outcome { verdict: Verdict::Exact, .. }) => exact += 1,
            Ok(Outcome { verdict: Verdict::Broken { faults }, page }) => {
                broken += 1;
                anstream::println!("\n{RED}{name}{RED:#}");
                faults.iter().for_each(|fault| anstream::println!("  {}: {}", fault.kind, fault.detail));
                anstream::println!("  the stream:");
                page.lines().skip(1).for_each(|line| anstream::println!("    {line}"));
            }
            Ok(_) => guaranteed += 1,
            Err(error) => {
                failed += 1;
                anstream::println!("\n{RED}{name}{RED:#}\n  {error}");
            }
        }
    }
    let all = judged.len();
    anstream::println!(
        "\n{all} scenarios: {exact} exact, {guaranteed} as guaranteed, {broken} broken, {failed} failed"
    );
}
