//! `cdc try`: any SQL, captured by every method, judged by what the database holds in the end.

mod execute;
mod json;
mod outcome;
mod text;

use std::{io::IsTerminal, path::PathBuf, time::Instant};

use changeproof::{
    capture::{Capture, Options, Subject, Subscription, collect_until_fence},
    error::Result,
    postgres::Source,
    runner::Catalogue,
    stack::{Lease, Service, Stack, stale_leases},
};
use clap::{Args, ValueEnum};

use self::{
    execute::Execution,
    outcome::{Attempt, MethodOutcome},
};
use crate::{
    exit::Failure,
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
statement frees it.

Each stream is folded into tables, which must equal what the database holds at the end. What the method, as it \
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

/// Tells on stderr what takes long, with the seconds since the start.
struct Progress(Instant);

impl Progress {
    fn say(&self, what: &str) {
        let seconds = self.0.elapsed().as_secs_f32();
        let dim = if std::io::stderr().is_terminal() { anstyle::Style::new().dimmed() } else { anstyle::Style::new() };
        anstream::eprintln!("{dim}{seconds:6.1} s  {what}{dim:#}");
    }
}

async fn attempt(
    arguments: &Arguments,
    statements: &[Statement],
    methods: &[&'static dyn Capture],
) -> Result<Attempt, Failure> {
    let progress = Progress(Instant::now());
    let services = services_of(methods);
    let titles: Vec<_> = services.iter().map(|service| service.title()).collect();
    progress.say(&format!("starting {}", titles.join(", ")));
    let stack = tokio::select! {
        stack = Stack::acquire(&services) => stack?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    for lease in stale_leases(stack.state())? {
        clean_up(&stack, methods, &lease).await?;
        lease.release()?;
    }
    let lease = Lease::take(stack.state())?;
    let attempted = tokio::select! {
        attempted = capture(arguments, statements, methods, &stack, &lease, &progress) => attempted,
        () = crate::exit::interrupted() => Err(Failure::Interrupted),
    };
    let cleaned = clean_up(&stack, methods, &lease).await;
    let attempted = attempted?;
    cleaned?;
    lease.release()?;
    Ok(attempted)
}

fn services_of(methods: &[&'static dyn Capture]) -> Vec<Service> {
    let mut services: Vec<_> = methods.iter().flat_map(|method| method.services().iter().copied()).collect();
    services.sort_unstable();
    services.dedup();
    services
}

async fn clean_up(stack: &Stack, methods: &[&'static dyn Capture], lease: &Lease) -> Result<()> {
    for method in methods {
        let name = lease.name_for(method.name());
        method.clean_up(Subject { stack, database: lease.name(), name: &name }).await?;
    }
    changeproof::postgres::remove_database(stack.endpoint(Service::Postgres)?, lease.name()).await
}

async fn capture(
    arguments: &Arguments,
    statements: &[Statement],
    methods: &[&'static dyn Capture],
    stack: &Stack,
    lease: &Lease,
    progress: &Progress,
) -> Result<Attempt, Failure> {
    let endpoint = stack.endpoint(Service::Postgres)?;
    let mut source = Source::create(endpoint, lease.name()).await?;
    let names: Vec<_> = methods.iter().map(|method| method.name()).collect();
    progress.say(&format!("starting the capture by {}", names.join(", ")));
    let options = Options::default();
    let mut captures: Vec<(&dyn Capture, Box<dyn Subscription>)> = Vec::new();
    for method in methods {
        let name = lease.name_for(method.name());
        let subject = Subject { stack, database: lease.name(), name: &name };
        match method.start(subject, &options).await {
            Ok(subscription) => captures.push((*method, subscription)),
            Err(error) => return Err(stack.explain(method.services(), error).await.into()),
        }
    }

    progress.say(&format!("running {} statements", statements.len()));
    let mut execution = Execution::new(endpoint.clone(), lease.name());
    execution.run_all(statements, &source, arguments.keep_going).await?;
    let history = execution.finish(&source).await?;

    progress.say("waiting until everything has been captured");
    let fence = source.write_fence().await?;
    let contents = source.contents().await?;
    let mut outcomes = Vec::new();
    for (method, mut subscription) in captures {
        let stream = match collect_until_fence(subscription.as_mut(), fence).await {
            Ok(stream) => stream,
            Err(error) => return Err(stack.explain(method.services(), error).await.into()),
        };
        outcomes.push(MethodOutcome::new(method, &options, stream, &contents, &history));
    }
    progress.say(if stack.is_kept() {
        "done; the services stay, `cdc down` removes them"
    } else {
        "done; the services are removed in the background"
    });
    Ok(Attempt {
        file: arguments.file.clone(),
        version: source.version().await?,
        statements: history.statements,
        contents,
        methods: outcomes,
    })
}
