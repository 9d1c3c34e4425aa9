//! What `cdc try` asks of PostgreSQL.

use async_trait::async_trait;
use changeproof::{
    error::{Context, Result},
    postgres,
    source::Source,
    stack::Endpoint,
};
use tokio_postgres::{Client, error::ErrorPosition};

use super::{Column, Database, Refusal, Session, Shape, Shapes};

const TITLE: &str = "PostgreSQL";

/// A database of PostgreSQL.
pub(super) struct Postgres {
    endpoint: Endpoint,
    name: String,
    admin: Client,
}

impl Postgres {
    pub(super) async fn connect(endpoint: Endpoint, name: String) -> Result<Self> {
        let admin = postgres::connect(&endpoint, &name).await?;
        Ok(Self { endpoint, name, admin })
    }
}

struct Connection {
    client: Client,
    process: i32,
}

#[async_trait]
impl Session for Connection {
    fn number(&self) -> u64 {
        u64::try_from(self.process).unwrap_or_default()
    }

    async fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        self.client.batch_execute(sql).await.map_err(|error| refusal(&error))
    }
}

fn refusal(error: &tokio_postgres::Error) -> Refusal {
    let Some(said) = error.as_db_error() else { return Refusal { message: error.to_string(), at: None } };
    let mut message = said.message().to_owned();
    for (label, more) in [("detail", said.detail()), ("hint", said.hint())] {
        if let Some(more) = more {
            message.push_str(&format!("\n       {label}: {more}"));
        }
    }
    let at = match said.position() {
        Some(ErrorPosition::Original(position)) => Some((*position as usize).saturating_sub(1)),
        _ => None,
    };
    Refusal { message, at }
}

#[async_trait]
impl Database for Postgres {
    fn title(&self) -> &'static str {
        TITLE
    }

    async fn open(&self) -> Result<Box<dyn Session>> {
        let client = postgres::connect(&self.endpoint, &self.name).await?;
        let process = client.query_one("SELECT pg_backend_pid()", &[]).await;
        let process = process.while_doing(TITLE, "open a session")?.get(0);
        Ok(Box::new(Connection { client, process }))
    }

    async fn is_blocked(&mut self, session: u64) -> Result<bool> {
        let blockers = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        let blocked = self.admin.query_one(blockers, &[&i32::try_from(session).unwrap_or_default()]).await;
        Ok(blocked.while_doing(TITLE, "look for locks")?.get(0))
    }

    /// Triggers of the database's own see to tables that come.
    async fn shapes(&mut self, _source: &dyn Source) -> Result<Shapes> {
        let shapes = postgres::shapes(&self.admin).await?.into_iter().map(|(name, shape)| {
            let columns = shape
                .columns
                .into_iter()
                .map(|column| (column.number.to_string(), Column { name: column.name, type_name: column.type_name }));
            let (number, columns) = (Some(shape.oid.into()), columns.collect());
            (name, Shape { number, columns, identity: shape.identity })
        });
        Ok(shapes.collect())
    }
}
