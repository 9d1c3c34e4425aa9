//! `cdc try`: any SQL, captured by every method, judged by what the database holds in the end.

mod database;
#[cfg(any(feature = "iceberg", feature = "delta"))]
mod dialect;
mod execute;
mod json;
mod outcome;
#[cfg(any(feature = "iceberg", feature = "delta"))]
mod steps;
mod text;

use std::{collections::BTreeMap, path::PathBuf};

use changeproof::{
    capture::{Capture, Options},
    error::Result,
    runner::Catalogue,
    source::{Dialect, Place},
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
    sql_file::{self, SqlFileError, Statement},
};

/// The storages that a file can be tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// PostgreSQL
    Postgres,
    /// MySQL, with a binary log of rows
    #[value(name = "mysql")]
    MySql,
    /// MariaDB, with a binary log of rows
    #[value(name = "mariadb")]
    MariaDb,
    /// Tables of Apache Iceberg in a folder
    Iceberg,
    /// Tables of Delta Lake in a folder
    Delta,
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::Iceberg => "iceberg",
            Self::Delta => "delta",
        }
    }

    /// Its scenarios and methods.
    ///
    /// # Errors
    /// This program was built without them.
    pub(crate) fn catalogue(self, built: &[&'static Catalogue]) -> Result<&'static Catalogue, Failure> {
        let name = self.name();
        let found = built.iter().copied().find(|catalogue| catalogue.storage == name);
        found.ok_or_else(|| Failure::built_without(name, ""))
    }
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
    /// The storage to run it on; give it again for more of them
    #[arg(long, value_enum, default_value = "postgres", value_name = "STORAGE")]
    on: Vec<Storage>,
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

On MySQL and MariaDB a file is read as mysql reads it, DELIMITER included. A file for several databases must be read alike by all.

On Iceberg and Delta Lake a file may hold CREATE TABLE, INSERT … VALUES, UPDATE and DELETE by COLUMN = VALUE or IS NULL joined by AND, \
MERGE … USING (VALUES …), TRUNCATE, ALTER TABLE with one change, BEGIN, COMMIT and ROLLBACK. Each statement is a commit.

Each method captures a database of its own, on which the file runs. Each stream is folded into tables, which must equal what the database holds at the end. What the method, as it \
promises, does not tell is named as a loss; anything else that differs is a broken promise.

Exit codes: 0 all promises kept, 1 a promise broken, 2 the file or the command line is wrong, 3 a service failed, \
130 interrupted.

JSON: the lines' fields are described in harness/cli/README.md.";

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, built: &[&'static Catalogue]) -> Result<(), Failure> {
    let shown = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    let catalogues = catalogues(arguments, built)?;
    let statements = statements(&text, &catalogues).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if statements.is_empty() {
        return Err(Failure::input(format!("{shown}: there is no statement in it")));
    }
    let methods = methods(arguments, &catalogues)?;
    let file = File::read(statements, &catalogues).map_err(|error| Failure::input(format!("{shown}: {error}")))?;

    let attempt = attempt(arguments, &file, &catalogues, &methods).await?;
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

/// A file's statements, and what they do where a storage knows no SQL.
struct File {
    statements: Vec<Statement>,
    #[cfg(any(feature = "iceberg", feature = "delta"))]
    script: steps::Script,
}

impl File {
    #[cfg(any(feature = "iceberg", feature = "delta"))]
    fn read(statements: Vec<Statement>, catalogues: &[&Catalogue]) -> Result<Self, SqlFileError> {
        let has_steps = catalogues.iter().any(|catalogue| !catalogue.knows_sql());
        let script = if has_steps { dialect::script(&statements)? } else { Vec::new() };
        Ok(Self { statements, script })
    }

    #[cfg(not(any(feature = "iceberg", feature = "delta")))]
    #[expect(clippy::unnecessary_wraps, reason = "with other storages it can fail")]
    fn read(statements: Vec<Statement>, _catalogues: &[&Catalogue]) -> Result<Self, SqlFileError> {
        Ok(Self { statements })
    }
}

/// The statements of a file, if all databases that it runs on read it in the same way.
fn statements(text: &str, catalogues: &[&Catalogue]) -> Result<Vec<Statement>, SqlFileError> {
    let dialect = |catalogue: &&Catalogue| {
        let storage = catalogue.methods.first().map(|method| method.storage());
        storage.and_then(changeproof::source::Storage::dialect).unwrap_or(Dialect::PostgreSql)
    };
    let mut dialects = catalogues.iter().map(dialect);
    let first = sql_file::split(text, dialects.next().unwrap_or(Dialect::PostgreSql))?;
    for dialect in dialects {
        sql_file::same(&first, &sql_file::split(text, dialect)?)?;
    }
    Ok(first)
}

/// What to run on, in the order of the command line.
fn catalogues(arguments: &Arguments, built: &[&'static Catalogue]) -> Result<Vec<&'static Catalogue>, Failure> {
    let mut on = arguments.on.clone();
    on.dedup();
    on.iter().map(|storage| storage.catalogue(built)).collect()
}

fn methods(arguments: &Arguments, catalogues: &[&'static Catalogue]) -> Result<Vec<&'static dyn Capture>, Failure> {
    let known = || catalogues.iter().flat_map(|catalogue| catalogue.methods.iter().copied());
    if arguments.methods.is_empty() {
        return Ok(known().collect());
    }
    let find = |name: &String| {
        known().find(|method| method.name() == name).ok_or_else(|| {
            let storages: Vec<_> = catalogues.iter().map(|catalogue| catalogue.storage).collect();
            let known: Vec<_> = known().map(Capture::name).collect();
            Failure::input(format!("no method `{name}` on {}; there are: {}", storages.join(", "), known.join(", ")))
        })
    };
    arguments.methods.iter().map(find).collect()
}

async fn attempt(
    arguments: &Arguments,
    file: &File,
    catalogues: &[&'static Catalogue],
    methods: &[&'static dyn Capture],
) -> Result<Attempt, Failure> {
    let progress = Progress::start();
    let services = services_of(methods);
    let titles: Vec<_> = services.iter().map(|service| service.title()).collect();
    if !titles.is_empty() {
        progress.say(&format!("starting {}", titles.join(", ")));
    }
    let mut stacks = tokio::select! {
        stacks = Stacks::acquire(methods) => stacks?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    let names: Vec<_> = methods.iter().map(|method| method.name()).collect();
    progress.say(&format!("running {} statements by {}", file.statements.len(), names.join(", ")));
    // Each method has a database of its own, so that none sees what another needs in it.
    let opened = methods.iter().map(|method| Workspace::open(stacks.of(*method), *method, Place::Disk));
    let mut workspaces = tokio::select! {
        opened = try_join_all(opened) => opened?,
        () = crate::exit::interrupted() => return Err(Failure::Interrupted),
    };
    let captures = workspaces.iter_mut().map(|workspace| {
        let stack = stacks.of(workspace.method());
        capture(arguments, file, stack, workspace)
    });
    let attempted = tokio::select! {
        attempted = try_join_all(captures) => attempted.map_err(Failure::from),
        () = crate::exit::interrupted() => Err(Failure::Interrupted),
    };
    let mut storages = Vec::new();
    for catalogue in catalogues {
        let is_its_own = |workspace: &&Workspace| workspace.method().storage().title() == catalogue.title();
        if let Some(workspace) = workspaces.iter().find(is_its_own) {
            storages.push((*catalogue, workspace.source.version().await));
        }
    }
    let closed = try_join_all(workspaces.into_iter().map(|workspace| {
        let stack = stacks.of(workspace.method());
        workspace.close(stack)
    }));
    let closed = closed.await;
    let given_back = stacks.give_back().await;
    let mut methods = attempted?;
    outcome::compare(&mut methods);
    closed?;
    given_back?;
    progress.done(&stacks.shared);
    let storages = storages.into_iter().map(|(catalogue, version)| Ok((catalogue, version?)));
    Ok(Attempt { file: arguments.file.clone(), storages: storages.collect::<Result<_>>()?, methods })
}

/// The services that methods share, and those of the methods that must not share a server.
struct Stacks {
    shared: Stack,
    /// By the storage and the method.
    own: BTreeMap<(&'static str, &'static str), Stack>,
}

impl Stacks {
    async fn acquire(methods: &[&'static dyn Capture]) -> Result<Self> {
        let shared = Stack::acquire(&services_of(methods)).await?;
        let mut own = BTreeMap::new();
        for method in methods.iter().filter(|method| method.needs_own_server().is_some()) {
            let mut stack = Stack::acquire(method.services()).await?;
            if let Some(server) = method.storage().server() {
                stack.take_apart(server).await?;
            }
            own.insert(Self::key(*method), stack);
        }
        Ok(Self { shared, own })
    }

    fn key(method: &dyn Capture) -> (&'static str, &'static str) {
        (method.storage().title(), method.name())
    }

    fn of(&self, method: &dyn Capture) -> &Stack {
        self.own.get(&Self::key(method)).unwrap_or(&self.shared)
    }

    async fn give_back(&mut self) -> Result<()> {
        for stack in self.own.values_mut() {
            stack.give_back().await?;
        }
        Ok(())
    }
}

fn services_of(methods: &[&'static dyn Capture]) -> Vec<Service> {
    let mut services: Vec<_> = methods.iter().flat_map(|method| method.services().iter().copied()).collect();
    services.sort_unstable();
    services.dedup();
    services
}

async fn capture(
    arguments: &Arguments,
    file: &File,
    stack: &Stack,
    workspace: &mut Workspace,
) -> Result<MethodOutcome> {
    #[cfg(any(feature = "iceberg", feature = "delta"))]
    if workspace.method().storage().server().is_none() {
        return steps::capture(&file.script, arguments.keep_going, stack, workspace).await;
    }
    let (method, options) = (workspace.method(), Options::default());
    let subscription = workspace.start(stack, &options).await?;
    let guarantees = method.guarantees(&options);
    let watcher = Watcher::new(method, subscription, &guarantees);
    let mut execution = Execution::new(database::of(stack, workspace).await?, watcher);
    let source = workspace.source.as_mut();
    execution.run_all(&file.statements, source, arguments.keep_going).await?;
    match execution.finish(source).await {
        Ok((history, stream)) => {
            let contents = workspace.source.contents().await?;
            Ok(MethodOutcome::by_contents(method, &guarantees, stream, contents, history))
        }
        Err(error) => Err(stack.explain(method.services(), error).await),
    }
}
