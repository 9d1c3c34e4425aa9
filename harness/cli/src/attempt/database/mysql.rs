//! What `cdc try` asks of MySQL and MariaDB.

use std::collections::BTreeMap;

use async_trait::async_trait;
use changeproof::{
    error::{Context, Result},
    mysql::{self, Conn, Flavour},
    schema::TableName,
    source::Source,
    stack::Endpoint,
};
use mysql_async::{Error as DriverError, prelude::Queryable};

use super::{Column, Database, Refusal, Session, Shape, Shapes};

/// A database of MySQL's family.
pub(super) struct MySql {
    flavour: Flavour,
    endpoint: Endpoint,
    name: String,
    admin: Conn,
}

impl MySql {
    pub(super) async fn connect(flavour: Flavour, endpoint: Endpoint, name: String) -> Result<Self> {
        let admin = mysql::connect(&endpoint, &name).await?;
        Ok(Self { flavour, endpoint, name, admin })
    }

    /// The tables' numbers, which InnoDB gives anew to one that is written anew. It spells a name with other signs than letters,
    /// digits and underscores in a way of its own; such a table is known by its name alone.
    async fn numbers(&mut self) -> Result<BTreeMap<TableName, u64>> {
        let list = match self.flavour {
            Flavour::MySql => "INNODB_TABLES",
            Flavour::MariaDb => "INNODB_SYS_TABLES",
        };
        let question = format!(
            "SELECT SUBSTRING_INDEX(NAME, '/', 1), SUBSTRING_INDEX(NAME, '/', -1), TABLE_ID FROM information_schema.{list} \
             WHERE NAME LIKE '{}%' AND NAME NOT LIKE '%@%'",
            self.name
        );
        let told: Vec<(String, String, u64)> =
            self.admin.query(question).await.while_doing(self.flavour.title(), "ask for its tables' numbers")?;
        let numbered = |(database, table, number): (String, String, u64)| {
            Some((TableName::new(mysql::schema_of(&self.name, &database)?, table), number))
        };
        Ok(told.into_iter().filter_map(numbered).collect())
    }
}

struct Connection(Conn);

#[async_trait]
impl Session for Connection {
    fn number(&self) -> u64 {
        self.0.id().into()
    }

    async fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        self.0.query_drop(sql).await.map_err(|error| match error {
            DriverError::Server(said) => Refusal { at: pointed_at(sql, &said.message), message: said.message },
            error => Refusal { message: error.to_string(), at: None },
        })
    }
}

/// The character that the server points at: its parser repeats what it couldn't read, and says in which line that begins (`… near
/// 'VALUES oops' at line 2`); a column that there isn't is named.
fn pointed_at(sql: &str, message: &str) -> Option<usize> {
    if let Some(named) = message.strip_prefix("Unknown column '") {
        let mut found = sql.match_indices(named.split_once('\'')?.0);
        // In which of several places it is meant nobody knows.
        return found.next().filter(|_| found.next().is_none()).map(|(at, _)| sql[..at].chars().count());
    }
    let (before, line) = message.rsplit_once("' at line ")?;
    let (_, near) = before.split_once(" near '")?;
    let line: usize = line.parse().ok()?;
    let begins: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    // The end of the statement is near nothing.
    let at = if near.is_empty() { sql.len() } else { begins + sql.get(begins..)?.find(near)? };
    Some(sql.get(..at)?.chars().count())
}

/// Whether InnoDB's status says of a connection's transaction that it waits for a lock.
fn waits_for_row(status: &str, session: u64) -> bool {
    status.split("---TRANSACTION ").skip(1).any(|transaction| {
        // It begins with the server's name.
        let is_its = |line: &str| line.contains(&format!(" thread id {session},"));
        transaction.lines().any(is_its) && transaction.lines().any(|line| line.starts_with("LOCK WAIT"))
    })
}

#[async_trait]
impl Database for MySql {
    fn title(&self) -> &'static str {
        self.flavour.title()
    }

    async fn open(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(Connection(mysql::connect(&self.endpoint, &self.name).await?)))
    }

    /// InnoDB knows who waits for a row, the list of connections who waits for a table's definition. (What `INNODB_TRX` tells is
    /// never anew while several ask for it all the time.)
    async fn is_blocked(&mut self, session: u64) -> Result<bool> {
        let doing = "look for locks";
        let told: Option<(String, String, String)> =
            self.admin.query_first("SHOW ENGINE INNODB STATUS").await.while_doing(self.flavour.title(), doing)?;
        let listed: Vec<mysql_async::Row> =
            self.admin.query("SHOW PROCESSLIST").await.while_doing(self.flavour.title(), doing)?;
        let waits_for_table = listed.iter().any(|connection| {
            let state = connection.get_opt::<String, _>("State").and_then(Result::ok).unwrap_or_default();
            connection.get("Id") == Some(session) && state == "Waiting for table metadata lock"
        });
        Ok(told.is_some_and(|(_, _, status)| waits_for_row(&status, session)) || waits_for_table)
    }

    async fn shapes(&mut self, source: &dyn Source) -> Result<Shapes> {
        source.as_a::<mysql::Source>()?.alter_those_that_are_new().await?;
        let numbers = self.numbers().await?;
        let shapes = mysql::shapes(&mut self.admin, &self.name).await?.into_iter().map(|(name, shape)| {
            let columns = shape.columns.iter().map(|column| {
                (column.name.clone(), Column { name: column.name.clone(), type_name: column.ty.to_string() })
            });
            let columns = columns.collect();
            let identity = shape.columns.iter().map(|column| column.name.clone()).collect();
            let number = numbers.get(&name).copied();
            (name, Shape { number, columns, identity })
        });
        Ok(shapes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{pointed_at, waits_for_row};

    #[test]
    fn a_transaction_that_waits_is_known_by_its_connection() {
        let status = "LIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 1, ACTIVE 3 sec\nLOCK WAIT 2 lock struct(s)\n\
                      MySQL thread id 7, OS thread handle 1\n---TRANSACTION 2, ACTIVE 1 sec\n1 lock struct(s)\n\
                      MySQL thread id 77, OS thread handle 2\n";
        assert_eq!([7, 77, 8].map(|session| waits_for_row(status, session)), [true, false, false]);
    }

    #[test]
    fn what_the_parser_points_at_is_found_in_its_line() {
        let told = |near: &str, line: usize| {
            format!(
                "You have an error in your SQL syntax; check the manual for the right syntax to use near '{near}' at line {line}"
            )
        };
        let sql = "INSERT INTO größe\nVALUES (1, 'it''s' oops)\n";
        let at = pointed_at(sql, &told("oops)", 2));
        assert_eq!(at.and_then(|at| sql.chars().nth(at)), Some('o'));
        assert_eq!(at, Some(37));
        assert_eq!(pointed_at("SELECT", &told("", 1)), Some(6));
        assert_eq!(pointed_at("SELECT x FROM t", "Unknown column 'x' in 'field list'"), Some(7));
        assert_eq!(pointed_at("SELECT x + x FROM t", "Unknown column 'x' in 'field list'"), None);
        assert_eq!(pointed_at("SELECT x", &told("y", 1)), None);
    }
}
