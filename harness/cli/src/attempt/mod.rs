//! `cdc try`: any SQL, captured by every method, judged by what the database holds in the end.

mod execute;
mod json;
mod outcome;
mod text;

use std::path::PathBuf;

use changeproof::{
    capture::{Capture, Options},
    error::Result,
    postgres,
    runner::Catalogue,
    source::Place,
    stack::{Service, Stack},
    workspace::Workspace,
};
use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;

use self::{
    execute::{Execution, Watcher},
    outcome::{Attempt, MethodOutcome},
};
use crate::{
    exit::Failure,
    progress::Progress,
    sql_file::{self, Statement},
};

/// The storages that a file can be tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// PostgreSQL
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: the streams under the statements that caused them
    Text,
    /// For programs: one JSON object a line
    Json,
}

/// Tries a SQL file of your own.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The SQL file; it runs statement by statement on an empty throw-away database
    file: PathBuf,
    /// The storage to run it on
    #[arg(long, value_enum, default_value = "postgres")]
    on: Storage,
    /// A method to capture by; give it again for more of them [default: all there are]
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// How to print what came out
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Go on after a statement that fails, as psql does
    #[arg(long)]
    keep_going: bool,
}

const AFTER_HELP: &str = "\
A comment `-- session: b` on a line before a statement runs that statement on another connection, named b, so that \
transactions can be interleaved. A statement that waits for a lock of another session is left waiting until a later \
statement frees it. A comment `-- poll` before a statement lets polling look before it; it also looks at the end.

Each method captures a database of its own, on which the file runs. Each stream is folded into tables, which must equal what the database holds at the end. What the method, as it \
promises, does not tell is named as a loss; anything else that differs is a broken promise.

Exit codes: 0 all promises kept, 1 a promise broken, 2 the file or the command line is wrong, 3 a service failed, \
130 interrupted.

JSON: the lines' fields are described in harness/cli/README.md.";

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, catalogue: &Catalogue) -> Result<(), Failure> {
    let shown = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    let statements = sql_file::split(&text).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if statements.is_empty() {
        return Err(Failure::input(format!("{shown}: there is no statement in it")));
    }
    let methods = methods(arguments, catalogue)?;

    let attempt = attempt(arguments, &statements, &methods).await?;
    match arguments.format {
        Format::Text => text::print(&attempt),
        Format::Json => json::print(&attempt),
    }
    if let Some(failed) = attempt.first_failure() {
        return Err(Failure::input(failed));
    }
    if attempt.methods.iter().any(|method| method.verdict.is_broken()) {
        return Err(Failure::BrokenPromise);
    }
    Ok(())
}

fn methods(arguments: &Arguments, catalogue: &Catalogue) -> Result<Vec<&'static dyn Capture>, Failure> {
    if arguments.methods.is_empty() {
        return Ok(catalogue.methods.to_vec());
    }
    let find = |name: &String| {
        catalogue.methods.iter().copied().find(|method| method.name() == name).ok_or_else(|| {
            let known: Vec<_> = catalogue.methods.iter().map(|method| method.name()).collect();
            let (storage, known) = (catalogue.storage, known.join(", "));
            Failure::input(format!("no method `{name}` on {storage}; there are: {known}"))
        })
    };
    arguments.methods.iter().map(find).collect()
}

async fn attempt(
    arguments: &Arguments,
    statements: &[Statement],
    methods: &[&'static dyn Capture],
) -> Result<Attempt, Failure> {
    let progress = Progress::start();
    let services = services_of(methods);
    let titles: Vec<_> = services.iter().map(|service| service.title()).collect();
    progress.say(&format!("starting {}", titles.join(", ")));
    let stack = tokio::select! {
        stack = Stack::acquire(&services) => stack?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    let names: Vec<_> = methods.iter().map(|method| method.name()).collect();
    progress.say(&format!("running {} statements by {}", statements.len(), names.join(", ")));
    // Each method has a database of its own, so that none sees what another needs in it.
    let mut workspaces = tokio::select! {
        opened = try_join_all(methods.iter().map(|method| Workspace::open(&stack, *method, Place::Disk))) => opened?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    let captures = workspaces.iter_mut().map(|workspace| capture(arguments, statements, &stack, workspace));
    let attempted = tokio::select! {
        attempted = try_join_all(captures) => attempted.map_err(Failure::from),
        () = crate::exit::interrupted() => Err(Failure::Interrupted),
    };
    let version = match workspaces.first() {
        Some(workspace) => workspace.source.version().await,
        None => Ok(String::new()),
    };
    let closed = try_join_all(workspaces.into_iter().map(|workspace| workspace.close(&stack))).await;
    let mut methods = attempted?;
    outcome::compare(&mut methods);
    closed?;
    progress.done(&stack);
    Ok(Attempt { file: arguments.file.clone(), version: version?, methods })
}

fn services_of(methods: &[&'static dyn Capture]) -> Vec<Service> {
    let mut services: Vec<_> = methods.iter().flat_map(|method| method.services().iter().copied()).collect();
    services.sort_unstable();
    services.dedup();
    services
}

async fn capture(
    arguments: &Arguments,
    statements: &[Statement],
    stack: &Stack,
    workspace: &mut Workspace,
) -> Result<MethodOutcome> {
    let (method, options) = (workspace.method(), Options::default());
    let subscription = workspace.start(stack, &options).await?;
    let guarantees = method.guarantees(&options);
    let watcher = Watcher::new(method, subscription, &guarantees);
    let endpoint = stack.endpoint(Service::Postgres)?.clone();
    let mut execution = Execution::new(endpoint, workspace.database(), watcher);
    let source: &mut postgres::Source = workspace.source.as_a_mut()?;
    execution.run_all(statements, source, arguments.keep_going).await?;
    match execution.finish(source).await {
        Ok((history, stream)) => {
            let contents = workspace.source.contents().await?;
            Ok(MethodOutcome::new(method, &guarantees, stream, contents, history))
        }
        Err(error) => Err(stack.explain(method.services(), error).await),
    }
}
