//! What differs from one database to another for a program: what it is told, and how its words are read.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::{
    capture::Subject,
    change::{Lsn, Position},
    error::{Error, Result},
    mysql::{self, Conn},
    postgres::{self, PUBLICATION},
    schema::{TableName, Type},
    source::{Dialect, Storage},
    stack::Endpoint,
    value::Value,
};

/// The columns' types of tables.
pub(super) type Known = BTreeMap<TableName, BTreeMap<String, Type>>;

/// How a program's words are read.
#[derive(Clone, Debug)]
pub(super) enum Words {
    /// In PostgreSQL's spelling.
    PostgreSql,
    /// In MySQL's, for the databases of this lease.
    MySql(String),
}

impl Words {
    /// The harness's word for a type.
    pub(super) fn type_named(&self, name: &str) -> Type {
        match self {
            Self::PostgreSql => postgres::type_named(name),
            Self::MySql(_) => mysql::type_named(name),
        }
    }

    /// The table that a name stands for: in MySQL's family a schema is a database.
    pub(super) fn table(&self, name: TableName) -> TableName {
        let schema = match self {
            Self::PostgreSql => None,
            Self::MySql(lease) => mysql::schema_of(lease, name.schema()).map(str::to_owned),
        };
        match schema {
            Some(schema) => TableName::new(schema, name.name()),
            None => name,
        }
    }

    /// A position in the log.
    pub(super) fn position(&self, text: &str) -> Option<Position> {
        match self {
            Self::PostgreSql => text.parse::<Lsn>().ok().map(Position::Lsn),
            Self::MySql(_) => Position::of_gtid(text),
        }
    }

    /// The value of a type from the text that the database prints; bytes in hexadecimal.
    pub(super) fn value(&self, text: &str, ty: &Type) -> Value {
        match (self, ty) {
            (Self::PostgreSql, ty) => Value::from_text(text, ty),
            (_, Type::Other(name)) if mysql::is_of(name, "bit") => Value::Text(text.to_owned()),
            (_, ty) => match (mysql::from_text(&[], ty), Value::from_text(text, &Type::Bytes)) {
                (Value::Bytes(_), bytes @ Value::Bytes(_)) => bytes,
                _ => mysql::from_text(text.as_bytes(), ty),
            },
        }
    }
}

/// The catalogue of the captured database.
pub(super) enum Catalogue {
    PostgreSql(Client),
    MySql(Conn, String),
}

impl Catalogue {
    /// The columns' types of all tables as they are now.
    pub(super) async fn types(&mut self) -> Result<Known> {
        let of_columns = |columns: Vec<(String, Type)>| columns.into_iter().collect();
        Ok(match self {
            Self::PostgreSql(client) => {
                let shapes = postgres::shapes(client).await?.into_iter().chain([postgres::fence()]);
                let columns =
                    |shape: postgres::TableShape| shape.columns.into_iter().map(|column| (column.name, column.ty));
                shapes.map(|(name, shape)| (name, of_columns(columns(shape).collect()))).collect()
            }
            Self::MySql(conn, lease) => {
                let shapes = mysql::shapes(conn, lease).await?.into_iter().chain([mysql::fence()]);
                let columns =
                    |shape: mysql::TableShape| shape.columns.into_iter().map(|column| (column.name, column.ty));
                shapes.map(|(name, shape)| (name, of_columns(columns(shape).collect()))).collect()
            }
        })
    }
}

/// What a program gets of a database: its environment, how its words are read, and the catalogue to read values by.
pub(super) struct Access {
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) words: Words,
    pub(super) catalogue: Catalogue,
}

/// Opens a storage's database to a program.
///
/// # Errors
/// The server can't be reached, or the storage has none.
pub(super) async fn open(storage: &dyn Storage, subject: Subject<'_>) -> Result<Access> {
    let (endpoint, database) = (server(storage, subject)?, subject.database.to_owned());
    let (words, catalogue, own) = if storage.dialect() == Some(Dialect::MySql) {
        let conn = mysql::connect(endpoint, &database).await?;
        let (server_id, ..) = uuid::Uuid::new_v4().as_fields();
        let url = format!("mysql://{database}:{}@{}/{database}", endpoint.password, endpoint.address());
        let own = [("CHANGEPROOF_URL", url), ("CHANGEPROOF_SERVER_ID", (server_id | 1).to_string())];
        (Words::MySql(database.clone()), Catalogue::MySql(conn, database.clone()), own)
    } else {
        let client = postgres::connect(endpoint, &database).await?;
        let own = [("CHANGEPROOF_URL", subject.url()?), ("CHANGEPROOF_PUBLICATION", PUBLICATION.to_owned())];
        (Words::PostgreSql, Catalogue::PostgreSql(client), own)
    };
    let common = [
        ("CHANGEPROOF_DATABASE", database),
        ("CHANGEPROOF_SLOT", subject.name.to_owned()),
        ("CHANGEPROOF_CONTAINER", endpoint.container.clone()),
    ];
    Ok(Access { environment: own.into_iter().chain(common).collect(), words, catalogue })
}

/// How to reach the server of a storage.
///
/// # Errors
/// It has none.
pub(super) fn server<'a>(storage: &dyn Storage, subject: Subject<'a>) -> Result<&'a Endpoint> {
    match storage.server() {
        Some(service) => subject.stack.endpoint(service),
        None => Err(Error::new(storage.title(), "be captured by a program", "it has no server")),
    }
}
