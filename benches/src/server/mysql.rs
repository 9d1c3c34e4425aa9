//! MySQL, which takes one statement at a time from each connection.

use std::ops::Range;

use async_trait::async_trait;
use changeproof::{
    error::{Context, Result},
    mysql::{self, Conn},
    stack::Endpoint,
};
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

const SERVICE: &str = "MySQL";

pub(super) const CREATE_TABLE: &str = "CREATE TABLE readings (\
    id bigint PRIMARY KEY, sensor varchar(40) NOT NULL, celsius double, taken timestamp(6) DEFAULT CURRENT_TIMESTAMP(6), \
    note text, version bigint NOT NULL DEFAULT 0)";

/// The columns that every load writes, and values of them for the row `i`.
const COLUMNS: &str = "id, sensor, celsius, note";
const VALUES: &str = "i, CONCAT('sensor-', i % 100), i % 40, REPEAT('x', 60)";

const UPDATE: &str = "UPDATE readings SET celsius = ? % 40, version = ? WHERE id = ?";

pub(super) struct Connection(Mutex<Conn>);

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, database: &str) -> Result<Self> {
        let mut conn = mysql::connect(endpoint, database).await?;
        let doing = "set up a session";
        let version: Option<String> = conn.query_first("SELECT VERSION()").await.while_doing(SERVICE, doing)?;
        let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        let depth = if is_mariadb { "max_recursive_iterations" } else { "cte_max_recursion_depth" };
        let deep = format!("SET SESSION {depth} = 4294967295");
        conn.query_drop(deep).await.while_doing(SERVICE, doing)?;
        Ok(Self(Mutex::new(conn)))
    }
}

#[async_trait]
impl super::Connection for Connection {
    async fn run(&self, sql: &str) -> Result<()> {
        self.0.lock().await.query_drop(sql).await.while_doing(SERVICE, format!("run `{sql}`"))
    }

    async fn insert(&self, ids: &Range<i64>) -> Result<()> {
        let (first, last) = (ids.start, ids.end - 1);
        let insert = format!(
            "INSERT INTO readings ({COLUMNS}) WITH RECURSIVE numbers (i) AS (SELECT {first} UNION ALL \
             SELECT i + 1 FROM numbers WHERE i < {last}) SELECT {VALUES} FROM numbers"
        );
        self.0.lock().await.query_drop(insert).await.while_doing(SERVICE, "write rows")
    }

    async fn insert_one(&self, id: i64) -> Result<()> {
        let insert =
            format!("INSERT INTO readings ({COLUMNS}) SELECT {VALUES} FROM (SELECT CAST(? AS SIGNED) AS i) AS numbers");
        self.0.lock().await.exec_drop(insert, (id,)).await.while_doing(SERVICE, "insert a row")
    }

    async fn update_one(&self, id: i64, version: i64) -> Result<()> {
        let row = (version, version, id);
        self.0.lock().await.exec_drop(UPDATE, row).await.while_doing(SERVICE, "update a row")
    }
}
