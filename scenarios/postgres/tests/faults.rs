//! The checks can fail: real services, set up wrong, must turn a scenario red, with a message that says what is wrong.

use std::process::ExitCode;

use changeproof::{
    capture::SnapshotMode,
    debezium::DebeziumPostgres,
    error::Result,
    judge::FaultKind,
    row,
    scenario::{Definition, Scenario},
    schema::Type::{Int, Text},
    script::TableBuilder,
    stack::run_guard_if_asked,
};
use libtest_mimic::{Arguments, Failed, Trial};

type Run = for<'a> fn(&'a mut Scenario) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

fn main() -> ExitCode {
    run_guard_if_asked();
    let fault = |name: &'static str, run: Run, told: &'static [&'static str]| {
        Trial::test(format!("faults::{name}"), move || fails(name, run, told))
    };
    let trials = vec![
        fault(
            "a_wrong_password_is_told_in_the_connectors_own_words",
            |s| Box::pin(wrong_password(s)),
            &["Kafka Connect", "register the connector", "password authentication failed"],
        ),
        fault(
            "a_change_that_the_method_leaves_out_breaks_its_promise",
            |s| Box::pin(truncate_left_out(s)),
            &["broken", "lost: ! carts", "tx#1"],
        ),
        fault(
            "a_scenario_that_never_asks_the_judge_does_not_pass",
            |s| Box::pin(no_judge(s)),
            &["without asking the judge"],
        ),
        fault(
            "a_known_flaw_that_is_gone_is_red",
            |s| Box::pin(flaw_that_is_gone(s)),
            &["see a known flaw", "example.org/1"],
        ),
        fault(
            "a_statement_that_the_database_refuses_is_told_with_its_reason",
            |s| Box::pin(refused_statement(s)),
            &["PostgreSQL", "INSERT INTO", "violates not-null constraint"],
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a scenario that must fail, and looks for these words in its message.
fn fails(name: &'static str, run: Run, told: &[&str]) -> Result<(), Failed> {
    let snapshot = SnapshotMode::NoData;
    let definition = Definition {
        name,
        doc: "",
        file: file!(),
        package: "",
        snapshot,
        reading: &[],
        own_server: false,
        only: &[],
        why: "",
        on: &[],
        run,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match runtime.block_on(Scenario::run(&definition, &DebeziumPostgres)) {
        Ok(outcome) => Err(format!("it passed:\n{}", outcome.page).into()),
        Err(error) => {
            let message = error.to_string();
            match told.iter().find(|words| !message.contains(*words)) {
                Some(words) => Err(format!("“{words}” is missing in: {message}").into()),
                None => Ok(()),
            }
        }
    }
}

async fn wrong_password(s: &mut Scenario) -> Result<()> {
    s.configure("database.password", "wrong");
    s.start_capture().await?;
    s.judge().await
}

async fn truncate_left_out(s: &mut Scenario) -> Result<()> {
    let carts = s.create(TableBuilder::new("carts").key("id", Int)).await?;
    s.configure("skipped.operations", "t");
    s.start_capture().await?;
    s.apply(carts.insert(row! { id: 1 })).await?;
    s.apply(carts.truncate()).await?;
    s.judge().await
}

async fn no_judge(s: &mut Scenario) -> Result<()> {
    s.create(TableBuilder::new("carts").key("id", Int)).await?;
    s.start_capture().await
}

async fn flaw_that_is_gone(s: &mut Scenario) -> Result<()> {
    let carts = s.create(TableBuilder::new("carts").key("id", Int)).await?;
    s.start_capture().await?;
    s.apply(carts.insert(row! { id: 1 })).await?;
    s.judge_known_flaw("debezium", "https://example.org/1", &[FaultKind::WrongValue]).await
}

async fn refused_statement(s: &mut Scenario) -> Result<()> {
    let carts = TableBuilder::new("carts").key("id", Int).column_not_null("owner", Text);
    let carts = s.create(carts).await?;
    s.apply(carts.insert(row! { id: 1 })).await
}
