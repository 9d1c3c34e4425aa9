//! `cdc replicate` and `cdc check` as users run them: on a database of their own, killed, stopped and started again.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use changeproof::{
    postgres::{Address, PUBLICATION, PostgreSql, publish_all_tables},
    source::{Place, Storage as _},
    stack::{Endpoint, Lease, Service, Stack, run_guard_if_asked},
};
use libtest_mimic::{Arguments, Failed, Trial};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_postgres::Client;

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        Trial::test("docker::a_database_is_replicated_by_a_program_that_is_killed_and_stopped", || on(replicated)),
        Trial::test("docker::a_database_is_replicated_by_tls_and_no_server_trusted_that_is_another", || on(encrypted)),
        Trial::test("docker::metrics_tell_what_has_worked_and_what_fails", || on(measured)),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a test on a database of its own, and a folder for the sink.
fn on(test: impl AsyncFn(&Endpoint, &str, &Path) -> Answer<()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(on_a_database(test)).map_err(|error| error.to_string().into())
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

async fn on_a_database(test: impl AsyncFn(&Endpoint, &str, &Path) -> Answer<()>) -> Answer<()> {
    let mut stack = Stack::acquire(&[Service::Postgres]).await?;
    let lease = Lease::take(stack.state(), "cdc_replicate")?;
    let name = lease.name().to_owned();
    let source = PostgreSql.create(&stack, &name, Place::Memory).await?;
    let endpoint = stack.endpoint(Service::Postgres)?.clone();
    let folder = stack.state().dir().join("warehouses").join("cdc").join(&name);
    let ran = test(&endpoint, &name, &folder).await;
    drop(source);
    let _ = std::fs::remove_dir_all(&folder);
    PostgreSql.remove(&stack, &name).await?;
    lease.release()?;
    stack.give_back().await?;
    ran
}

async fn replicated(endpoint: &Endpoint, name: &str, folder: &Path) -> Answer<()> {
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

/// Publishes all tables of the database, and makes one.
async fn with_five_orders(endpoint: &Endpoint, name: &str) -> Answer<Client> {
    publish_all_tables(endpoint, name).await?;
    let client = Address::of(endpoint, name).connect().await?;
    client
        .batch_execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 5)")
        .await?;
    Ok(client)
}

/// Makes the server speak TLS, by a certificate that an authority of the test's own has signed for `localhost`, and know clients
/// by it. Writes the authority's to a folder, and a client's by it, and another client's by itself.
async fn speak_tls(admin: &Client, folder: &Path) -> Answer<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
    let server = [("test.crt", certificate.pem()), ("test.key", key.serialize_pem()), ("test.ca", authority.pem())];
    for (file, pem) in server {
        // The server refuses a key that others can read; programs that it runs write beside its data.
        let write =
            format!(r"COPY (SELECT regexp_split_to_table('{pem}', '\r?\n')) TO PROGRAM 'umask 077; cat > {file}'");
        admin.batch_execute(&write).await?;
    }
    for set in ["ssl_cert_file = 'test.crt'", "ssl_key_file = 'test.key'", "ssl_ca_file = 'test.ca'", "ssl = on"] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {set}")).await?;
    }
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    let mut client = CertificateParams::new(Vec::new())?;
    client.distinguished_name.push(DnType::CommonName, "replicator");
    let (known, unknown) = (client.clone().signed_by(&key, &authority)?, client.self_signed(&key)?);
    let files = [("authority", authority.pem()), ("known", known.pem()), ("unknown", unknown.pem())];
    for (name, pem) in files.into_iter().chain([("key", key.serialize_pem())]) {
        std::fs::write(folder.join(name).with_extension("pem"), pem)?;
    }
    Ok(())
}

async fn encrypted(endpoint: &Endpoint, name: &str, folder: &Path) -> Answer<()> {
    let admin = with_five_orders(endpoint, name).await?;
    std::fs::create_dir_all(folder)?;
    speak_tls(&admin, folder).await?;
    let sink = folder.join("sink").to_string_lossy().into_owned();
    let to = |host: &str, options: &str| Pipeline {
        url: format!("{}?{options}", endpoint.url(name)).replace("127.0.0.1", host),
        sink: sink.clone(),
        slot: format!("{name}_cdc"),
    };
    let by =
        |host: &str, mode: &str| to(host, &format!("sslmode={mode}&sslrootcert={}/authority.pem", folder.display()));
    let as_client = |whose: &str| {
        let folder = folder.display();
        let own = format!("sslcert={folder}/{whose}.pem&sslkey={folder}/key.pem");
        to("localhost", &format!("sslmode=verify-full&sslrootcert={folder}/authority.pem&{own}"))
    };

    let other = by("127.0.0.1", "verify-full").replicate().arg("--once").output()?;
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && told.contains("not valid for name"), "the name is another: {told}");
    let untrusted = to("localhost", "sslmode=verify-full").replicate().arg("--once").output()?;
    let told = String::from_utf8_lossy(&untrusted.stderr).into_owned();
    assert!(!untrusted.status.success() && told.contains("UnknownIssuer"), "nobody knows the authority: {told}");

    let stranger = as_client("unknown").replicate().arg("--once").output()?;
    let told = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(!stranger.status.success() && told.contains("UnknownCA"), "the server does not know the client: {told}");

    let own = as_client("known");
    let mut replicating = own.replicate().stderr(Stdio::null()).spawn()?;
    own.until_equal(&mut replicating)?;
    admin.batch_execute("INSERT INTO orders SELECT generate_series(6, 5000)").await?;
    own.until_equal(&mut replicating)?;
    let walsender =
        "SELECT client_dn FROM pg_stat_ssl JOIN pg_replication_slots ON pid = active_pid WHERE slot_name = $1";
    let client = admin.query_one(walsender, &[&own.slot]).await?.get::<_, Option<String>>(0);
    assert_eq!(client.as_deref(), Some("/CN=replicator"), "the log comes by TLS, to a client that is known");
    replicating.kill()?;
    replicating.wait()?;
    for mode in ["verify-ca", "require", "prefer", "disable"] {
        let checked = by("127.0.0.1", mode).check()?;
        let told = String::from_utf8(checked.stdout)? + &String::from_utf8(checked.stderr)?;
        assert_eq!(told, "orders  equal, 5000 rows\n", "{mode}");
    }

    admin.batch_execute("ALTER SYSTEM SET ssl = off").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    let plain = by("127.0.0.1", "require").check()?;
    let told = String::from_utf8(plain.stderr)?;
    assert!(!plain.status.success() && told.contains("TLS"), "{told}");
    Ok(())
}

/// A program that is replicating, and where it answers Prometheus.
struct Measured {
    replicating: Child,
    metrics: String,
    errors: JoinHandle<Vec<String>>,
}

impl Measured {
    fn start(pipeline: &Pipeline) -> Answer<Self> {
        let mut command = pipeline.replicate();
        let mut replicating = command.args(["--metrics", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(replicating.stderr.take().ok_or("it has no standard error")?).lines();
        let first = lines.next().ok_or("it said nothing")??;
        let metrics = first.strip_prefix("metrics at ").ok_or_else(|| first.clone())?.to_owned();
        // What is not read stands in its way.
        let errors = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Ok(Self { replicating, metrics, errors })
    }

    /// The numbers by their names.
    async fn numbers(&self) -> Answer<BTreeMap<String, f64>> {
        let text = reqwest::get(&self.metrics).await?.error_for_status()?.text().await?;
        let numbers = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, number) = line.split_once(' ').ok_or_else(|| format!("`{line}` is no number"))?;
            Ok((name.trim_start_matches("changeproof_replicate_").to_owned(), number.parse()?))
        });
        numbers.collect()
    }

    /// Waits until something is true of the numbers.
    async fn until(&self, what: &str, is_it: impl Fn(&BTreeMap<String, f64>) -> bool) -> Answer<BTreeMap<String, f64>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let numbers = self.numbers().await?;
            if is_it(&numbers) {
                return Ok(numbers);
            }
            if Instant::now() > deadline {
                return Err(format!("a minute has passed, and not {what}: {numbers:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn measured(endpoint: &Endpoint, name: &str, folder: &Path) -> Answer<()> {
    let client = with_five_orders(endpoint, name).await?;
    let pipeline =
        Pipeline { url: endpoint.url(name), sink: folder.to_string_lossy().into_owned(), slot: format!("{name}_cdc") };
    let mut measured = Measured::start(&pipeline)?;
    measured.until("are rows copied", |numbers| numbers["copied_rows_total"] == 5.0).await?;
    client.batch_execute("BEGIN; INSERT INTO orders VALUES (6), (7); DELETE FROM orders WHERE id = 1; COMMIT").await?;
    client.batch_execute("INSERT INTO orders VALUES (8)").await?;
    let worked = measured.until("are changes there", |numbers| numbers["changes_total"] == 4.0).await?;
    assert!(worked["transactions_total"] == 2.0 && worked["commits_total"] >= 2.0, "{worked:?}");
    assert!(worked["lag_seconds"] > 0.0 && worked["lag_seconds"] < 60.0, "{worked:?}");
    assert!(worked["slot_retained_bytes"] >= 0.0 && worked["last_success_timestamp_seconds"] > 1e9, "{worked:?}");
    assert!(worked["failed"] == 0.0 && worked["failing_since_timestamp_seconds"] == 0.0, "{worked:?}");

    // The database lets nobody in.
    let admin = Address::of(endpoint, endpoint.user()).connect().await?;
    let allow =
        async |allows: bool| admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allows}")).await;
    allow(false).await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    admin.execute(end, &[&name]).await?;
    let failing = measured.until("fails it twice", |numbers| numbers["consecutive_failures"] >= 2.0).await?;
    assert!(failing["failed"] == 1.0 && failing["failing_since_timestamp_seconds"] > 1e9, "{failing:?}");
    assert!(failing["slot_retained_bytes"].is_nan() && failing["changes_total"] == 4.0, "{failing:?}");
    measured.until("grows the lag", |numbers| numbers["lag_seconds"] > failing["lag_seconds"]).await?;

    allow(true).await?;
    let again = measured.until("works it again", |numbers| numbers["failed"] == 0.0).await?;
    assert!(again["consecutive_failures"] == 0.0 && again["changes_total"] == 4.0, "{again:?}");
    measured.replicating.kill()?;
    measured.replicating.wait()?;
    let told = measured.errors.join().map_err(|_| "its errors could not be read")?;
    assert!(told.iter().any(|line| line.contains("it is tried again")), "{told:?}");
    Ok(())
}
