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

/// A table's columns with their types after the changes that `ALTER TABLE` lists (manual, 15.1.11), if all are understood.
pub(super) fn altered(columns: &Row, changes: &[Word]) -> Option<Row> {
    let mut columns = columns.clone();
    listed(changes).try_for_each(|change| alter(&mut columns, Reader(change)))?;
    Some(columns)
}

/// The columns with their types of a table that `CREATE TABLE` defines (manual, 15.1.24), if all are understood.
pub(super) fn created(definition: &[Word]) -> Option<Row> {
    let mut definition = Reader(definition);
    let mut columns = Row::default();
    listed(definition.in_parentheses()?).try_for_each(|part| add(&mut columns, Reader(part)))?;
    // Columns may come from a query too.
    let is_whole = !definition.0.iter().any(|word| Reader(std::slice::from_ref(word)).is_at(&["SELECT", "TABLE"]));
    is_whole.then_some(columns)
}

/// What begins a definition that is none of a column.
const NO_COLUMN: [&str; 11] =
    ["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION", "LIKE"];

fn alter(columns: &mut Row, mut change: Reader<'_>) -> Option<()> {
    match change.keyword()?.as_str() {
        "ADD" => {
            change.skip(&["COLUMN"]);
            match change.in_parentheses() {
                Some(inside) => listed(inside).try_for_each(|part| add(columns, Reader(part))),
                None => add(columns, change),
            }
        }
        "DROP" if !change.is_at(&NO_COLUMN) => {
            change.skip(&["COLUMN"]);
            columns.remove(&change.part()?).map(drop)
        }
        "RENAME" if change.skip(&["COLUMN"]) => {
            let from = change.part()?;
            change.skip(&["TO"]).then_some(())?;
            rename(columns, &from, &change.part()?)
        }
        "CHANGE" => {
            change.skip(&["COLUMN"]);
            rename(columns, &change.part()?, &change.clone().part()?)?;
            add(columns, change)
        }
        "MODIFY" => {
            change.skip(&["COLUMN"]);
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
        for (changes, expected) in [
            ("ADD COLUMN `c` int NULL", Some(row! { id: "int", a: "text", b: "varchar(5)", c: "int" })),
            ("ADD (c DECIMAL, d ENUM('x','it''s'))", {
                Some(row! { id: "int", a: "text", b: "varchar(5)", c: "numeric(10,0)", d: "enum('x','it''s')" })
            }),
            ("ADD INDEX i (a, b), ALGORITHM=INPLACE, LOCK = NONE", Some(columns.clone())),
            ("DROP a, DROP PRIMARY KEY, RENAME COLUMN b TO `c`", Some(row! { id: "int", c: "varchar(5)" })),
            ("CHANGE a c DATETIME(6) NOT NULL FIRST", Some(row! { id: "int", c: "timestamp", b: "varchar(5)" })),
            ("MODIFY id BIGINT UNSIGNED", Some(row! { id: "bigint unsigned", a: "text", b: "varchar(5)" })),
            ("CONVERT TO CHARACTER SET utf8mb4", None),
            ("ADD c GEOMETRY", None),
            ("DROP COLUMN unknown", None),
        ] {
            assert_eq!(altered(&columns, &words(changes)), expected, "{changes}");
        }
    }

    #[test]
    fn columns_of_a_new_table_are_known() {
        let created = |sql: &str| created(&words(sql));
        let sql = "(`id` int NOT NULL DEFAULT (1 + 2), n bool, t timestamp(3), PRIMARY KEY (`id`, n)) ENGINE = InnoDB";
        assert_eq!(created(sql), Some(row! { id: "int", n: "tinyint", t: "timestamp(3)" }));
        for unknown in ["LIKE u", "(id int) SELECT 1 AS n", "(id int, shape point)", ""] {
            assert_eq!(created(unknown), None, "{unknown}");
        }
    }
}
