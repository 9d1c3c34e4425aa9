//! A method that is a program of somebody else's, in any language: started by a command, told by its environment what to
//! capture, and read line by line.
//!
//! The lines, the environment, and what a program has to do when it is stopped stand in `harness/cli/README.md`.

mod database;
mod line;
mod program;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use self::{
    database::{Access, Catalogue, Known, Words},
    line::{Line, Told},
    program::Program,
};
use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    change::{Change, TxId},
    error::{Context, Error, Result},
    guarantees::Guarantees,
    postgres::{self, HARNESS_SCHEMA},
    source::{Dialect, Storage},
    stack::Service,
};

/// Whose errors those of the program are: see [`Error::service`].
pub const PROGRAM: &str = "the program";

/// What a program has failed in that never got ready: see [`Error::action`].
pub const GET_READY: &str = "get ready";

const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a program may take to end after SIGTERM, before it is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What the image of PostgreSQL has beside the server's own output plugins.
const PLUGIN_OF_THE_IMAGE: &str = "wal2json";

const HELP: &str = "harness/cli/README.md says what a program writes and when";

/// A program as a method of capturing a database.
#[derive(Clone)]
pub struct ForeignCapture {
    command: String,
    guarantees: Guarantees,
    storage: &'static dyn Storage,
}

impl ForeignCapture {
    /// A program that `sh -c` starts by the command, and what it promises. `initial_snapshot` is whether it delivers rows
    /// that exist before *if it is asked to*.
    pub fn new(command: impl Into<String>, guarantees: Guarantees, storage: &'static dyn Storage) -> Self {
        Self { command: command.into(), guarantees, storage }
    }
}

#[async_trait]
impl Capture for ForeignCapture {
    fn name(&self) -> &'static str {
        "program"
    }

    fn summary(&self) -> &'static str {
        "a program of your own that writes changes as JSON lines"
    }

    fn like(&self) -> Option<&'static str> {
        match self.storage.dialect() {
            Some(Dialect::MySql) => Some("binlog"),
            _ => Some("logical"),
        }
    }

    fn storage(&self) -> &'static dyn Storage {
        self.storage
    }

    fn services(&self) -> &'static [Service] {
        match self.storage.server() {
            Some(Service::Mysql) => &[Service::Mysql],
            Some(Service::Mariadb) => &[Service::Mariadb],
            _ => &[Service::Postgres],
        }
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        let asked = options.snapshot == SnapshotMode::Initial;
        Guarantees { initial_snapshot: self.guarantees.initial_snapshot && asked, ..self.guarantees.clone() }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        // What MySQL's log has is up to its sessions.
        if self.storage.dialect() != Some(Dialect::PostgreSql) {
            return Ok(());
        }
        let endpoint = database::server(self.storage, subject)?;
        postgres::allow_output_plugin(endpoint, subject.database, PLUGIN_OF_THE_IMAGE).await?;
        postgres::publish_all_tables(endpoint, subject.database).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        // One that doesn't promise rows that exist isn't asked for them, and loses them by its own word.
        let snapshot = if self.guarantees(options).initial_snapshot { "initial" } else { "no_data" };
        let Access { mut environment, words, catalogue } = database::open(self.storage, subject).await?;
        environment.push(("CHANGEPROOF_SNAPSHOT", snapshot.to_owned()));
        environment.push(("CHANGEPROOF_FOLDER", make_folder(subject)?.display().to_string()));
        let mut subscription = ForeignSubscription {
            command: self.command.clone(),
            environment,
            program: None,
            lines: VecDeque::new(),
            told: None,
            words,
            types: Types::new(catalogue),
        };
        subscription.run().await?;
        Ok(Box::new(subscription))
    }

    /// A slot belongs to the database and goes with it, and the program's files with their folder; what else it makes, it
    /// has to remove itself.
    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        remove_folder(&folder(subject))
    }
}

/// Where a program may keep what it has to know when it is started again.
fn folder(subject: Subject<'_>) -> PathBuf {
    subject.stack.state().dir().join(format!("{}.files", subject.name))
}

fn make_folder(subject: Subject<'_>) -> Result<PathBuf> {
    let folder = folder(subject);
    remove_folder(&folder)?;
    std::fs::create_dir(&folder).while_doing("the stack", format!("make the folder {}", folder.display()))?;
    Ok(folder)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).while_doing("the stack", format!("remove the folder {}", folder.display()))
        }
        _ => Ok(()),
    }
}

struct ForeignSubscription {
    command: String,
    environment: Vec<(&'static str, String)>,
    /// None while it is stopped.
    program: Option<Program>,
    /// Lines of a program that has been stopped since.
    lines: VecDeque<String>,
    /// A change whose types are being looked up.
    told: Option<Told>,
    words: Words,
    types: Types,
}

impl ForeignSubscription {
    /// Starts the program and waits until it is ready.
    async fn run(&mut self) -> Result<()> {
        let program = self.program.insert(Program::start(&self.command, &self.environment)?);
        let Ok(first) = tokio::time::timeout(READY_WITHIN, program.line(GET_READY)).await else {
            let cause = format!("it wrote no line within {} s", READY_WITHIN.as_secs());
            return Err(program.explain(Error::new(PROGRAM, GET_READY, cause).help(HELP)));
        };
        let first = first?;
        match line::read(&first, &self.words) {
            Ok(Line::Ready) => Ok(()),
            Ok(Line::Change(_)) => Err(program.explain(wrong(GET_READY, &first, "its first line is no `ready`"))),
            Err(cause) => Err(program.explain(wrong(GET_READY, &first, &cause))),
        }
    }

    async fn line(&mut self) -> Result<String> {
        if let Some(line) = self.lines.pop_front() {
            return Ok(line);
        }
        match &mut self.program {
            Some(program) => program.line("go on").await,
            None => Err(Error::new(PROGRAM, "deliver changes", "it has been stopped")),
        }
    }

    fn wrong(&self, line: &str, cause: &str) -> Error {
        let error = wrong("be understood", line, cause);
        self.program.iter().fold(error, |error, program| program.explain(error))
    }
}

fn wrong(action: &str, line: &str, cause: &str) -> Error {
    const LONGEST: usize = 500;
    let shown = match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    };
    Error::new(PROGRAM, action, format!("{cause}, in the line\n    {shown}")).help(HELP)
}

#[async_trait]
impl Subscription for ForeignSubscription {
    async fn next(&mut self) -> Result<Change> {
        let told = if let Some(told) = self.told.take() {
            told
        } else {
            let line = self.line().await?;
            match line::read(&line, &self.words) {
                Ok(Line::Change(told)) => *told,
                Ok(Line::Ready) => return Err(self.wrong(&line, "it is ready a second time")),
                Err(cause) => return Err(self.wrong(&line, &cause)),
            }
        };
        // The look-up may be dropped and begun again; the change must not be lost with it.
        let told = self.told.insert(told);
        self.types.learn(told).await?;
        let Some(told) = self.told.take() else {
            return Err(Error::new(PROGRAM, "go on", "a change has gone astray"));
        };
        told.change(&self.types.known, &self.words).map_err(|cause| wrong("be understood", &told.line, &cause))
    }

    fn waiting_for(&self) -> String {
        let said = self.program.as_ref().map(Program::last_words).unwrap_or_default();
        let said = if said.is_empty() { "nothing".to_owned() } else { format!("\n{said}") };
        format!("it waits for the program's next line; on stderr the program has said {said}")
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(program) = self.program.take() {
            self.lines.extend(program.stop(STOPS_WITHIN).await?);
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.types.is_stale = true;
        let resume = ("CHANGEPROOF_RESUME", "1".to_owned());
        if !self.environment.contains(&resume) {
            self.environment.push(resume);
        }
        self.run().await
    }
}

/// The columns' types as the catalogue has had them at the last look.
struct Types {
    catalogue: Catalogue,
    known: Known,
    /// The transaction for which was looked.
    of: Option<TxId>,
    /// Whether a table may have got another definition since.
    is_stale: bool,
}

impl Types {
    fn new(catalogue: Catalogue) -> Self {
        Self { catalogue, known: Known::new(), of: None, is_stale: true }
    }

    /// Makes known the types that a change doesn't tell itself. They are looked up for each transaction anew, and where
    /// none is told after each fence, so that a changed definition is seen.
    async fn learn(&mut self, told: &Told) -> Result<()> {
        let is_other = told.tx.is_some() && told.tx != self.of;
        let is_unknown = || !told.is_known(&self.known) && (told.tx.is_none() || told.tx != self.of);
        if !told.has_all_types() && (self.is_stale || is_other || is_unknown()) {
            self.known = self.catalogue.types().await?;
            self.of.clone_from(&told.tx);
            self.is_stale = false;
        }
        self.is_stale |= told.table.schema() == HARNESS_SCHEMA;
        Ok(())
    }
}
