//! The text of test_decoding, such as `table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 name[text]:'it''s'`.

use changeproof::{Change, Op, Row, Value, postgres::type_named, schema::TableName};

/// The changes that a line tells behind the word `table`; a truncate may be of several of them.
pub fn changes(mut rest: &str) -> Option<Vec<Change>> {
    let mut tables = Vec::new();
    loop {
        let (schema, after) = name(rest)?;
        let (table, after) = name(after.strip_prefix('.')?)?;
        tables.push(TableName::new(schema, table));
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => {
                rest = after.strip_prefix(": ")?;
                break;
            }
        }
    }
    let (op, rest) = rest.split_once(':')?;
    let (op, before, after) = match op {
        "INSERT" => (Op::Insert, None, Some(columns(rest)?)),
        "UPDATE" => match rest.strip_prefix(" old-key:") {
            Some(rest) => {
                let (before, rest) = read_columns(rest)?;
                let mut after = columns(rest.strip_prefix(" new-tuple:")?)?;
                // Under REPLICA IDENTITY FULL the old row has the large values that stayed the same.
                for (column, old) in before.iter() {
                    if after.get(column) == Some(&Value::Unavailable) {
                        after.set(column, old.clone());
                    }
                }
                (Op::Update, Some(before), Some(after))
            }
            None => (Op::Update, None, Some(columns(rest)?)),
        },
        "DELETE" => (Op::Delete, columns(rest), None),
        "TRUNCATE" => (Op::Truncate, None, None),
        _ => return None,
    };
    let change = |table| Change { before: before.clone(), after: after.clone(), ..Change::new(op, table) };
    Some(tables.into_iter().map(change).collect())
}

/// A name, in quotes if it needs them, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(text) => quoted(text, '"'),
        None => {
            let end = text.find(['.', ':', ',', '['])?;
            Some((text[..end].to_owned(), &text[end..]))
        }
    }
}

/// What stands before the next quotation mark that isn't doubled, and what follows that.
fn quoted(mut text: &str, mark: char) -> Option<(String, &str)> {
    let mut content = String::new();
    loop {
        let (part, rest) = text.split_once(mark)?;
        content.push_str(part);
        let Some(more) = rest.strip_prefix(mark) else { return Some((content, rest)) };
        content.push(mark);
        text = more;
    }
}

fn columns(text: &str) -> Option<Row> {
    read_columns(text).filter(|(_, rest)| rest.is_empty()).map(|(row, _)| row)
}

fn read_columns(mut text: &str) -> Option<(Row, &str)> {
    let mut row = Row::default();
    while let Some(column) = text.strip_prefix(' ').filter(|column| !column.starts_with("new-tuple:")) {
        let (column, rest) = name(column)?;
        let (ty, rest) = rest.strip_prefix('[')?.split_once("]:")?;
        let value;
        let literal = rest.strip_prefix('\'').or_else(|| rest.strip_prefix("B'"));
        (value, text) = match literal {
            Some(literal) => {
                let (literal, rest) = quoted(literal, '\'')?;
                (Value::from_text(&literal, &type_named(ty)), rest)
            }
            None => match rest.split_at(rest.find(' ').unwrap_or(rest.len())) {
                ("null", rest) => (Value::Null, rest),
                ("unchanged-toast-datum", rest) => (Value::Unavailable, rest),
                (literal, rest) => (Value::from_text(literal, &type_named(ty)), rest),
            },
        };
        row.set(column, value);
    }
    Some((row, text))
}
