//! Tables read whole in the snapshot of a slot, by `COPY … TO STDOUT` (manual, "COPY", "Text Format").

use std::pin::Pin;

use changeproof::{
    error::{Context, Error, Result},
    logical::{Known, KnownColumn},
    value::{Row, Value},
};
use futures_util::StreamExt;
use tokio_postgres::{Client, CopyOutStream, error::SqlState};

/// What the text of values depends on; the log's reader has the same. And that policies (manual, 5.9 "Row Security Policies") hide no rows
/// in silence: a table that they would hide rows of can't be read then.
pub(crate) const SETTINGS: &str = "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; \
    SET bytea_output = 'hex'; SET extra_float_digits = 1; SET row_security = off";

/// Where the published rows of a table are to be read: of a partitioned one in its partitions, of others without tables that inherit from
/// them; and under what condition (manual, 29.4 "Row Filters"; there are none before 15).
async fn origin(client: &Client, publication: &str, table: &Known) -> Result<String> {
    let query = "SELECT relkind = 'p', to_jsonb(p) ->> 'rowfilter' \
                 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_publication_tables p \
                     ON pubname = $1 AND schemaname = nspname AND tablename = relname \
                 WHERE nspname = $2 AND relname = $3";
    let (schema, name) = (table.name.schema(), table.name.name());
    let row = client.query_opt(query, &[&publication, &schema, &name]).await;
    let row = row.while_doing("PostgreSQL", "look at the publication")?;
    let only = if row.as_ref().is_some_and(|row| row.get(0)) { "" } else { "ONLY " };
    let filter = row.and_then(|row| row.get::<_, Option<String>>(1));
    let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
    Ok(format!("FROM {only}{}.{}{filter}", quoted(schema), quoted(name)))
}

/// How many published rows a table has.
///
/// # Errors
/// The table can't be read.
pub(crate) async fn count(client: &Client, publication: &str, table: &Known) -> Result<u64> {
    let query = format!("SELECT count(*) {}", origin(client, publication, table).await?);
    let count: i64 = read(client.query_one(&query, &[]).await, format!("count the rows of {}", table.name))?.get(0);
    Ok(count.unsigned_abs())
}

/// Says what to do if a table can't be read for want of a right.
fn read<T>(read: Result<T, tokio_postgres::Error>, doing: String) -> Result<T> {
    let is_forbidden = read.as_ref().is_err_and(|error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    let read = read.while_doing("PostgreSQL", doing);
    match is_forbidden {
        true => read.map_err(|error| {
            error.help("give the user SELECT on the table, and BYPASSRLS if it has policies of row-level security")
        }),
        false => read,
    }
}

/// The rows of a table as they come.
pub(crate) struct Rows<'a> {
    table: &'a Known,
    lines: Pin<Box<CopyOutStream>>,
}

impl<'a> Rows<'a> {
    /// Begins to read the published rows of a table as the connection sees them.
    ///
    /// # Errors
    /// The table can't be read.
    pub(crate) async fn of(client: &Client, publication: &str, table: &'a Known) -> Result<Self> {
        let doing = || format!("copy the table {}", table.name);
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let origin = origin(client, publication, table).await?;
        let copy = format!("COPY (SELECT {} {origin}) TO STDOUT", columns.join(", "));
        let lines = read(client.copy_out(&copy).await, doing())?;
        Ok(Self { table, lines: Box::pin(lines) })
    }

    /// The next row.
    ///
    /// # Errors
    /// The connection breaks.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>> {
        let doing = || format!("copy the table {}", self.table.name);
        // The server sends each row in a message of its own (manual, 54.2.6 "COPY Operations").
        let Some(line) = self.lines.next().await else { return Ok(None) };
        let line = line.while_doing("PostgreSQL", doing())?;
        let line = std::str::from_utf8(&line).while_doing("PostgreSQL", doing())?;
        let row = row(line.strip_suffix('\n').unwrap_or(line), &self.table.columns);
        row.map(Some)
            .ok_or_else(|| Error::new("PostgreSQL", doing(), format!("it sent a line of other columns: {line}")))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn row(line: &str, columns: &[KnownColumn]) -> Option<Row> {
    if columns.is_empty() {
        return Some(Row::default());
    }
    let mut fields = line.split('\t');
    let row = columns
        .iter()
        .map(|column| {
            let field = fields.next()?;
            let value = match field {
                "\\N" => Value::Null,
                plain if !plain.contains('\\') => Value::from_text(plain, &column.ty),
                escaped => Value::from_text(&unescaped(escaped)?, &column.ty),
            };
            Some((std::sync::Arc::clone(&column.name), value))
        })
        .collect::<Option<Row>>();
    row.filter(|_| fields.next().is_none())
}

fn unescaped(field: &str) -> Option<String> {
    let mut plain = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                other => other,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn what_copy_escapes_comes_back() {
        assert_eq!(unescaped(r"a\tb\\c\nd").as_deref(), Some("a\tb\\c\nd"));
        assert_eq!(unescaped(r"\\N").as_deref(), Some("\\N"));
        assert_eq!(unescaped("ends in \\"), None);
    }
}
