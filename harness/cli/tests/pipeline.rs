//! `cdc replicate` and `cdc check` as users run them: on a database of their own, killed, stopped and started again.

use std::{
    error::Error,
    path::Path,
    process::{Child, Command, ExitCode, Output, Stdio},
    time::{Duration, Instant},
};

use changeproof::{
    postgres::{Address, PUBLICATION, PostgreSql, publish_all_tables},
    source::{Place, Storage as _},
    stack::{Lease, Service, Stack, run_guard_if_asked},
};
use libtest_mimic::{Arguments, Trial};

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    run_guard_if_asked();
    let trial = Trial::test("docker::a_database_is_replicated_by_a_program_that_is_killed_and_stopped", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(replicated()).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// `cdc` with the two ends of the pipeline.
struct Pipeline {
    url: String,
    sink: String,
    slot: String,
}

impl Pipeline {
    fn command(&self, command: &str) -> Command {
        let mut cdc = Command::new(env!("CARGO_BIN_EXE_cdc"));
        cdc.args([command, "--from", &self.url, "--to", &self.sink, "--publication", PUBLICATION]);
        cdc
    }

    fn replicate(&self) -> Command {
        let mut replicate = self.command("replicate");
        replicate.args(["--slot", &self.slot, "--every", "20"]).stdin(Stdio::null());
        replicate
    }

    fn check(&self) -> Answer<Output> {
        Ok(self.command("check").output()?)
    }

    /// Waits until both hold the same.
    fn until_equal(&self, replicating: &mut Child) -> Answer<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let checked = self.check()?;
            if checked.status.success() {
                return Ok(());
            }
            if let Some(ended) = replicating.try_wait()? {
                return Err(format!("the replication has ended with {ended}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("a minute has passed: {}", String::from_utf8_lossy(&checked.stdout)).into());
            }
        }
    }
}

async fn replicated() -> Answer<()> {
    let mut stack = Stack::acquire(&[Service::Postgres]).await?;
    let lease = Lease::take(stack.state(), "cdc_replicate")?;
    let name = lease.name().to_owned();
    let source = PostgreSql.create(&stack, &name, Place::Memory).await?;
    let endpoint = stack.endpoint(Service::Postgres)?.clone();
    let folder = stack.state().dir().join("warehouses").join("cdc").join(&name);
    let ran = on_database(&endpoint, &name, &folder).await;
    drop(source);
    let _ = std::fs::remove_dir_all(&folder);
    PostgreSql.remove(&stack, &name).await?;
    lease.release()?;
    stack.give_back().await?;
    ran
}

async fn on_database(endpoint: &changeproof::stack::Endpoint, name: &str, folder: &Path) -> Answer<()> {
    let client = Address::of(endpoint, name).connect().await?;
    let pipeline =
        Pipeline { url: endpoint.url(name), sink: folder.to_string_lossy().into_owned(), slot: format!("{name}_cdc") };
    let without = pipeline.replicate().arg("--once").output()?;
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && told.contains("CREATE PUBLICATION"), "no publication: {told}");

    publish_all_tables(endpoint, name).await?;
    client
        .batch_execute("CREATE TABLE orders (id int PRIMARY KEY, total numeric(8, 2)); INSERT INTO orders VALUES (1, 9.99), (2, 5)")
        .await?;
    let once = pipeline.replicate().arg("--once").output()?;
    let told = String::from_utf8_lossy(&once.stderr).into_owned();
    assert!(once.status.success() && told.contains("2 rows copied"), "{told}");
    let checked = pipeline.check()?;
    assert_eq!(String::from_utf8(checked.stdout)?, "orders  equal, 2 rows\n");

    // A kill loses nothing.
    let mut killed = pipeline.replicate().stderr(Stdio::null()).spawn()?;
    client.batch_execute("UPDATE orders SET total = total + 1; INSERT INTO orders VALUES (3, 1)").await?;
    pipeline.until_equal(&mut killed)?;
    killed.kill()?;
    killed.wait()?;
    client
        .batch_execute("ALTER TABLE orders ADD COLUMN state text; UPDATE orders SET state = 'open' WHERE id = 3")
        .await?;
    client.batch_execute("DELETE FROM orders WHERE id = 1").await?;
    let differs = pipeline.check()?;
    let told = String::from_utf8(differs.stdout)?;
    assert_eq!(differs.status.code(), Some(1), "{told}");
    assert!(told.contains("the column state is missing in the sink"), "{told}");

    // Started again it goes on, and Ctrl-C ends it well.
    let mut stopped = pipeline.replicate().stderr(Stdio::null()).spawn()?;
    pipeline.until_equal(&mut stopped)?;
    Command::new("kill").args(["-INT", &stopped.id().to_string()]).status()?;
    assert!(stopped.wait()?.success(), "Ctrl-C is a clean stop");
    Ok(())
}
