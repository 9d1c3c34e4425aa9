//! Statements in the log: definitions, the ends of transactions, and what must not be there.

use mysql_common::{
    binlog::{
        consts::StatusVarKey,
        events::{ExecuteLoadQueryEvent, QueryEvent, StatusVarVal, StatusVars},
    },
    constants::SqlMode,
    misc::raw::{RawBytes, bytes::NullBytes},
};

use super::{
    SERVICE, columns,
    ddl::{self, Effect},
    decode::{Decoder, Transaction},
    words::{Reader, Word, after_set_statement, words_by},
};
use crate::{
    error::{Error, Result},
    mysql::schema_of,
};

/// What a statement begins with that writes rows, or may: a query calls functions.
const WRITES: [&str; 9] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH", "SELECT", "DO", "CALL"];

/// A statement, and how it is to be read.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// The database that names without one belong to.
    pub(super) database: String,
    /// The databases that it writes to, as far as the server says.
    writes_to: Vec<String>,
    /// Whether a backslash in a string is nothing but that (`NO_BACKSLASH_ESCAPES`).
    is_backslash_plain: bool,
}

impl Statement {
    pub(super) fn new(sql: &str, database: &str) -> Self {
        Self { sql: sql.to_owned(), database: database.to_owned(), ..Self::default() }
    }

    pub(super) fn of_query(event: &QueryEvent<'_>) -> Self {
        Self::new(&event.query(), &event.schema()).with(event.status_vars())
    }

    pub(super) fn of_load(event: &ExecuteLoadQueryEvent<'_>) -> Self {
        Self::new(&event.query(), &event.schema()).with(event.status_vars())
    }

    fn with(mut self, variables: &StatusVars<'_>) -> Self {
        if let Some(variable) = variables.get_status_var(StatusVarKey::UpdatedDbNames)
            && let Ok(StatusVarVal::UpdatedDbNames(names)) = variable.get_value()
        {
            self.writes_to = all_names(variables.0.as_bytes(), &names);
        }
        if let Some(variable) = variables.get_status_var(StatusVarKey::SqlMode)
            && let Ok(StatusVarVal::SqlMode(mode)) = variable.get_value()
        {
            self.is_backslash_plain = mode.0 & SqlMode::MODE_NO_BACKSLASH_ESCAPES.bits() != 0;
        }
        self
    }

    fn words(&self) -> Vec<Word> {
        words_by(&self.sql, self.is_backslash_plain)
    }

    /// Whether it may write to a lease's tables, by all that is said of databases.
    fn is_of(&self, lease: &str, words: &[Word]) -> bool {
        let is_of_lease = |database: &str| schema_of(lease, database).is_some();
        let names = words.windows(2).filter(|pair| pair[1].is(".")).filter_map(|pair| Reader(pair).part());
        is_of_lease(&self.database)
            || self.writes_to.iter().any(|database| is_of_lease(database))
            || names.into_iter().any(|name| is_of_lease(&name))
    }
}

/// The names of a list whose first one the library has read, and how many there are: it takes the others for empty.
fn all_names(variables: &[u8], names: &[RawBytes<'_, NullBytes>]) -> Vec<String> {
    let Some(first) = names.first() else { return Vec::new() };
    let place = first.as_bytes().as_ptr().addr().wrapping_sub(variables.as_ptr().addr());
    let rest = variables.get(place..).unwrap_or_default();
    rest.split(|byte| *byte == 0).take(names.len()).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

impl Decoder {
    /// Takes a statement. Returns the transaction that it ends.
    ///
    /// # Errors
    /// It changes rows of the lease, and the log doesn't tell which; or it goes back to a savepoint that nobody has set.
    pub(super) fn statement(&mut self, statement: &Statement) -> Result<Option<Transaction>> {
        let sql = statement.sql.trim();
        let begins_with = |words: &str| sql.get(..words.len()).is_some_and(|head| head.eq_ignore_ascii_case(words));
        if begins_with("XA ") {
            return Ok(self.two_phases(sql));
        }
        if sql.eq_ignore_ascii_case("COMMIT") {
            return Ok(self.end());
        }
        if sql.eq_ignore_ascii_case("ROLLBACK") {
            self.drop_changes();
            return Ok(self.end());
        }
        if begins_with("BEGIN") {
            self.open.iter_mut().for_each(|open| open.is_group = true);
            return Ok(None);
        }
        if begins_with("SAVEPOINT ") || begins_with("ROLLBACK TO ") {
            return self.savepoint(statement).map(|()| None);
        }
        let words = statement.words();
        let effect = ddl::effect(&words, &self.lease, &statement.database);
        // A table that is made with its rows comes as a transaction of which this is the first statement.
        let is_with_rows = sql.ends_with("START TRANSACTION");
        let makes_rows = matches!(&effect, Some(Effect::Creates { definition, .. })
            if columns::is_of_a_query(definition) && !is_with_rows);
        if makes_rows || self.writes(statement, &words) {
            let cause = format!("a session has written a statement to it, and no rows: {sql}");
            return Err(
                Error::new(SERVICE, "follow the log", cause).help("let all sessions write by binlog_format=ROW")
            );
        }
        let is_without_effect = self.open.as_ref().is_some_and(|open| open.is_without_effect);
        if let Some(effect) = effect.filter(|_| !is_without_effect) {
            self.define(effect);
        }
        let goes_on = is_with_rows || self.open.as_ref().is_some_and(|open| open.is_group);
        Ok(if goes_on { None } else { self.end() })
    }

    /// Whether a statement changes rows of the lease that no event tells of.
    fn writes(&self, statement: &Statement, words: &[Word]) -> bool {
        let is_query = |words: &[Word]| Reader(words).is_at(&WRITES) || words.first().is_some_and(|word| word.is("("));
        is_query(after_set_statement(words)) && statement.is_of(&self.lease, words)
    }

    fn savepoint(&mut self, statement: &Statement) -> Result<()> {
        let words = statement.words();
        let mut words = Reader(&words);
        let sets = words.skip(&["SAVEPOINT"]);
        words.skip(&["ROLLBACK"]);
        words.skip(&["TO"]);
        words.skip(&["SAVEPOINT"]);
        let (Some(open), Some(name)) = (&mut self.open, words.part()) else { return Ok(()) };
        if sets {
            open.set_savepoint(name);
            return Ok(());
        }
        let unknown = || {
            let cause = format!("a transaction goes back to the savepoint {name}, which it has not set");
            Error::new(SERVICE, "follow the log", cause).help("begin anew with an initial snapshot")
        };
        let told_before = open.roll_back_to(&name).ok_or_else(unknown)?;
        self.take_back(told_before);
        Ok(())
    }

    /// `XA START`, `XA END`, `XA COMMIT` and `XA ROLLBACK`, each with the transaction's name.
    fn two_phases(&mut self, statement: &str) -> Option<Transaction> {
        let (verb, xid) = statement[3..].split_once(' ')?;
        let open = self.open.as_mut()?;
        match verb {
            "START" => {
                open.xid = Some(xid.to_owned());
                open.is_group = true;
                None
            }
            "COMMIT" => {
                match self.prepared.remove(xid) {
                    Some(prepared) => self.put_in(prepared),
                    None => open.prepared_before = Some(xid.to_owned()),
                }
                self.end()
            }
            "ROLLBACK" => {
                self.prepared.remove(xid);
                self.end()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binlog::{charset::Collations, open::Open, seen::Id},
        change::{Change, DomainGtid, Op},
        mysql::Flavour,
    };

    /// A decoder amid a transaction.
    fn decoder() -> Decoder {
        let mut decoder = Decoder::new("cp_1", Flavour::MySql, Collations::default(), []);
        let gtid = DomainGtid { domain: 0, number: 7, server: 1 };
        decoder.open = Some(Open::new(Id::MariaDb(gtid), None));
        decoder
    }

    fn take(decoder: &mut Decoder, sql: &str) -> Result<Option<Transaction>> {
        decoder.statement(&Statement::new(sql, "cp_1"))
    }

    fn push(decoder: &mut Decoder, table: &str) {
        decoder.open.iter_mut().for_each(|open| open.push(Change::new(Op::Insert, table.into())));
    }

    #[test]
    fn statements_that_write_rows_are_refused_however_they_are_written() {
        for (sql, database) in [
            ("INSERT INTO t VALUES (1)", "cp_1"),
            ("/* app */ update t SET n = 1", "cp_1"),
            ("WITH c AS (SELECT 1) DELETE FROM t", "cp_1"),
            ("SELECT `cp_1`.`f`()", "other"),
            ("INSERT INTO cp_1.t VALUES (1)", ""),
            ("DELETE FROM `cp_1_sales`.`t`", "other"),
            ("SET STATEMENT max_statement_time=1 FOR INSERT INTO t VALUES (1)", "cp_1"),
            ("(SELECT f())", "cp_1"),
            ("CREATE TABLE u AS SELECT * FROM t", "cp_1"),
        ] {
            assert!(decoder().statement(&Statement::new(sql, database)).is_err(), "{sql}");
        }
        let writes_to = vec!["cp_1".to_owned()];
        let called = Statement { writes_to, ..Statement::new("SELECT `other`.`f`()", "other") };
        assert!(decoder().statement(&called).is_err(), "what the server says of databases");
        // As the server writes them: a key, the count, names that each end with a zero byte; and what stands before.
        let variables = StatusVars(RawBytes::new(&b"\x00\x00\x00\x00\x00\x0c\x02audit\x00cp_1\x00"[..]));
        let of_two = Statement::new("SELECT `other`.`f`()", "other").with(&variables);
        assert_eq!(of_two.writes_to, ["audit", "cp_1"]);
        assert!(decoder().statement(&of_two).is_err(), "the second of two");
        for (sql, database) in [
            ("INSERT INTO t VALUES (1)", "cp_2"),
            ("CREATE TABLE u LIKE cp_1.table", "cp_1"),
            ("UPDATE cp_12.t SET n = 1", "other"),
            ("GRANT SELECT ON cp_1.* TO u", "cp_1"),
            ("SET PASSWORD FOR u = 'x'", "cp_1"),
            ("CREATE TABLE u (id int) START TRANSACTION", "cp_1"),
            ("CREATE TABLE u (id int DEFAULT (1))", "cp_1"),
        ] {
            assert!(decoder().statement(&Statement::new(sql, database)).is_ok(), "{sql}");
        }
    }

    #[test]
    fn what_was_changed_since_a_savepoint_is_rolled_back() -> Result<()> {
        let mut decoder = decoder();
        take(&mut decoder, "BEGIN")?;
        push(&mut decoder, "a");
        take(&mut decoder, "SAVEPOINT `S`")?;
        push(&mut decoder, "b");
        take(&mut decoder, "SAVEPOINT `later`")?;
        push(&mut decoder, "c");
        take(&mut decoder, "ROLLBACK TO `s`")?;
        push(&mut decoder, "d");
        assert!(take(&mut decoder, "ROLLBACK TO `later`").is_err(), "it went with the earlier one");
        let told = take(&mut decoder, "COMMIT")?.map(|transaction| transaction.changes);
        let tables: Vec<_> = told.into_iter().flatten().map(|change| change.table.name().to_owned()).collect();
        assert_eq!(tables, ["a", "d"]);
        Ok(())
    }

    /// As in a transaction of which a part is logged as statements, of another database.
    #[test]
    fn a_statement_of_others_does_not_end_a_transaction() -> Result<()> {
        let mut decoder = decoder();
        take(&mut decoder, "BEGIN")?;
        assert!(decoder.statement(&Statement::new("UPDATE t SET n = 1", "other"))?.is_none());
        push(&mut decoder, "a");
        assert_eq!(take(&mut decoder, "COMMIT")?.map(|transaction| transaction.changes.len()), Some(1));
        Ok(())
    }
}
