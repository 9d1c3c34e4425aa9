//! What a scenario is written with: a source to mutate, a capture to start, a judge to call.

mod judging;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    capture::{Capture, Options, SnapshotMode, Subscription, collect_into},
    change::Change,
    error::{Context, Error, Result},
    guarantees::Granularity,
    judge::{Reached, Verdict, Watch},
    model::Model,
    script::{Action, Step, TableBuilder, TableRef, begin, commit},
    source::{Dialect, Place, Source, Sql},
    stack::Stack,
    time::now_us,
    transforms::Transforms,
    view::View,
    workspace::Workspace,
};

pub use self::judging::KnownFlaw;

/// How long nothing is written between two writes amid the start of a capture: who writes all the while only makes the start last.
const BETWEEN_WRITES: Duration = Duration::from_millis(5);

/// A scenario as `#[scenario]` registers it.
pub struct Definition {
    /// The function's name.
    pub name: &'static str,
    /// The function's doc comment.
    pub doc: &'static str,
    /// The file it stands in, relative to the workspace.
    pub file: &'static str,
    /// The crate it stands in.
    pub package: &'static str,
    /// What happens to rows that exist before the capture begins.
    pub snapshot: SnapshotMode,
    /// The methods for which it does, as in `only`. Empty for all.
    pub reading: &'static [&'static str],
    /// Whether it does harm to a whole server, and therefore gets one of its own.
    pub own_server: bool,
    /// The methods for which it has a meaning, and those that are like them; with `=` before a name that method alone, with `!`
    /// all but that one. Empty for all.
    pub only: &'static [&'static str],
    /// Why it has none for the others.
    pub why: &'static str,
    /// The storages that can play it, by their titles. Empty for all.
    pub on: &'static [&'static str],
    /// The function.
    pub run: for<'a> fn(&'a mut Scenario) -> BoxFuture<'a, Result<()>>,
}

inventory::collect!(Definition);

impl Definition {
    /// The scenarios of some crates in the order of their names.
    pub fn of_packages(packages: &[&str]) -> Vec<&'static Self> {
        let all = inventory::iter::<Self>.into_iter();
        let mut found: Vec<_> = all.filter(|definition| packages.contains(&definition.package)).collect();
        found.sort_unstable_by_key(|definition| definition.name);
        found
    }

    /// Whether the scenario has a meaning for a method, or for one that it works like, and the method plays it.
    pub fn applies_to(&self, method: &dyn Capture) -> bool {
        if method.plays().is_some_and(|plays| !plays.contains(&self.name)) {
            return false;
        }
        names(self.only, method)
    }

    /// What happens to rows that exist before a method's capture begins.
    fn snapshot_by(&self, method: &dyn Capture) -> SnapshotMode {
        if names(self.reading, method) { self.snapshot } else { SnapshotMode::NoData }
    }

    /// Whether a storage of this title can play it.
    pub fn is_on(&self, storage: &str) -> bool {
        self.on.is_empty() || self.on.contains(&storage)
    }

    /// The doc comment's first sentence.
    pub fn summary(&self) -> String {
        let text = self.doc.replace('\n', " ");
        text.split_once(". ").map_or(text.trim_end_matches('.'), |(first, _)| first).to_owned()
    }
}

/// Whether a list names a method: by its name, by that of one that it works like, by all but others; or is empty.
fn names(list: &[&str], method: &dyn Capture) -> bool {
    let is_named = |name: &str| list.contains(&name);
    let has_mark = |mark: char| list.iter().any(|listed| listed.strip_prefix(mark) == Some(method.name()));
    let is_for_others = list.iter().all(|listed| listed.starts_with('!')) && !has_mark('!');
    is_for_others || has_mark('=') || is_named(method.name()) || method.like().is_some_and(is_named)
}

/// One line of a script that is made by a program and not written down: see [`Scenario::play`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A step.
    Do(Box<Step>),
    /// The capture starts.
    Start,
    /// The capture is waited for.
    CatchUp,
}

/// What a scenario has found out.
#[derive(Debug)]
pub struct Outcome {
    /// The judge's answer.
    pub verdict: Verdict,
    /// The stream as text, under the verdict.
    pub page: String,
}

/// A scenario under way: a method on a database of its own.
pub struct Scenario {
    pub(crate) name: &'static str,
    method: &'static dyn Capture,
    options: Options,
    stack: Stack,
    workspace: Workspace,
    model: Model,
    /// What a reader is shown of what happens, if not all of it.
    pub(crate) shown: Option<Box<dyn View>>,
    subscription: Option<Box<dyn Subscription>>,
    pub(crate) watch: Watch,
    stream: Vec<Change>,
    outcome: Option<Outcome>,
}

impl Scenario {
    /// Runs a scenario by a method and returns what it has found out, once everything it made has been removed.
    ///
    /// # Errors
    /// A service or a step fails, a promise is broken, or the scenario doesn't ask the judge.
    pub async fn run(definition: &Definition, method: &'static dyn Capture) -> Result<Outcome> {
        kept(method, Self::examine(definition, method).await?)
    }

    /// As [`Scenario::run`], but a broken promise is an outcome like others.
    ///
    /// # Errors
    /// A service or a step fails, the method fails, or the scenario doesn't ask the judge.
    pub async fn examine(definition: &Definition, method: &'static dyn Capture) -> Result<Outcome> {
        let mut scenario =
            Self::open(definition.name, definition.snapshot_by(method), definition.own_server, method).await?;
        let ran = (definition.run)(&mut scenario).await;
        scenario.end(ran).await
    }

    /// Plays a script by a method, judges its stream, and returns what it has found out.
    ///
    /// # Errors
    /// As [`Scenario::run`].
    pub async fn play(name: &'static str, method: &'static dyn Capture, script: &[Event]) -> Result<Outcome> {
        let mut scenario = Self::open(name, SnapshotMode::NoData, false, method).await?;
        let played = scenario.play_all(script).await;
        kept(method, scenario.end(played).await?)
    }

    async fn play_all(&mut self, script: &[Event]) -> Result<()> {
        for event in script {
            match event {
                Event::Do(step) => self.apply(Step::clone(step)).await?,
                Event::Start => self.start_capture().await?,
                Event::CatchUp => self.catch_up().await?,
            }
        }
        self.judge().await
    }

    async fn end(mut self, ran: Result<()>) -> Result<Outcome> {
        let (name, outcome) = (self.name, self.outcome.take());
        let closed = self.close(ran.is_ok()).await;
        match (ran, outcome) {
            (Err(_), Some(outcome)) if outcome.verdict.is_broken() => Ok(outcome),
            (Err(error), _) => Err(error),
            (Ok(()), Some(outcome)) => closed.map(|()| outcome),
            (Ok(()), None) => Err(Error::new(name, "pass", "it ended without asking the judge")
                .help("end the scenario with s.judge().await")),
        }
    }

    async fn open(
        name: &'static str,
        snapshot: SnapshotMode,
        own_server: bool,
        method: &'static dyn Capture,
    ) -> Result<Self> {
        let mut stack = Stack::acquire(method.services()).await?;
        if own_server || method.needs_own_server().is_some() {
            match method.storage().server() {
                Some(server) if own_server => stack.take_apart(server).await?,
                Some(server) => stack.take_secluded(server).await?,
                None => return Err(Error::new(name, "take a server apart", "the storage has none")),
            }
        }
        // What a server has in memory goes when it is started again.
        let place = if own_server { Place::Disk } else { Place::Memory };
        let workspace = Workspace::open(&stack, method, place).await?;
        Ok(Self {
            name,
            method,
            options: Options { snapshot, ..Options::default() },
            stack,
            workspace,
            model: Model::default(),
            shown: None,
            subscription: None,
            watch: Watch { opened_us: now_us(), ..Watch::default() },
            stream: Vec::new(),
            outcome: None,
        })
    }

    async fn close(mut self, tell_errors: bool) -> Result<()> {
        drop(self.subscription);
        let mut closed = self.workspace.close(&self.stack).await;
        if closed.is_ok() && tell_errors {
            closed = self.stack.leave_to_others();
        }
        let closed = closed.and(self.stack.give_back().await);
        if tell_errors { closed } else { Ok(()) }
    }

    /// Creates a table.
    ///
    /// # Errors
    /// The database refuses it.
    pub async fn create(&mut self, table: TableBuilder) -> Result<TableRef> {
        let table = table.build();
        let handle = TableRef::new(&table);
        self.apply(Action::CreateTable(table)).await?;
        Ok(handle)
    }

    /// Runs a step on the database and on the Model.
    ///
    /// # Errors
    /// The database refuses it, or the Model can't follow.
    pub async fn apply(&mut self, step: impl Into<Step>) -> Result<()> {
        let step = step.into();
        self.workspace.source.apply(&step).await?;
        self.model.apply(&step).while_doing("the Model", "follow the script")
    }

    /// Runs steps one after the other.
    ///
    /// # Errors
    /// As [`Scenario::apply`].
    pub async fn apply_all(&mut self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        for step in steps {
            self.apply(step).await?;
        }
        Ok(())
    }

    /// Runs steps as one transaction.
    ///
    /// # Errors
    /// As [`Scenario::apply`].
    pub async fn transaction(&mut self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        self.apply(begin()).await?;
        self.apply_all(steps).await?;
        self.apply(commit()).await
    }

    /// Tells the Model what became of rows by something that no step says, as one transaction.
    ///
    /// # Errors
    /// The Model can't follow.
    pub fn happened(&mut self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        let means = steps.into_iter().map(|step| step.action).collect();
        let step = Action::Raw { sql: String::new(), means }.into();
        self.model.apply(&step).while_doing("the Model", "follow the script")
    }

    /// Runs a step that the database must refuse, with this in its message.
    ///
    /// # Errors
    /// The database accepts it, or refuses it for another reason.
    pub async fn refused(&mut self, step: impl Into<Step>, message: &str) -> Result<()> {
        match self.workspace.source.apply(&step.into()).await {
            Err(error) if error.to_string().contains(message) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let expected = format!("it was accepted, and not refused with “{message}”");
                Err(Error::new(self.name, "see a step refused", expected))
            }
        }
    }

    /// Starts the capture.
    ///
    /// # Errors
    /// The method can't be started.
    pub async fn start_capture(&mut self) -> Result<()> {
        self.start_capture_amid(|_| None).await
    }

    /// Starts the capture while steps go on: the first, the second… until it has started or there are no more.
    ///
    /// # Errors
    /// The method can't be started, or a step fails.
    pub async fn start_capture_amid(&mut self, mut step: impl FnMut(i32) -> Option<Step>) -> Result<()> {
        let before = self.model.committed().len();
        self.note_reached().await?;
        let (subject, source) = self.workspace.split(&self.stack);
        let start = self.method.start(subject, &self.options);
        tokio::pin!(start);
        let model = &mut self.model;
        let mut steps = (1..).map_while(&mut step);
        let subscription = loop {
            let Some(step) = steps.next() else { break start.await };
            let applied = source.apply(&step);
            tokio::pin!(applied);
            // A step that is under way when the capture has started is still finished: the Model has to follow.
            let started = tokio::select! {
                applied = &mut applied => { applied?; None }
                started = &mut start => { applied.await?; Some(started) }
            };
            model.apply(&step).while_doing("the Model", "follow the script")?;
            if let Some(subscription) = started {
                break subscription;
            }
            tokio::select! {
                () = tokio::time::sleep(BETWEEN_WRITES) => {}
                started = &mut start => break started,
            }
        };
        match subscription {
            Ok(subscription) => self.subscription = Some(subscription),
            Err(error) => return Err(self.stack.explain(self.method.services(), error).await),
        }
        self.watch.began = (before, self.model.committed().len());
        Ok(())
    }

    /// The source, for what only its storage can do and a script has no step for.
    ///
    /// # Errors
    /// The method captures another storage.
    pub fn source<S: Source>(&mut self) -> Result<&mut S> {
        self.workspace.source.as_a_mut()
    }

    /// The SQL that the source understands.
    ///
    /// # Errors
    /// It is no relational database.
    pub fn dialect(&self) -> Result<Dialect> {
        let storage = self.method.storage();
        storage.dialect().ok_or_else(|| {
            Error::new(self.name, format!("speak SQL to {}", storage.title()), "it is no relational database")
        })
    }

    /// What to say to the source, or to expect of it, in its dialect.
    ///
    /// # Errors
    /// It is no relational database.
    pub fn say<'a>(&self, sql: Sql<'a>) -> Result<&'a str> {
        Ok(sql.in_dialect(self.dialect()?))
    }

    /// A name that no other scenario has, for what is the whole server's.
    pub fn unique(&self, name: &str) -> String {
        format!("{}_{name}", self.workspace.database())
    }

    /// The name of what the method makes in the services, such as its slot.
    pub fn capture_name(&self) -> String {
        self.workspace.subject(&self.stack).name.to_owned()
    }

    /// Stops the capture where it stands.
    ///
    /// # Errors
    /// It was not started, or can't be stopped.
    pub async fn stop_capture(&mut self) -> Result<()> {
        self.subscription()?.stop().await
    }

    /// Starts the capture again, to go on where it stopped.
    ///
    /// # Errors
    /// It was not started, or can't be resumed.
    pub async fn resume_capture(&mut self) -> Result<()> {
        self.subscription()?.resume().await
    }

    fn subscription(&mut self) -> Result<&mut dyn Subscription> {
        match &mut self.subscription {
            Some(subscription) => Ok(subscription.as_mut()),
            None => Err(Error::new(self.name, "use the capture", "it was not started")
                .help("call s.start_capture().await? before")),
        }
    }

    /// Breaks the capture's connections to the source while changes are on their way: the server ends all that are not the
    /// script's own.
    ///
    /// # Errors
    /// The capture has none, or the server refuses.
    pub async fn break_connections(&mut self) -> Result<()> {
        self.workspace.source.end_captures().await?;
        self.note_break();
        Ok(())
    }

    /// Shuts the server down in order and starts it again, with changes on their way. It must be the scenario's own (`own_server`), and what
    /// its sessions have set is gone.
    ///
    /// A method that reads the log reads on meanwhile, for a server that is being shut down waits for those who read it.
    ///
    /// # Errors
    /// It doesn't end or doesn't get ready again, or the capture fails.
    pub async fn restart_server(&mut self) -> Result<()> {
        self.note_break();
        let source = &mut self.workspace.source;
        let guarantees = self.method.guarantees(&self.options);
        let subscription = self.subscription.as_mut().filter(|_| guarantees.granularity == Granularity::EachChange);
        let Some(subscription) = subscription else { return source.restart_server().await };
        let before = source.write_fence().await?;
        let restarting = async {
            source.restart_server().await?;
            source.write_fence().await
        };
        let reading = collect_into(&mut self.stream, subscription.as_mut(), before + 1);
        match tokio::try_join!(reading, restarting) {
            Ok(_) => self.note_reached().await,
            Err(error) => Err(self.stack.explain(self.method.services(), error).await),
        }
    }

    /// Notes that a capture which has told something may tell it again.
    pub(crate) fn note_break(&mut self) {
        if self.watch.breaks == 0 {
            self.watch.told_before_breaks = self.stream.len();
        }
        self.watch.breaks += 1;
    }

    /// Sets an option of the method, by the method's own name, for the capture to come.
    pub fn configure(&mut self, setting: &str, value: &str) {
        self.options.settings.insert(setting.to_owned(), value.to_owned());
    }

    /// Has Kafka Connect transform the records of the capture to come.
    pub fn transform(&mut self, transforms: Transforms) {
        for (setting, value) in transforms.settings(&self.capture_name()) {
            self.configure(&setting, &value);
        }
        self.shown = Some(Box::new(transforms));
    }

    /// Waits until the capture has delivered everything committed so far.
    ///
    /// # Errors
    /// The capture fails or falls silent.
    pub async fn catch_up(&mut self) -> Result<()> {
        let fence = self.workspace.source.write_fence().await?;
        self.watch.looks.push(self.model.committed().len());
        let mut stream = std::mem::take(&mut self.stream);
        let caught_up = match self.subscription() {
            Ok(subscription) => collect_into(&mut stream, subscription, fence).await,
            Err(error) => Err(error),
        };
        self.stream = stream;
        match caught_up {
            Ok(()) => self.note_reached().await,
            Err(error) => Err(self.stack.explain(self.method.services(), error).await),
        }
    }

    /// Notes how far the source and the stream have come. (Tables of files have a history each, and none together.)
    async fn note_reached(&mut self) -> Result<()> {
        if self.method.storage().dialect().is_some() {
            let end = self.method.end_of_history(self.workspace.source.as_ref()).await?;
            self.watch.reached.push(Reached { at_us: now_us(), end, told: self.stream.len() });
        }
        Ok(())
    }
}

/// An outcome that breaks no promise.
fn kept(method: &dyn Capture, outcome: Outcome) -> Result<Outcome> {
    match outcome.verdict.is_broken() {
        true => Err(Error::new(method.name(), "keep its promises", outcome.page)),
        false => Ok(outcome),
    }
}
