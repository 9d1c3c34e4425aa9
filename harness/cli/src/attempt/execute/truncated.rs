//! The tables that a TRUNCATE names, by its text.

use std::mem;

use changeproof::schema::TableName;

/// What a TRUNCATE empties.
#[derive(Default)]
pub(super) struct Truncated {
    /// The tables that it names, the schema in front of the name if there is one; in each part what it may mean.
    named: Vec<Vec<[String; 2]>>,
    /// Those that refer to them too, whichever these are.
    cascades: bool,
}

impl Truncated {
    /// Whether a table is among them. Where no schema is named, that of the session is not known here.
    pub(super) fn has(&self, table: &TableName) -> bool {
        let is_it = |named: &Vec<[String; 2]>| {
            let parts = [table.name(), table.schema()];
            named.iter().rev().zip(parts).all(|(meant, part)| meant.iter().any(|meant| meant == part))
        };
        self.cascades || self.named.iter().any(is_it)
    }
}

/// What a statement empties, if it is a TRUNCATE.
pub(super) fn truncated(sql: &str) -> Option<Truncated> {
    let tokens = tokens(sql);
    let is_word = |token: &Token, word: &str| matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word));
    let (first, rest) = tokens.split_first()?;
    if !is_word(first, "truncate") {
        return None;
    }
    let mut truncated =
        Truncated { cascades: rest.iter().any(|token| is_word(token, "cascade")), ..Truncated::default() };
    let is_filler = |token: &&Token| **token == Token::Mark('(') || is_word(token, "table") || is_word(token, "only");
    for table in rest.split(|token| *token == Token::Mark(',')) {
        let (mut name, mut is_next) = (Vec::new(), true);
        for token in table.iter().skip_while(is_filler) {
            match token {
                // PostgreSQL takes a name without quotes for one in small letters, MySQL as it is.
                Token::Word(word) if is_next => name.push([word.clone(), word.to_ascii_lowercase()]),
                Token::Quoted(quoted) if is_next => name.push([quoted.clone(), quoted.clone()]),
                Token::Mark('.') if !is_next => {}
                _ => break,
            }
            is_next = !is_next;
        }
        truncated.named.extend(Some(name).filter(|name| !name.is_empty()));
    }
    Some(truncated)
}

/// A part of a statement, as far as names are told from the rest by it.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

/// The parts of a statement, without blanks and comments.
fn tokens(sql: &str) -> Vec<Token> {
    let (mut chars, mut tokens) = (sql.chars().peekable(), Vec::new());
    while let Some(char) = chars.next() {
        let next = chars.peek().copied();
        match char {
            '"' | '`' => {
                let mut name = String::new();
                while let Some(found) = chars.next() {
                    if found == char && chars.next_if_eq(&char).is_none() {
                        break;
                    }
                    name.push(found);
                }
                tokens.push(Token::Quoted(name));
            }
            '-' if next == Some('-') => {
                chars.by_ref().find(|char| *char == '\n');
            }
            '/' if next == Some('*') => {
                let mut before = ' ';
                chars.by_ref().skip(1).find(|char| mem::replace(&mut before, *char) == '*' && *char == '/');
            }
            char if char.is_alphanumeric() || char == '_' => {
                let mut word = String::from(char);
                while let Some(more) = chars.next_if(|char| char.is_alphanumeric() || matches!(char, '_' | '$')) {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
            char if char.is_whitespace() => {}
            mark => tokens.push(Token::Mark(mark)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_that_a_truncate_names_are_empty_afterwards() {
        let tables = [
            TableName::from("orders"),
            TableName::from("orders_archive"),
            TableName::new("archive", "orders"),
            TableName::from("Orders, old"),
        ];
        for (sql, expected) in [
            ("TRUNCATE orders_archive", &[1][..]),
            ("truncate table orders", &[0, 2]),
            ("TRUNCATE ONLY public.Orders * RESTART IDENTITY", &[0]),
            ("TRUNCATE archive.orders, ONLY (orders_archive)", &[1, 2]),
            ("TRUNCATE \"Orders, old\", \"public\" . \"orders\"", &[0, 3]),
            ("TRUNCATE TABLE `orders_archive`", &[1]),
            ("TRUNCATE \"ORDERS\"", &[]),
            ("TRUNCATE /* orders, */ orders_archive -- orders", &[1]),
            ("TRUNCATE orders_archive CASCADE", &[0, 1, 2, 3]),
            ("DELETE FROM orders", &[]),
        ] {
            let truncated = truncated(sql);
            let has = |at: &usize| truncated.as_ref().is_some_and(|truncated| truncated.has(&tables[*at]));
            assert_eq!((0..tables.len()).filter(has).collect::<Vec<_>>(), expected, "{sql}");
        }
    }
}
