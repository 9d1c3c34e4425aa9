//! The columns of a table as statements define them.
//!
//! The log describes a table before it tells of its rows. TRUNCATE tells of none, so what was done to the columns since the last
//! row is known by the statements alone. What they say in a way that isn't understood here is told with the next row.

use super::{
    table::told_type,
    words::{Reader, Word, listed},
};
use crate::{
    mysql::type_named,
    value::{Row, Value},
};

/// Changes a table's columns with their types as `ALTER TABLE` lists it (manual, 15.1.11). Returns whether all of it is understood.
pub(super) fn alter(columns: &mut Row, changes: &[Word]) -> bool {
    listed(changes).filter(|change| change_one(columns, Reader(change)).is_none()).count() == 0
}

/// The columns with their types of a table that `CREATE TABLE` defines (manual, 15.1.24), and whether all of it is understood.
pub(super) fn created(definition: &[Word]) -> Option<(Row, bool)> {
    let mut columns = Row::default();
    let parts = Reader(definition).in_parentheses()?;
    let unknown = listed(parts).filter(|part| add(&mut columns, Reader(part)).is_none()).count();
    Some((columns, unknown == 0 && !is_of_a_query(definition)))
}

/// Whether a new table gets columns and rows from a query.
pub(super) fn is_of_a_query(definition: &[Word]) -> bool {
    let mut rest = Reader(definition);
    rest.skip(&["("]);
    if rest.is_at(&["LIKE"]) {
        return false;
    }
    let mut rest = Reader(definition);
    rest.in_parentheses();
    rest.0.iter().any(|word| Reader(std::slice::from_ref(word)).is_at(&["SELECT", "TABLE"]))
}

/// What begins a definition that is none of a column.
const NO_COLUMN: [&str; 11] =
    ["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION", "LIKE"];

fn change_one(columns: &mut Row, mut change: Reader<'_>) -> Option<()> {
    match change.keyword()?.as_str() {
        "ADD" => {
            change.skip(&["COLUMN"]);
            if change.skip_condition() && change.clone().part().is_some_and(|name| columns.get(&name).is_some()) {
                return Some(());
            }
            match change.in_parentheses() {
                Some(inside) => listed(inside).try_for_each(|part| add(columns, Reader(part))),
                None => add(columns, change),
            }
        }
        "DROP" if !change.is_at(&NO_COLUMN) => {
            change.skip(&["COLUMN"]);
            let is_if_there = change.skip_condition();
            let removed = columns.remove(&change.part()?);
            (removed.is_some() || is_if_there).then_some(())
        }
        "RENAME" if change.skip(&["COLUMN"]) => {
            change.skip_condition();
            let from = change.part()?;
            change.skip(&["TO"]).then_some(())?;
            rename(columns, &from, &change.part()?)
        }
        "CHANGE" => {
            change.skip(&["COLUMN"]);
            change.skip_condition();
            rename(columns, &change.part()?, &change.clone().part()?)?;
            add(columns, change)
        }
        "MODIFY" => {
            change.skip(&["COLUMN"]);
            change.skip_condition();
            add(columns, change)
        }
        // It changes types as it needs to.
        "CONVERT" => None,
        _ => Some(()),
    }
}

fn rename(columns: &mut Row, from: &str, to: &str) -> Option<()> {
    columns.get(from)?;
    let name = |name: &str| if name == from { to.to_owned() } else { name.to_owned() };
    *columns = columns.iter().map(|(column, ty)| (name(column), ty.clone())).collect();
    Some(())
}

/// Gives a column its type, if it is a column that is defined here.
fn add(columns: &mut Row, mut definition: Reader<'_>) -> Option<()> {
    if definition.is_at(&NO_COLUMN) {
        return Some(());
    }
    let name = definition.part()?;
    columns.set(name, Value::Text(told_type(&type_named(&spelled(definition)?))));
    Some(())
}

/// A type as the catalogue spells it, if it is understood.
fn spelled(mut definition: Reader<'_>) -> Option<String> {
    let declared = definition.keyword()?.to_lowercase();
    if declared == "double" {
        definition.skip(&["PRECISION"]);
    }
    let arguments = definition.in_parentheses().map(arguments);
    let is_unsigned = definition.skip(&["UNSIGNED"]);
    if definition.is_at(&["ZEROFILL", "VARYING", "BYTE"]) {
        return None;
    }
    let unsigned = if is_unsigned { " unsigned" } else { "" };
    let count = |default: &str| match arguments.as_deref() {
        None => Some(format!("({default})")),
        Some([count]) => Some(format!("({count})")),
        Some(_) => None,
    };
    Some(match (declared.as_str(), arguments.as_deref()) {
        ("bool" | "boolean", None) => "tinyint(1)".to_owned(),
        ("tinyint", Some([width])) if width == "1" && !is_unsigned => "tinyint(1)".to_owned(),
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint", _) => format!("{declared}{unsigned}"),
        ("integer", _) => format!("int{unsigned}"),
        ("decimal" | "numeric" | "dec" | "fixed", arguments) => {
            let (precision, scale) = match arguments.unwrap_or_default() {
                [] => ("10", "0"),
                [precision] => (precision.as_str(), "0"),
                [precision, scale] => (precision.as_str(), scale.as_str()),
                _ => return None,
            };
            format!("decimal({precision},{scale}){unsigned}")
        }
        ("float", None) => format!("float{unsigned}"),
        ("double" | "real", None) => format!("double{unsigned}"),
        ("char" | "binary" | "bit", _) => format!("{declared}{}", count("1")?),
        ("varchar" | "varbinary", Some([length])) => format!("{declared}({length})"),
        ("datetime" | "timestamp" | "time", Some([digits])) if digits != "0" => format!("{declared}({digits})"),
        ("datetime" | "timestamp" | "time" | "date" | "year" | "json" | "uuid" | "inet4" | "inet6", _) => declared,
        ("tinytext" | "text" | "mediumtext" | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob", None) => {
            declared
        }
        ("enum" | "set", Some(members)) => {
            let members: Vec<_> = members.iter().map(|member| format!("'{}'", member.replace('\'', "''"))).collect();
            format!("{declared}({})", members.join(","))
        }
        _ => return None,
    })
}

/// What stands between commas.
fn arguments(inside: &[Word]) -> Vec<String> {
    listed(inside).filter_map(|argument| Reader(argument).part()).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::words::words, *};
    use crate::row;

    #[test]
    fn columns_that_come_go_and_change_are_known() {
        let columns = row! { id: "int", a: "text", b: "varchar(5)" };
        for (changes, expected, is_whole) in [
            ("ADD COLUMN `c` int NULL", row! { id: "int", a: "text", b: "varchar(5)", c: "int" }, true),
            ("ADD COLUMN IF NOT EXISTS c int", row! { id: "int", a: "text", b: "varchar(5)", c: "int" }, true),
            ("ADD COLUMN IF NOT EXISTS b int", columns.clone(), true),
            (
                "ADD (c DECIMAL, d ENUM('x','it''s'))",
                {
                    row! { id: "int", a: "text", b: "varchar(5)", c: "numeric(10,0)", d: "enum('x','it''s')" }
                },
                true,
            ),
            ("ADD INDEX i (a, b), ALGORITHM=INPLACE, LOCK = NONE", columns.clone(), true),
            ("DROP a, DROP PRIMARY KEY, RENAME COLUMN b TO `c`", row! { id: "int", c: "varchar(5)" }, true),
            ("DROP COLUMN IF EXISTS a, DROP IF EXISTS z", row! { id: "int", b: "varchar(5)" }, true),
            ("CHANGE a c DATETIME(6) NOT NULL FIRST", row! { id: "int", c: "timestamp", b: "varchar(5)" }, true),
            ("MODIFY id BIGINT UNSIGNED", row! { id: "bigint unsigned", a: "text", b: "varchar(5)" }, true),
            ("CONVERT TO CHARACTER SET utf8mb4", columns.clone(), false),
            ("ADD c GEOMETRY, DROP a", row! { id: "int", b: "varchar(5)" }, false),
            ("DROP COLUMN unknown", columns.clone(), false),
        ] {
            let mut altered = columns.clone();
            assert_eq!((alter(&mut altered, &words(changes)), altered), (is_whole, expected), "{changes}");
        }
    }

    #[test]
    fn columns_of_a_new_table_are_known() {
        let created = |sql: &str| created(&words(sql));
        let sql = "(`id` int NOT NULL DEFAULT (1 + 2), n bool, t timestamp(3), PRIMARY KEY (`id`, n)) ENGINE = InnoDB";
        assert_eq!(created(sql), Some((row! { id: "int", n: "tinyint", t: "timestamp(3)" }, true)));
        assert_eq!(created("(id int) SELECT 1 AS n"), Some((row! { id: "int" }, false)));
        assert_eq!(created("(id uuid, shape point)"), Some((row! { id: "uuid" }, false)));
        assert_eq!(created("AS SELECT 1 AS n"), None);
        assert!(is_of_a_query(&words("AS SELECT 1 AS n")) && !is_of_a_query(&words("(id int DEFAULT (SELECT 1))")));
    }
}
