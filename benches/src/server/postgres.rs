//! PostgreSQL, which takes a statement before the one before it has been answered.

use std::ops::Range;

use async_trait::async_trait;
use changeproof::{
    error::{Context, Result},
    postgres,
    stack::Endpoint,
};
use tokio_postgres::{Client, Statement};

const SERVICE: &str = "PostgreSQL";

pub(super) const CREATE_TABLE: &str = "CREATE TABLE public.readings (\
    id bigint PRIMARY KEY, sensor text NOT NULL, celsius double precision, taken timestamptz DEFAULT now(), \
    note text, version bigint NOT NULL DEFAULT 0)";

/// The columns that every load writes, and values of them for the row `i`.
const COLUMNS: &str = "id, sensor, celsius, note";
const VALUES: &str = "i, 'sensor-' || (i % 100), i % 40, repeat('x', 60)";

const UPDATE: &str = "UPDATE public.readings SET celsius = $2::bigint % 40, version = $2 WHERE id = $1";

pub(super) struct Connection {
    client: Client,
    insert: Statement,
    update: Statement,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, database: &str) -> Result<Self> {
        let client = postgres::connect(endpoint, database).await?;
        let insert =
            format!("INSERT INTO public.readings ({COLUMNS}) SELECT {VALUES} FROM (VALUES ($1::bigint)) AS row (i)");
        let insert = client.prepare(&insert).await.while_doing(SERVICE, "prepare the insert")?;
        let update = client.prepare(UPDATE).await.while_doing(SERVICE, "prepare the update")?;
        Ok(Self { client, insert, update })
    }
}

#[async_trait]
impl super::Connection for Connection {
    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.while_doing(SERVICE, format!("run `{sql}`"))
    }

    async fn insert(&self, ids: &Range<i64>) -> Result<()> {
        let (first, last) = (ids.start, ids.end - 1);
        let insert = format!(
            "INSERT INTO public.readings ({COLUMNS}) SELECT {VALUES} FROM generate_series({first}::bigint, {last}) i"
        );
        self.client.batch_execute(&insert).await.while_doing(SERVICE, "write rows")
    }

    async fn insert_one(&self, id: i64) -> Result<()> {
        self.client.execute(&self.insert, &[&id]).await.while_doing(SERVICE, "insert a row").map(drop)
    }

    async fn update_one(&self, id: i64, version: i64) -> Result<()> {
        self.client.execute(&self.update, &[&id, &version]).await.while_doing(SERVICE, "update a row").map(drop)
    }
}
