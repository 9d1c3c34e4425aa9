//! What statements in the log do to tables: as much as the table maps that follow don't tell.

use super::words::{Reader, Word, after_set_statement, listed};
use crate::{mysql::schema_of, schema::TableName};

/// What a statement does to tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It empties a table.
    Truncates(TableName),
    /// It gives tables other names, one after the other.
    Renames(Vec<(TableName, TableName)>),
    /// It changes a table's definition in the ways listed, among which there may be another name.
    Alters { table: TableName, to: Option<TableName>, changes: Vec<Word> },
    /// It makes a table, unless it is there perhaps: as another one is, or by what stands behind its name.
    Creates { table: TableName, is_unless_there: bool, like: Option<TableName>, definition: Vec<Word> },
    /// It removes tables.
    Drops(Vec<TableName>),
    /// It removes a schema, with its tables.
    DropsSchema(String),
}

/// What a statement does to the tables of a lease, if anything that has to be known.
///
/// `database` is the one that names without a database belong to.
pub(super) fn effect(words: &[Word], lease: &str, database: &str) -> Option<Effect> {
    let mut statement = Statement { words: Reader(after_set_statement(words)), lease, database };
    match statement.words.keyword()?.as_str() {
        "TRUNCATE" => {
            statement.words.skip(&["TABLE"]);
            let name = statement.name()?;
            statement.table(name).map(Effect::Truncates)
        }
        "RENAME" if statement.words.skip(&["TABLE", "TABLES"]) => {
            statement.words.skip_condition();
            let rename = |renamed: &[Word]| {
                let mut renamed = Statement { words: Reader(renamed), ..statement };
                let from = renamed.name()?;
                renamed.skip_patience();
                renamed.words.skip(&["TO"]).then_some(())?;
                let to = renamed.name()?;
                renamed.table(from).zip(renamed.table(to))
            };
            Some(Effect::Renames(listed(statement.words.0).filter_map(rename).collect()))
        }
        "ALTER" if statement.is_of_table() => {
            statement.words.skip_condition();
            let name = statement.name()?;
            statement.skip_patience();
            let table = statement.table(name)?;
            let to = statement.new_name().and_then(|to| statement.table(to));
            Some(Effect::Alters { table, to, changes: statement.words.0.to_vec() })
        }
        "CREATE" if statement.is_of_table() => {
            let is_unless_there = statement.words.skip_condition();
            let name = statement.name()?;
            let (table, definition) = (statement.table(name)?, statement.words.0.to_vec());
            let like = statement.like().and_then(|like| statement.table(like));
            Some(Effect::Creates { table, is_unless_there, like, definition })
        }
        "DROP" if statement.words.skip(&["DATABASE", "SCHEMA"]) => {
            statement.words.skip_condition();
            let database = statement.words.part()?;
            schema_of(lease, &database).map(|schema| Effect::DropsSchema(schema.to_string()))
        }
        "DROP" if statement.is_of_table() => {
            statement.words.skip_condition();
            let name = |named: &[Word]| {
                let mut named = Statement { words: Reader(named), ..statement };
                let name = named.name()?;
                named.table(name)
            };
            Some(Effect::Drops(listed(statement.words.0).filter_map(name).collect()))
        }
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Statement<'a> {
    words: Reader<'a>,
    lease: &'a str,
    database: &'a str,
}

impl Statement<'_> {
    /// Steps over TABLE, and what MariaDB takes before it (its documentation, "CREATE TABLE", "ALTER TABLE").
    fn is_of_table(&mut self) -> bool {
        while self.words.skip(&["OR", "REPLACE", "ONLINE", "IGNORE"]) {}
        self.words.skip(&["TABLE"])
    }

    /// Steps over how long MariaDB waits for a lock: `WAIT n` or `NOWAIT`.
    fn skip_patience(&mut self) {
        if self.words.skip(&["WAIT"]) {
            self.words.part();
        }
        self.words.skip(&["NOWAIT"]);
    }

    /// A table's database and name.
    fn name(&mut self) -> Option<(String, String)> {
        let first = self.words.part()?;
        Some(match self.words.skip(&["."]) {
            true => (first, self.words.part()?),
            false => (self.database.to_owned(), first),
        })
    }

    /// The table of a name, if it is one of the lease's.
    fn table(&self, (database, name): (String, String)) -> Option<TableName> {
        schema_of(self.lease, &database).map(|schema| TableName::new(schema, name))
    }

    /// The table that a new one is to be like (`LIKE u`, or the same in parentheses).
    fn like(&mut self) -> Option<(String, String)> {
        self.words.skip(&["("]);
        self.words.skip(&["LIKE"]).then(|| self.name())?
    }

    /// The name that `ALTER TABLE` gives its table, among whatever else it does.
    fn new_name(&mut self) -> Option<(String, String)> {
        listed(self.words.0).find_map(|change| {
            let mut renamed = Self { words: Reader(change), ..*self };
            let is_table = renamed.words.skip(&["RENAME"]) && !renamed.words.is_at(&["COLUMN", "INDEX", "KEY"]);
            renamed.words.skip(&["TO", "AS", "="]);
            is_table.then(|| renamed.name())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::words::words, *};

    fn told(sql: &str) -> Option<Effect> {
        effect(&words(sql), "cp_1", "cp_1")
    }

    fn renames(names: &[(&str, &str)]) -> Effect {
        Effect::Renames(names.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect())
    }

    #[test]
    fn truncates_are_known_however_they_are_written() {
        for sql in [
            "TRUNCATE TABLE `cp_1`.`t`",
            "truncate t",
            "/* x */ TRUNCATE\n`t`",
            "-- a 'b\nTRUNCATE TABLE cp_1 . t",
            "SET STATEMENT lock_wait_timeout=5 FOR TRUNCATE TABLE t",
            "/*!40000 TRUNCATE TABLE t */",
        ] {
            assert_eq!(told(sql), Some(Effect::Truncates("t".into())), "{sql}");
        }
        assert_eq!(told("TRUNCATE cp_1_sales.t"), Some(Effect::Truncates(TableName::new("sales", "t"))));
        assert_eq!(told("TRUNCATE cp_2.t"), None, "another lease's");
        assert_eq!(told("TRUNCATE `O``Hara`"), Some(Effect::Truncates("O`Hara".into())));
    }

    #[test]
    fn renames_are_known_among_other_changes() {
        assert_eq!(told("RENAME TABLE a TO b, `c` TO cp_1.d"), Some(renames(&[("a", "b"), ("c", "d")])));
        for (sql, to) in [
            ("ALTER TABLE `a` RENAME TO `b`", Some("b")),
            ("ALTER TABLE a ADD COLUMN c int DEFAULT (1), RENAME b", Some("b")),
            ("ALTER TABLE a RENAME COLUMN x TO y, RENAME AS b", Some("b")),
            ("ALTER TABLE a RENAME COLUMN x TO y", None),
            ("ALTER TABLE a COMMENT 'RENAME TO b'", None),
            ("ALTER TABLE a COMMENT 'it\\'s' , RENAME TO b", Some("b")),
        ] {
            let is_it = |told: &Effect| matches!(told, Effect::Alters { table, to: told, .. } if *table == "a".into() && *told == to.map(TableName::from));
            assert!(told(sql).as_ref().is_some_and(is_it), "{sql}");
        }
    }

    #[test]
    fn tables_that_come_and_go_are_known() {
        for sql in ["CREATE TABLE t (id int)", "CREATE TABLE IF NOT EXISTS `cp_1`.t (id int)"] {
            assert!(
                matches!(told(sql), Some(Effect::Creates { table, definition, .. }) if table == "t".into() && definition.len() == 4)
            );
        }
        for (sql, like, condition) in [
            ("CREATE TABLE t LIKE u", Some("u"), false),
            ("CREATE TABLE IF NOT EXISTS t (LIKE cp_1.u)", Some("u"), true),
            ("CREATE TABLE t (id int)", None, false),
        ] {
            let is_it = |told: &Effect| matches!(told, Effect::Creates { like: told, is_unless_there, .. } if *told == like.map(TableName::from) && *is_unless_there == condition);
            assert!(told(sql).as_ref().is_some_and(is_it), "{sql}");
        }
        let drops = Effect::Drops(vec!["t".into(), "u".into()]);
        assert_eq!(told("DROP TABLE IF EXISTS `t`, u /* generated by server */"), Some(drops));
        let replaces = told("CREATE OR REPLACE TABLE t (id int)");
        assert!(matches!(replaces, Some(Effect::Creates { table, .. }) if table == "t".into()));
        let alters = told("ALTER ONLINE IGNORE TABLE IF EXISTS t NOWAIT ADD a int");
        assert!(
            matches!(alters, Some(Effect::Alters { table, changes, .. }) if table == "t".into() && changes.len() == 3)
        );
        assert_eq!(told("DROP DATABASE IF EXISTS cp_1_sales"), Some(Effect::DropsSchema("sales".to_owned())));
        assert_eq!(told("DROP SCHEMA cp_2"), None, "another lease's");
        assert_eq!(told("RENAME TABLE IF EXISTS t WAIT 5 TO u"), Some(renames(&[("t", "u")])));
        assert_eq!(told("CREATE TEMPORARY TABLE t (id int)"), None);
        assert_eq!(told("CREATE INDEX i ON t (a)"), None);
        assert_eq!(told(""), None);
        assert_eq!(told("TRUNCATE"), None);
    }
}
