//! Runs a file that has been read as steps, on storages whose statements are commits of their own, and judges what a method
//! made of it by the Model and by what the tables hold.

use std::sync::Arc;

use changeproof::{
    capture::Options,
    error::{Context, Result},
    evidence::{check_model, judge_by_both},
    judge::Watch,
    model::Model,
    script::{Action, Alter, Step},
    source::Source,
    stack::Stack,
    workspace::Workspace,
};

use super::{
    execute::{Causes, History, Ran, StatementFailure, Watcher},
    outcome::MethodOutcome,
};
use crate::sql_file::Statement;

/// A file's statements with what each does.
pub(super) type Script = Vec<(Statement, Step)>;

/// Captures the script by a method.
pub(super) async fn capture(
    script: &Script,
    keep_going: bool,
    stack: &Stack,
    workspace: &mut Workspace,
) -> Result<MethodOutcome> {
    let (method, options) = (workspace.method(), Options::default());
    let subscription = workspace.start(stack, &options).await?;
    let guarantees = method.guarantees(&options);
    let watcher = Watcher::new(method, subscription, &guarantees);
    let mut run = Run { watcher, model: Model::default(), watch: Watch::default(), ran: Vec::new(), looks: Vec::new() };
    let source = workspace.source.as_mut();
    run.all(script, keep_going, source).await?;

    let contents = source.contents().await?;
    check_model(run.model.tables(), &contents)?;
    let stream = run.watcher.stream;
    let verdict = judge_by_both(&run.model, &guarantees, &run.watch, &stream, &contents).verdict;
    let alterations_count = script.iter().filter(|(_, step)| changes_a_definition(step)).count();
    let causes = Causes::Looks(run.looks);
    let history = History { statements: run.ran, causes, alterations_count, ..History::default() };
    Ok(MethodOutcome::by_model(method, &guarantees, stream, contents, history, verdict))
}

fn changes_a_definition(step: &Step) -> bool {
    matches!(&step.action, Action::Alter { change, .. } if !matches!(change, Alter::Key(_) | Alter::Identity(_)))
}

struct Run {
    watcher: Watcher,
    model: Model,
    watch: Watch,
    ran: Vec<Ran>,
    /// How many changes had been delivered at each look, and the statement before it.
    looks: Vec<(usize, usize)>,
}

impl Run {
    async fn all(&mut self, script: &Script, keep_going: bool, source: &mut dyn Source) -> Result<()> {
        for (number, (statement, step)) in script.iter().enumerate() {
            if statement.look_before && self.watcher.looks_from_time_to_time && number > 0 {
                self.look(source, number - 1).await?;
            }
            let failure = self.apply(statement, step, source).await?;
            let failed = failure.is_some();
            let statement = statement.clone();
            self.ran.push(Ran { statement, failure, waited: false, shapes: Arc::default() });
            if !self.watcher.looks_from_time_to_time {
                self.look(source, number).await?;
            }
            if failed && !keep_going {
                break;
            }
        }
        self.look(source, self.ran.len().saturating_sub(1)).await
    }

    /// Runs a step on the source, and on the Model if the source took it.
    async fn apply(
        &mut self,
        statement: &Statement,
        step: &Step,
        source: &mut dyn Source,
    ) -> Result<Option<StatementFailure>> {
        let follow = |model: &mut Model, step: &Step| model.apply(step).while_doing("the Model", "follow the file");
        match source.apply(step).await {
            Ok(()) => follow(&mut self.model, step).map(|()| None),
            Err(error) => {
                if step.action == Action::Commit {
                    follow(&mut self.model, &Step { action: Action::Rollback, ..step.clone() })?;
                }
                Ok(Some(StatementFailure { message: error.to_string(), line: statement.line, column: None }))
            }
        }
    }

    async fn look(&mut self, source: &mut dyn Source, number: usize) -> Result<()> {
        self.watcher.catch_up(source).await?;
        self.watch.looks.push(self.model.committed().len());
        self.looks.push((self.watcher.stream.len(), number));
        Ok(())
    }
}
