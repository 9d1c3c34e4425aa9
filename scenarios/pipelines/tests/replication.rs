//! The replication beyond what a script says: crashes amid a load, compaction, what it refuses; and the check, which must see what is
//! wrong.

use std::{
    future::pending,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    postgres::{self, Address, PUBLICATION, PostgreSql},
    runner::on_a_runtime,
    source::{Place, Storage as _},
    stack::{Lease, Service, Stack, run_guard_if_asked},
};
use changeproof_iceberg::Warehouse;
use changeproof_pipelines::{Cadence, Checked, Difference, Layout, Misfit, Replication, Settings, check};
use libtest_mimic::{Arguments, Trial};
use tokio::{sync::oneshot, time::timeout};
use tokio_postgres::Client;

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        trial("killed_amid_a_load", |bench| Box::pin(killed_amid_a_load(bench))),
        trial("a_stop_commits_what_was_read", |bench| Box::pin(a_stop_commits_what_was_read(bench))),
        trial("many_commits_leave_few_files", |bench| Box::pin(many_commits_leave_few_files(bench))),
        trial("old_snapshots_go_with_their_files", |bench| Box::pin(old_snapshots_go_with_their_files(bench))),
        trial("a_slot_that_is_gone_is_refused", |bench| Box::pin(a_slot_that_is_gone_is_refused(bench))),
        trial("two_of_them_are_refused", |bench| Box::pin(two_of_them_are_refused(bench))),
        trial("a_value_without_a_place_is_named", |bench| Box::pin(a_value_without_a_place_is_named(bench))),
        trial("the_check_names_rows_that_differ", |bench| Box::pin(the_check_names_rows_that_differ(bench))),
        trial("a_root_is_copied_followed_and_checked", |bench| Box::pin(a_root_is_copied_followed_and_checked(bench))),
        trial("rows_that_a_policy_hides_are_an_error", |bench| Box::pin(rows_that_a_policy_hides_are_an_error(bench))),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A database and an empty sink.
struct Bench {
    address: Address,
    port: u16,
    client: Client,
    warehouse: Warehouse,
    slot: String,
}

type Run<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

fn trial(name: &str, run: fn(Arc<Bench>) -> Run<'static>) -> Trial {
    Trial::test(format!("replication::{name}"), move || on_a_runtime(on_a_bench(run)))
}

async fn on_a_bench(run: fn(Arc<Bench>) -> Run<'static>) -> Result<()> {
    let mut stack = Stack::acquire(&[Service::Postgres]).await?;
    let lease = Lease::take(stack.state(), "replication")?;
    let name = lease.name().to_owned();
    let source = PostgreSql.create(&stack, &name, Place::Memory).await?;
    let endpoint = stack.endpoint(Service::Postgres)?;
    postgres::publish_all_tables(endpoint, &name).await?;
    let folder = stack.state().dir().join("warehouses").join("replication").join(&name);
    let address = Address::of(endpoint, &name);
    let bench = Bench {
        client: address.connect().await?,
        warehouse: Warehouse::open(&folder).await?,
        slot: format!("{name}_slot"),
        port: endpoint.port,
        address,
    };
    let ran = run(Arc::new(bench)).await;
    drop(source);
    let removed = std::fs::remove_dir_all(&folder).while_doing("the test", "remove the sink");
    let dropped = PostgreSql.remove(&stack, &name).await;
    lease.release()?;
    stack.give_back().await?;
    ran.and(removed).and(dropped)
}

impl Bench {
    fn settings(&self) -> Settings {
        Settings {
            slot: self.slot.clone(),
            publication: PUBLICATION.to_owned(),
            cadence: Cadence { every: Duration::from_millis(20), ..Cadence::default() },
            // Amid every load.
            compact_above: 5,
            ..Settings::default()
        }
    }

    async fn replication(&self) -> Result<Replication> {
        Replication::start(&self.address, self.warehouse.clone(), self.settings(), |_| {}).await
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.while_doing("PostgreSQL", "run the test's SQL")
    }

    /// Follows the log until all that has been committed so far is in the sink.
    async fn catch_up(&self) -> Result<()> {
        let mut replication = self.replication().await?;
        self.follow_by(&mut replication).await
    }

    /// As [`Self::catch_up`], by a replication that is there.
    async fn follow_by(&self, replication: &mut Replication) -> Result<()> {
        let goal = postgres::end_of_log(&self.client).await?;
        self.run("SELECT pg_logical_emit_message(true, 'test', 'done')").await?;
        let (reached, is_reached) = oneshot::channel();
        let mut reached = Some(reached);
        let stop = async {
            let _ = is_reached.await;
        };
        let followed = replication.run(stop, |progress| {
            if progress.position >= goal {
                reached.take().map(|reached| reached.send(()));
            }
        });
        followed.await
    }

    async fn check(&self, address: &Address) -> Result<Vec<Checked>> {
        check(address, PUBLICATION, &self.warehouse, Layout::Rows, Misfit::Refuse).await
    }

    async fn must_be_equal(&self) -> Result<()> {
        for table in self.check(&self.address).await? {
            if !table.is_equal() {
                let differences: Vec<String> = table.differences.iter().map(ToString::to_string).collect();
                return Err(Error::new("the test", format!("see {} equal", table.table), differences.join("; ")));
            }
        }
        Ok(())
    }
}

/// A seeded schedule: the same kills at the same times in each run.
fn times_ms(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        20 + (state >> 33) % 180
    })
}

async fn killed_amid_a_load(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE accounts (id int PRIMARY KEY, balance int, note text)").await?;
    bench.run("CREATE TABLE log (id bigserial PRIMARY KEY, account int, amount int)").await?;
    bench.run("INSERT INTO accounts SELECT n, 100, 'new' FROM generate_series(1, 200) n").await?;
    let writer = Arc::clone(&bench);
    let load = tokio::spawn(async move {
        for round in 0..400 {
            let (from, to) = (round * 7 % 200 + 1, round * 13 % 200 + 1);
            let transfer = format!(
                "BEGIN; UPDATE accounts SET balance = balance - 1 WHERE id = {from}; \
                 UPDATE accounts SET balance = balance + 1, note = 'round {round}' WHERE id = {to}; \
                 INSERT INTO log (account, amount) VALUES ({from}, -1), ({to}, 1); \
                 DELETE FROM log WHERE id = {round}; COMMIT"
            );
            writer.run(&transfer).await?;
        }
        Ok::<_, Error>(())
    });
    let mut kills = 0;
    for time in times_ms(20_240_229) {
        if load.is_finished() {
            break;
        }
        let victim = Arc::clone(&bench);
        let task = tokio::spawn(async move { victim.replication().await?.run(pending(), |_| {}).await });
        tokio::time::sleep(Duration::from_millis(time)).await;
        if task.is_finished() {
            task.await.while_doing("the test", "follow")??;
        } else {
            task.abort();
            let _ = task.await;
            kills += 1;
        }
    }
    load.await.while_doing("the test", "write the load")??;
    if kills == 0 {
        return Err(Error::new("the test", "kill the replication", "the load was over before"));
    }
    bench.catch_up().await?;
    bench.must_be_equal().await
}

async fn a_stop_commits_what_was_read(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    bench.catch_up().await?;
    bench.run("INSERT INTO t SELECT n FROM generate_series(2, 5000) n; DELETE FROM t WHERE id % 2 = 0").await?;
    bench.catch_up().await?;
    bench.must_be_equal().await
}

async fn many_commits_leave_few_files(bench: Arc<Bench>) -> Result<()> {
    bench
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n")
        .await?;
    let mut replication = bench.replication().await?;
    for round in 1..=12 {
        bench.run(&format!("UPDATE t SET n = {round} WHERE id <= {round}")).await?;
        bench.follow_by(&mut replication).await?;
    }
    let ident = iceberg_ident("t")?;
    let table = bench.warehouse.table(&ident).await?;
    let files = changeproof_iceberg::live_files(&table).await?.len();
    if files > 12 {
        return Err(Error::new("the test", "count the files", format!("{files} after 12 commits, compacted above 5")));
    }
    bench.must_be_equal().await
}

fn iceberg_ident(name: &str) -> Result<iceberg::TableIdent> {
    iceberg::TableIdent::from_strs(["public", name]).while_doing("the test", "name a table")
}

/// Of a table that is committed to again and again no more stays than it keeps.
async fn old_snapshots_go_with_their_files(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY, n int)").await?;
    let settings = Settings { keep_snapshots: Duration::ZERO, ..bench.settings() };
    let mut replication = Replication::start(&bench.address, bench.warehouse.clone(), settings, |_| {}).await?;
    for round in 0..120 {
        bench
            .run(&format!("INSERT INTO t VALUES ({}, 0) ON CONFLICT (id) DO UPDATE SET n = {round}", round % 10))
            .await?;
        bench.follow_by(&mut replication).await?;
    }
    let table = bench.warehouse.table(&iceberg_ident("t")?).await?;
    let location = table.metadata().location().trim_start_matches("file://").to_owned();
    let mut files = 0;
    for folder in ["data", "metadata"] {
        let folder = std::path::Path::new(&location).join(folder);
        files += std::fs::read_dir(folder).while_doing("the test", "count the files")?.count();
    }
    let (snapshots, progress) = (table.metadata().snapshots().len(), replication.progress());
    let is_tidy = progress.expired >= 90 && progress.removed_files > 200 && snapshots < 50 && files < 250;
    if !is_tidy || progress.left_files > 0 {
        let cause = format!("{snapshots} snapshots and {files} files after 120 commits; {progress:?}");
        return Err(Error::new("the test", "see old snapshots go", cause));
    }
    bench.must_be_equal().await
}

async fn a_slot_that_is_gone_is_refused(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    bench.catch_up().await?;
    bench.run(&format!("SELECT pg_drop_replication_slot('{}')", bench.slot)).await?;
    must_say(bench.replication().await.map(drop), "which is gone")
}

async fn two_of_them_are_refused(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let mut first = bench.replication().await?;
    // The other has a slot of its own, and so nothing but the table stands between them.
    let settings = Settings { slot: format!("{}_2", bench.slot), ..bench.settings() };
    bench.run(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", settings.slot)).await?;
    let mut second = Replication::start(&bench.address, bench.warehouse.clone(), settings, |_| {}).await?;
    bench.run("INSERT INTO t VALUES (2)").await?;
    let ended = async {
        tokio::select! {
            ended = first.run(pending(), |_| {}) => ended,
            ended = second.run(pending(), |_| {}) => ended,
        }
    };
    let ended = timeout(Duration::from_secs(20), ended).await.unwrap_or(Ok(()));
    must_say(ended, "somebody else follows the log into the same table")
}

async fn a_value_without_a_place_is_named(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY, price numeric(8, 2)); INSERT INTO t VALUES (1, 'NaN')").await?;
    must_say(bench.replication().await.map(drop), "the value NaN of the column price has no place in the sink")?;
    bench.run("UPDATE t SET price = 1.50").await?;
    bench.catch_up().await?;
    bench.must_be_equal().await
}

fn must_say(ended: Result<()>, words: &str) -> Result<()> {
    match ended {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(Error::new("the test", format!("hear “{words}”"), "nothing was said")),
    }
}

/// The check is right only if it sees what is wrong: rows that one has lost, has too many, or has otherwise.
async fn the_check_names_rows_that_differ(bench: Arc<Bench>) -> Result<()> {
    bench.run("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)").await?;
    bench.run("INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 3000) n").await?;
    bench.catch_up().await?;
    bench.must_be_equal().await?;
    // Nobody tells the sink.
    let began = Instant::now();
    bench
        .run("DELETE FROM t WHERE id = 17; UPDATE t SET v = 'other' WHERE id = 18; INSERT INTO t VALUES (9999, 'new')")
        .await?;
    let checked = bench.check(&bench.address).await?;
    let table = checked.into_iter().find(|table| table.table.name() == "t");
    let table = table.ok_or_else(|| Error::new("the test", "find the table", "it was not checked"))?;
    let told: Vec<String> = table.differences.iter().map(ToString::to_string).collect();
    let expected = [
        "only in the sink: id: 17, v: v17",
        "at the source id: 18, v: other; in the sink id: 18, v: v18",
        "only at the source: id: 9999, v: new",
    ];
    if told != expected {
        return Err(Error::new("the test", "see what differs", format!("{told:?}")));
    }
    println!("checked 3,000 rows in {} ms", began.elapsed().as_millis());
    bench.run("ALTER TABLE u ADD COLUMN w int").await?;
    let checked = bench.check(&bench.address).await?;
    let is_seen = checked.iter().any(|table| {
        let is_w = |difference: &Difference| matches!(difference, Difference::Column { column, .. } if column == "w");
        table.table.name() == "u" && table.differences.iter().any(is_w)
    });
    if is_seen { Ok(()) } else { Err(Error::new("the test", "see a column missing", format!("{checked:?}"))) }
}

/// A partitioned table that is published by its root: its rows are in the partitions, and so is what tells that they were rewritten or filled.
async fn a_root_is_copied_followed_and_checked(bench: Arc<Bench>) -> Result<()> {
    bench.run(&format!("ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)")).await?;
    let root = "CREATE TABLE orders (id int, year int, total int, PRIMARY KEY (id, year)) PARTITION BY LIST (year); \
                CREATE TABLE orders_2023 PARTITION OF orders FOR VALUES IN (2023); \
                CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES IN (2024); \
                INSERT INTO orders SELECT n, 2023 + n % 2, n FROM generate_series(1, 10) n";
    bench.run(root).await?;
    let must_be_checked = async |rows: u64| match &bench.check(&bench.address).await?[..] {
        [orders] if orders.is_equal() && orders.table.name() == "orders" && orders.sink_rows == rows => Ok(()),
        checked => Err(Error::new("the test", format!("see {rows} orders equal"), format!("{checked:?}"))),
    };
    match &bench.check(&bench.address).await?[..] {
        [orders] if orders.differences == [Difference::NoTable] && orders.source_rows == 10 => {}
        checked => return Err(Error::new("the test", "see orders missing", format!("{checked:?}"))),
    }
    bench.catch_up().await?;
    must_be_checked(10).await?;
    let changes = "UPDATE orders SET year = 2024 WHERE id = 2; DELETE FROM orders WHERE id = 3; \
                   INSERT INTO orders VALUES (11, 2023, 11)";
    bench.run(changes).await?;
    bench.catch_up().await?;
    must_be_checked(10).await?;
    bench
        .run("ALTER TABLE orders ADD COLUMN note text DEFAULT 'none'; UPDATE orders SET total = 0 WHERE id = 4")
        .await?;
    bench.catch_up().await?;
    must_be_checked(10).await?;
    // Nobody tells the sink.
    bench.run("DELETE FROM orders_2023 WHERE id = 6").await?;
    let checked = bench.check(&bench.address).await?;
    let told: Vec<String> = checked.iter().flat_map(|table| &table.differences).map(ToString::to_string).collect();
    match told == ["only in the sink: id: 6, year: 2023, total: 6, note: none"] {
        true => Ok(()),
        false => Err(Error::new("the test", "see a row missing in a partition", format!("{told:?}"))),
    }
}

/// A user that sees a part of the rows would copy that part, and find it equal.
async fn rows_that_a_policy_hides_are_an_error(bench: Arc<Bench>) -> Result<()> {
    let reader = format!("{}_reader", bench.slot);
    bench.run(&format!("CREATE ROLE {reader} LOGIN REPLICATION PASSWORD 'reader'")).await?;
    let ended = read_as(&bench, &reader).await;
    // A role belongs to the server, and other tests may use it after this one.
    bench.run(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}")).await?;
    ended
}

async fn read_as(bench: &Bench, reader: &str) -> Result<()> {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, owner text); INSERT INTO {name} VALUES (1, 'ada'), (2, 'bob'); \
             ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON {name} USING (owner = 'ada'); \
             GRANT SELECT ON {name} TO {reader}"
        )
    };
    let (database, port) = (bench.address.database(), bench.port);
    let url = format!("postgres://{reader}:reader@127.0.0.1:{port}/{database}?sslmode=disable");
    let address = Address::from_url(&url)?;
    bench.run(&table("notes")).await?;
    bench.catch_up().await?;
    must_say(bench.check(&address).await.map(drop), "row-level security policy for table \"notes\"")?;
    bench.run(&table("letters")).await?;
    let copied = Replication::start(&address, bench.warehouse.clone(), bench.settings(), |_| {}).await;
    must_say(copied.map(drop), "row-level security policy for table \"letters\"")
}
