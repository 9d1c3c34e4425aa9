//! `cdc state` as users run it: a connector is written to a file, removed with its topics, and made again of the file.

use std::{error::Error, path::Path, process::Command};

use changeproof::{
    capture::{Capture as _, Options, Subject, collect_until_fence},
    connect::Connect,
    debezium::DebeziumPostgres,
    row,
    schema::Type,
    script::{TableBuilder, create},
    source::Place,
    stack::{Service, Stack, run_guard_if_asked},
    workspace::Workspace,
};
use libtest_mimic::{Arguments, Trial};

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> std::process::ExitCode {
    run_guard_if_asked();
    let trial = Trial::test("docker::a_connector_is_written_to_a_file_and_made_of_it", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(moved()).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// `cdc state`, with the services of a stack as if they were a user's own.
struct State {
    connect: String,
    bootstrap: String,
    login: String,
}

impl State {
    fn of(stack: &Stack) -> Answer<Self> {
        let kafka = stack.endpoint(Service::Kafka)?;
        Ok(Self {
            connect: stack.endpoint(Service::Connect)?.describe(Service::Connect),
            bootstrap: kafka.address(),
            login: kafka.password.clone(),
        })
    }

    /// What it says, and whether it is well.
    fn run(&self, arguments: &[&str]) -> Answer<(bool, String)> {
        let mut cdc = Command::new(env!("CARGO_BIN_EXE_cdc"));
        cdc.arg("state").args(arguments).args(["--connect", &self.connect, "--bootstrap", &self.bootstrap]);
        for (name, value) in [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "changeproof"),
            ("sasl.password", &self.login),
        ] {
            cdc.args(["--kafka-option", &format!("{name}={value}")]);
        }
        let ended = cdc.output()?;
        let told = [ended.stdout, ended.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).concat();
        Ok((ended.status.success(), told))
    }

    fn must(&self, succeeds: bool, words: &str, arguments: &[&str]) -> Answer<()> {
        let (has_succeeded, told) = self.run(arguments)?;
        assert!(has_succeeded == succeeds && told.contains(words), "{arguments:?}: {told}");
        Ok(())
    }
}

async fn moved() -> Answer<()> {
    let stack = Stack::acquire(DebeziumPostgres.services()).await?;
    let mut workspace = Workspace::open(&stack, &DebeziumPostgres, Place::Memory).await?;
    let file = stack.state().dir().join(format!("{}.state", workspace.database()));
    let moved = with_a_file(&stack, &mut workspace, &file).await;
    let _ = std::fs::remove_file(&file);
    workspace.close(&stack).await?;
    moved
}

async fn with_a_file(stack: &Stack, workspace: &mut Workspace, file: &Path) -> Answer<()> {
    let (state, options) = (State::of(stack)?, Options::default());
    let visits = TableBuilder::new("visits").key("id", Type::Int);
    let name = workspace.subject(stack).name.to_owned();
    let path = file.to_string_lossy().into_owned();
    workspace.source.apply(&create(&visits)).await?;
    let mut before = workspace.start(stack, &options).await?;
    workspace.source.apply(&visits.handle().insert(row! { id: 1 })).await?;
    let fence = workspace.source.write_fence().await?;
    collect_until_fence(before.as_mut(), fence).await?;
    drop(before);

    let export = ["export", "--to", &path, "--connector", &name];
    state.must(false, "there is none of the name", &["export", "--to", &path, "--connector", "nobody"])?;
    state.must(true, "1 connector with", &export)?;
    state.must(false, "there already", &export)?;
    workspace.source.apply(&visits.handle().insert(row! { id: 2 })).await?;

    let source = format!("{name}={}", stack.endpoint(Service::Postgres)?.url(workspace.database()));
    let import = ["import", "--from", &path, "--source", &source];
    state.must(false, &format!("a connector {name} already"), &import)?;
    Connect::of(stack)?.connector(&name, "Debezium").remove().await?;
    state.must(false, "Kafka has a topic", &import)?;
    let subject = Subject { stack, database: workspace.database(), name: &name };
    DebeziumPostgres.clean_up(subject).await?;
    state.must(false, "--settings", &import)?;
    let settings = file.with_extension("settings");
    std::fs::write(&settings, format!("{name}/database.password={}\n", stack.endpoint(Service::Postgres)?.password))?;
    let given = settings.to_string_lossy().into_owned();
    let (made, told) = state.run(&[&import[..], &["--settings", &given]].concat())?;
    std::fs::remove_file(&settings)?;
    assert!(made && told.contains("1 connector made"), "{told}");

    // What was committed before the export is in the topics, and what came after it comes from the log: each once.
    let fence = workspace.source.write_fence().await?;
    let mut after = workspace.start(stack, &options).await?;
    let ids: Vec<_> = collect_until_fence(after.as_mut(), fence).await?.into_iter().map(|change| change.key).collect();
    assert_eq!(ids, [row! { id: 1 }, row! { id: 2 }]);
    Ok(())
}
