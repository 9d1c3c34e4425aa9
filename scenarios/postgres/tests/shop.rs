//! The shop of `fixtures/`, in every locale, loaded by COPY and captured: names, addresses, JSON, arrays, enums and times
//! that look like a shop's, judged by what the database holds in the end.

use std::{io::Cursor, pin::pin, process::ExitCode};

use changeproof::{
    capture::{Options, SnapshotMode, collect_until_fence},
    debezium::DebeziumPostgres,
    error::{Context, Error, Result},
    judge::{Alterations, Contents, judge_fold},
    postgres,
    runner::on_a_runtime,
    source::Place,
    stack::{Stack, run_guard_if_asked},
    workspace::Workspace,
};
use changeproof_fixtures::{
    Format, Generator, Locale, Table,
    postgres::{SCHEMA, copy_statement},
};
use futures_util::SinkExt;
use libtest_mimic::{Arguments, Trial};
use tokio_postgres::Client;

const ORDERS: u32 = 300;
const SEED: u64 = 7;

/// A cascade, a rewrite of every product, rows without a change, rows that come and go.
const BUSINESS: [&str; 4] = [
    "DELETE FROM orders WHERE id % 7 = 0",
    "UPDATE products SET price = price * 2, updated_at = now()",
    "UPDATE orders SET status = 'shipped', shipped_at = placed_at + interval '1 day' WHERE id % 3 = 0",
    "BEGIN; DELETE FROM order_lines WHERE order_id % 5 = 1; UPDATE customers SET tags = tags || '{vip}'; COMMIT",
];

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = Locale::ALL.iter().map(|locale| {
        let name = format!("debezium::shop_{locale}");
        Trial::test(name, move || on_a_runtime(capture_shop(*locale)))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

async fn capture_shop(locale: Locale) -> Result<()> {
    let does = async |stack: &Stack, workspace: &mut Workspace| load_and_judge(stack, workspace, locale).await;
    Workspace::within(&DebeziumPostgres, Place::Memory, does).await
}

/// Customers and products are there before the capture begins; orders and their lines come while it runs.
async fn load_and_judge(stack: &Stack, workspace: &mut Workspace, locale: Locale) -> Result<()> {
    let options = Options { snapshot: SnapshotMode::Initial, ..Options::default() };
    let shop = workspace.source.as_a_mut::<postgres::Source>()?.session("a").await?;
    shop.batch_execute(SCHEMA).await.while_doing("PostgreSQL", "make the shop")?;
    copy(shop, Table::Customers, locale).await?;
    copy(shop, Table::Products, locale).await?;
    let mut subscription = workspace.start(stack, &options).await?;
    let shop = workspace.source.as_a_mut::<postgres::Source>()?.session("a").await?;
    copy(shop, Table::Orders, locale).await?;
    copy(shop, Table::OrderLines, locale).await?;
    for statement in BUSINESS {
        shop.batch_execute(statement).await.while_doing("PostgreSQL", statement)?;
    }
    let fence = workspace.source.write_fence().await?;
    let stream = collect_until_fence(subscription.as_mut(), fence).await?;
    let held = workspace.source.contents().await?;
    let rows: usize = held.values().map(|table| table.rows.len()).sum();
    let enough = ORDERS as usize * 2;
    let guarantees = workspace.method().guarantees(&options);
    let (faults, losses) = judge_fold(&Contents::new(), &stream, &held, &Alterations::default(), &guarantees);
    if held.len() != Table::ALL.len() || rows < enough || !losses.is_empty() {
        return Err(Error::new("the shop", "fill it", format!("{rows} rows, {losses:?}")));
    }
    match faults.first() {
        Some(fault) => Err(Error::new("debezium", "deliver the shop", fault)),
        None => Ok(()),
    }
}

async fn copy(client: &Client, table: Table, locale: Locale) -> Result<()> {
    let doing = || format!("load {table} by COPY");
    let shop = Generator::new(SEED, locale);
    let rows = shop.table(table).rows(shop.rows_in_shop(table, ORDERS));
    let statement = copy_statement(table, Format::Copy)
        .ok_or_else(|| Error::new("the shop", doing(), "the format can't be loaded"))?;
    let sink = client.copy_in(&statement).await.while_doing("PostgreSQL", doing())?;
    let mut sink = pin!(sink);
    for chunk in rows.chunks(Format::Copy) {
        sink.send(Cursor::new(chunk)).await.while_doing("PostgreSQL", doing())?;
    }
    sink.finish().await.map(drop).while_doing("PostgreSQL", doing())
}
