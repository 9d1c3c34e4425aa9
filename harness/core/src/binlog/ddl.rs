//! What statements in the log do to tables: as much as the table maps that follow don't tell.

use crate::{mysql::schema_of, schema::TableName};

/// What a statement does to tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It empties a table.
    Truncates(TableName),
    /// It gives tables other names, one after the other.
    Renames(Vec<(TableName, TableName)>),
    /// It makes or removes tables: what was known of a table of the name is no longer so.
    Replaces(Vec<TableName>),
}

/// What a statement does to the tables of a lease, if anything that has to be known.
///
/// `database` is the one that names without a database belong to.
pub(super) fn effect(sql: &str, lease: &str, database: &str) -> Option<Effect> {
    let words = words(sql);
    let mut statement = Statement { words: &words, lease, database };
    match statement.next_word()?.as_str() {
        "TRUNCATE" => {
            statement.skip(&["TABLE"]);
            let name = statement.name()?;
            statement.table(name).map(Effect::Truncates)
        }
        "RENAME" if statement.skip(&["TABLE", "TABLES"]) => {
            let mut renames = Vec::new();
            loop {
                let from = statement.name()?;
                statement.skip(&["TO"]).then_some(())?;
                let to = statement.name()?;
                renames.extend(statement.table(from).zip(statement.table(to)));
                if !statement.skip(&[","]) {
                    break Some(Effect::Renames(renames));
                }
            }
        }
        "ALTER" if statement.skip(&["TABLE"]) => {
            let from = statement.name()?;
            let to = statement.new_name()?;
            Some(Effect::Renames(vec![(statement.table(from)?, statement.table(to)?)]))
        }
        "CREATE" if statement.skip(&["TABLE"]) => {
            if statement.skip(&["IF"]) {
                statement.skip(&["NOT"]);
                statement.skip(&["EXISTS"]);
            }
            let name = statement.name()?;
            Some(Effect::Replaces(vec![statement.table(name)?]))
        }
        "DROP" if statement.skip(&["TABLE"]) => {
            if statement.skip(&["IF"]) {
                statement.skip(&["EXISTS"]);
            }
            let mut names = Vec::new();
            loop {
                let name = statement.name()?;
                names.extend(statement.table(name));
                if !statement.skip(&[","]) {
                    break Some(Effect::Replaces(names));
                }
            }
        }
        _ => None,
    }
}

/// A word of a statement: a keyword or sign, or a name in quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
}

struct Statement<'a> {
    words: &'a [Word],
    lease: &'a str,
    database: &'a str,
}

impl Statement<'_> {
    fn next_word(&mut self) -> Option<String> {
        let (Word::Plain(word), rest) = self.words.split_first()? else { return None };
        self.words = rest;
        Some(word.to_uppercase())
    }

    /// Steps over a word if it is one of these.
    fn skip(&mut self, words: &[&str]) -> bool {
        let is_it =
            matches!(self.words.first(), Some(Word::Plain(word)) if words.contains(&word.to_uppercase().as_str()));
        self.words = &self.words[usize::from(is_it)..];
        is_it
    }

    fn part(&mut self) -> Option<String> {
        let (Word::Plain(part) | Word::Quoted(part), rest) = self.words.split_first()?;
        self.words = rest;
        Some(part.clone())
    }

    /// A table's database and name.
    fn name(&mut self) -> Option<(String, String)> {
        let first = self.part()?;
        Some(match self.skip(&["."]) {
            true => (first, self.part()?),
            false => (self.database.to_owned(), first),
        })
    }

    /// The table of a name, if it is one of the lease's.
    fn table(&self, (database, name): (String, String)) -> Option<TableName> {
        schema_of(self.lease, &database).map(|schema| TableName::new(schema, name))
    }

    /// The name that `ALTER TABLE` gives its table, among whatever else it does.
    fn new_name(&mut self) -> Option<(String, String)> {
        let mut depth = 0;
        while !self.words.is_empty() {
            if depth == 0 && self.skip(&["RENAME"]) {
                if self.skip(&["COLUMN", "INDEX", "KEY"]) {
                    continue;
                }
                self.skip(&["TO", "AS", "="]);
                return self.name();
            }
            depth += match &self.words[0] {
                Word::Plain(sign) if sign == "(" => 1,
                Word::Plain(sign) if sign == ")" => -1,
                _ => 0,
            };
            self.words = &self.words[1..];
        }
        None
    }
}

/// The words of a statement, without comments. What stands in a string counts as a name in quotes: nobody asks for it.
fn words(sql: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '-' if rest.starts_with("-- ") => (None, rest.find('\n').unwrap_or(rest.len())),
            '`' | '"' | '\'' => {
                let (name, length) = quoted(rest, first);
                (Some(Word::Quoted(name)), length)
            }
            _ if is_part(first) => {
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                (Some(Word::Plain(rest[..length].to_owned())), length)
            }
            sign => (Some(Word::Plain(sign.to_string())), sign.len_utf8()),
        };
        words.extend(word);
        rest = rest[length..].trim_start();
    }
    words
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// What stands between quotes, and how long it is with them. In a string a backslash keeps the next sign from being one.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut signs = text.char_indices().skip(1).peekable();
    while let Some((at, sign)) = signs.next() {
        if sign == '\\' && quote != '`' {
            content.extend(signs.next().map(|(_, sign)| sign));
        } else if sign == quote {
            if signs.next_if(|(_, next)| *next == quote).is_none() {
                return (content, at + quote.len_utf8());
            }
            content.push(quote);
        } else {
            content.push(sign);
        }
    }
    (content, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Option<Effect> {
        effect(sql, "cp_1", "cp_1")
    }

    fn renames(names: &[(&str, &str)]) -> Effect {
        Effect::Renames(names.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect())
    }

    #[test]
    fn truncates_are_known_however_they_are_written() {
        for sql in
            ["TRUNCATE TABLE `cp_1`.`t`", "truncate t", "/* x */ TRUNCATE\n`t`", "-- a 'b\nTRUNCATE TABLE cp_1 . t"]
        {
            assert_eq!(told(sql), Some(Effect::Truncates("t".into())), "{sql}");
        }
        assert_eq!(told("TRUNCATE cp_1_sales.t"), Some(Effect::Truncates(TableName::new("sales", "t"))));
        assert_eq!(told("TRUNCATE cp_2.t"), None, "another lease's");
        assert_eq!(told("TRUNCATE `O``Hara`"), Some(Effect::Truncates("O`Hara".into())));
    }

    #[test]
    fn renames_are_known_among_other_changes() {
        assert_eq!(told("RENAME TABLE a TO b, `c` TO cp_1.d"), Some(renames(&[("a", "b"), ("c", "d")])));
        assert_eq!(told("ALTER TABLE `a` RENAME TO `b`"), Some(renames(&[("a", "b")])));
        assert_eq!(told("ALTER TABLE a ADD COLUMN c int DEFAULT (1), RENAME b"), Some(renames(&[("a", "b")])));
        assert_eq!(told("ALTER TABLE a RENAME COLUMN x TO y, RENAME AS b"), Some(renames(&[("a", "b")])));
        assert_eq!(told("ALTER TABLE a RENAME COLUMN x TO y"), None);
        assert_eq!(told("ALTER TABLE a COMMENT 'RENAME TO b'"), None);
        assert_eq!(told("ALTER TABLE a COMMENT 'it\\'s' , RENAME TO b"), Some(renames(&[("a", "b")])));
    }

    #[test]
    fn tables_that_come_and_go_are_known() {
        let replaces = |names: &[&str]| Some(Effect::Replaces(names.iter().map(|name| (*name).into()).collect()));
        assert_eq!(told("CREATE TABLE t (id int)"), replaces(&["t"]));
        assert_eq!(told("CREATE TABLE IF NOT EXISTS t (id int)"), replaces(&["t"]));
        assert_eq!(told("DROP TABLE IF EXISTS `t`, u /* generated by server */"), replaces(&["t", "u"]));
        assert_eq!(told("CREATE TEMPORARY TABLE t (id int)"), None);
        assert_eq!(told("CREATE INDEX i ON t (a)"), None);
        assert_eq!(told(""), None);
        assert_eq!(told("TRUNCATE"), None);
    }
}
