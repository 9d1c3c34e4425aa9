//! SQL files: split into statements as psql (PostgreSQL manual, 4.1 "Lexical Structure") or mysql does it (MySQL manual, 11
//! "Language Structure"), with their lines.

use std::{fmt, iter::Peekable, str::CharIndices};

pub(crate) use changeproof::script::FIRST_SESSION;
use changeproof::source::Dialect;

/// A statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The connection it runs on.
    pub(crate) session: String,
    /// Its text, without the comments before it and the semicolon after it.
    pub(crate) sql: String,
    /// The line of the file on which it begins, from 1.
    pub(crate) line: usize,
    /// Whether methods that look from time to time look before it.
    pub(crate) look_before: bool,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SqlFileError {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) problem: String,
}

impl fmt::Display for SqlFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// Splits a file into its statements.
///
/// A comment `-- session: b` before a statement runs that statement on the connection `b`; a comment `-- poll` lets
/// methods that look from time to time look before it.
///
/// # Errors
/// A quote or comment that doesn't end, a command of psql's or mysql's own, rows of COPY in the file.
pub(crate) fn split(text: &str, dialect: Dialect) -> Result<Vec<Statement>, SqlFileError> {
    let (chars, delimiter) = (text.char_indices().peekable(), ";");
    let mut splitter = Splitter { text, chars, depth: 0, dialect, delimiter };
    let mut statements = Vec::new();
    while let Some(statement) = splitter.statement()? {
        statements.push(statement);
    }
    Ok(statements)
}

/// That two databases read a file in the same way.
///
/// # Errors
/// They don't: from this line on.
pub(crate) fn same(one: &[Statement], other: &[Statement]) -> Result<(), SqlFileError> {
    let differs = one.iter().zip(other).find(|(one, other)| one != other).map(|(one, _)| one.line);
    let longer = if one.len() > other.len() { one } else { other };
    let rest = longer.get(one.len().min(other.len())).map(|statement| statement.line);
    match differs.or(rest) {
        None => Ok(()),
        Some(line) => {
            let problem =
                "the databases that it shall run on don't read the same statement here; give them files of their own";
            Err(SqlFileError { line, problem: problem.to_owned() })
        }
    }
}

struct Splitter<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    /// Open parentheses, and bodies of functions (BEGIN ATOMIC … END): a semicolon in them doesn't end the statement.
    depth: usize,
    dialect: Dialect,
    /// What ends a statement.
    delimiter: &'a str,
}

impl Splitter<'_> {
    fn is_mysql(&self) -> bool {
        self.dialect == Dialect::MySql
    }

    fn line_at(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    fn error<T>(&self, at: usize, problem: impl Into<String>) -> Result<T, SqlFileError> {
        Err(SqlFileError { line: self.line_at(at), problem: problem.into() })
    }

    fn statement(&mut self) -> Result<Option<Statement>, SqlFileError> {
        let (mut session, mut look_before) = (None, false);
        let mut start = None;
        let mut words = Words::default();
        self.depth = 0;
        while let Some((at, char)) = self.chars.next() {
            if let Some(comment) = self.comment(at, char)? {
                session = session_of(comment).or(session);
                look_before |= comment.trim() == "poll";
                continue;
            }
            if char.is_whitespace() {
                continue;
            }
            if self.text[at..].starts_with(self.delimiter) && self.depth == 0 {
                while self.chars.next_if(|(next, _)| *next < at + self.delimiter.len()).is_some() {}
                if let Some(start) = start {
                    return self.finish((start, at), session, look_before, &words);
                }
                continue;
            }
            if start.is_none() && char == '\\' {
                let client = if self.is_mysql() { "mysql" } else { "psql" };
                return self.error(at, format!("commands of {client} (\\…) are not SQL; leave them out"));
            }
            if start.is_none() && self.is_mysql() && self.takes_delimiter(at)? {
                continue;
            }
            start.get_or_insert(at);
            self.token(at, char, &mut words)?;
        }
        match start {
            Some(start) => self.finish((start, self.text.len()), session, look_before, &words),
            None => Ok(None),
        }
    }

    /// Takes a line `DELIMITER //`, which is for the client: from it on something else than a semicolon ends statements.
    fn takes_delimiter(&mut self, at: usize) -> Result<bool, SqlFileError> {
        const WORD: &str = "delimiter";
        let line = self.text[at..].lines().next().unwrap_or_default();
        let word = line.get(..WORD.len()).filter(|word| word.eq_ignore_ascii_case(WORD));
        let Some(delimiter) = word.and_then(|_| line[WORD.len()..].strip_prefix([' ', '\t'])) else { return Ok(false) };
        self.delimiter = delimiter.trim();
        if self.delimiter.is_empty() {
            return self.error(at, "DELIMITER says nothing that ends statements from here on");
        }
        while self.chars.next_if(|(next, _)| *next < at + line.len()).is_some() {}
        Ok(true)
    }

    fn finish(
        &self,
        (start, end): (usize, usize),
        session: Option<String>,
        look_before: bool,
        words: &Words,
    ) -> Result<Option<Statement>, SqlFileError> {
        if words.is_copy_from_stdin() && !self.is_mysql() {
            return self.error(start, "COPY … FROM STDIN needs rows that this file can't give; use INSERT");
        }
        Ok(Some(Statement {
            session: session.unwrap_or_else(|| FIRST_SESSION.to_owned()),
            sql: self.text[start..end].trim_end().to_owned(),
            line: self.line_at(start),
            look_before,
        }))
    }

    /// Takes one token that begins with the character, so that no semicolon within it counts.
    fn token(&mut self, at: usize, char: char, words: &mut Words) -> Result<(), SqlFileError> {
        match char {
            '\'' => self.quoted(at, '\'', self.is_mysql() || words.last_is("e")),
            '"' => self.quoted(at, '"', self.is_mysql()),
            '`' if self.is_mysql() => self.quoted(at, '`', false),
            '$' if !self.is_mysql() => self.dollar_quoted(at),
            '(' => {
                self.depth += 1;
                Ok(())
            }
            ')' => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            char if char.is_alphabetic() || char == '_' => {
                let mut end = at + char.len_utf8();
                while let Some((next, char)) =
                    self.chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_' || *c == '$')
                {
                    end = next + char.len_utf8();
                }
                match words.push(&self.text[at..end]) {
                    Body::Begins => self.depth += 1,
                    Body::Ends => self.depth = self.depth.saturating_sub(1),
                    Body::None => {}
                }
                // An identifier and a quote that touch are one token only for prefixes such as E'…'.
                if !matches!(self.chars.peek(), Some((_, '\''))) {
                    words.forget_prefix();
                }
                Ok(())
            }
            _ => {
                words.forget_prefix();
                Ok(())
            }
        }
    }

    fn quoted(&mut self, start: usize, quote: char, escapes: bool) -> Result<(), SqlFileError> {
        while let Some((_, char)) = self.chars.next() {
            if escapes && char == '\\' {
                self.chars.next();
            } else if char == quote && self.chars.next_if(|(_, c)| *c == quote).is_none() {
                return Ok(());
            }
        }
        self.error(start, format!("the quote {quote} that begins here doesn't end"))
    }

    /// `$$…$$` or `$tag$…$tag$`; a lone `$` is a parameter or part of an operator.
    fn dollar_quoted(&mut self, start: usize) -> Result<(), SqlFileError> {
        let rest = &self.text[start + 1..];
        let Some(tag_length) = rest.find('$') else { return Ok(()) };
        let tag = &rest[..tag_length];
        let is_tag =
            tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
        if !is_tag {
            return Ok(());
        }
        let delimiter = &self.text[start..start + tag_length + 2];
        let body = start + delimiter.len();
        let Some(length) = self.text[body..].find(delimiter) else {
            return self.error(start, format!("the quote {delimiter} that begins here doesn't end"));
        };
        let end = body + length + delimiter.len();
        while self.chars.next_if(|(at, _)| *at < end).is_some() {}
        Ok(())
    }

    /// Takes a comment that begins here, and returns its text.
    fn comment(&mut self, at: usize, char: char) -> Result<Option<&str>, SqlFileError> {
        let rest = &self.text[at..];
        let begins = |mark: &str| rest.strip_prefix(mark);
        // MySQL takes two dashes for minus and minus if no blank follows.
        let after = match self.dialect {
            Dialect::PostgreSql => begins("--"),
            Dialect::MySql => begins("--").filter(|rest| !rest.starts_with(|c: char| !c.is_whitespace())),
        };
        let is_hash = self.is_mysql() && char == '#';
        if after.is_some() || is_hash {
            let length = rest.find('\n').unwrap_or(rest.len());
            while self.chars.next_if(|(next, _)| *next < at + length).is_some() {}
            return Ok(Some(&self.text[at + if is_hash { 1 } else { 2 }..at + length]));
        }
        // What stands in `/*! … */` is code for MySQL.
        let is_code = self.is_mysql() && (rest.starts_with("/*!") || rest.starts_with("/*+"));
        if rest.starts_with("/*") && !is_code {
            let (mut nesting, nests) = (0, !self.is_mysql());
            let mut previous = (at, char);
            for (next, char) in self.chars.by_ref() {
                match (previous.1, char) {
                    ('/', '*') if nesting == 0 || nests => nesting += 1,
                    ('*', '/') => nesting -= 1,
                    _ => {
                        previous = (next, char);
                        continue;
                    }
                }
                if nesting == 0 {
                    return Ok(Some(&self.text[at + 2..next - 1]));
                }
                previous = (next, ' ');
            }
            return self.error(at, "the comment /* that begins here doesn't end");
        }
        Ok(None)
    }
}

fn session_of(comment: &str) -> Option<String> {
    let name = comment.trim().strip_prefix("session:")?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// What a word does to the nesting of function bodies.
enum Body {
    Begins,
    Ends,
    None,
}

/// The words of a statement, as far as splitting depends on them.
#[derive(Default)]
struct Words {
    first: Option<String>,
    previous: String,
    last: String,
    prefix: bool,
    in_body: usize,
    copies_from_stdin: bool,
}

impl Words {
    fn push(&mut self, word: &str) -> Body {
        let word = word.to_ascii_lowercase();
        self.previous = std::mem::replace(&mut self.last, word);
        self.first.get_or_insert_with(|| self.last.clone());
        self.prefix = true;
        let is_copy = self.first.as_deref() == Some("copy");
        self.copies_from_stdin |= is_copy && self.previous == "from" && self.last == "stdin";
        match self.last.as_str() {
            "atomic" if self.previous == "begin" => {
                self.in_body += 1;
                Body::Begins
            }
            "case" if self.in_body > 0 => {
                self.in_body += 1;
                Body::Begins
            }
            "end" if self.in_body > 0 => {
                self.in_body -= 1;
                Body::Ends
            }
            _ => Body::None,
        }
    }

    fn forget_prefix(&mut self) {
        self.prefix = false;
    }

    fn last_is(&self, word: &str) -> bool {
        self.prefix && self.last == word
    }

    fn is_copy_from_stdin(&self) -> bool {
        self.copies_from_stdin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<String>, SqlFileError> {
        Ok(split(text, Dialect::PostgreSql)?.into_iter().map(|statement| statement.sql).collect())
    }

    #[test]
    fn statements_know_their_lines_and_sessions() -> Result<(), SqlFileError> {
        let text = "-- a comment\nSELECT 1;\n\n-- session: b\n-- poll\n  UPDATE t\n SET x = 1 ;SELECT 2";
        let statement = |session: &str, sql: &str, line| Statement {
            session: session.into(),
            sql: sql.into(),
            line,
            look_before: session == "b",
        };
        assert_eq!(
            split(text, Dialect::PostgreSql)?,
            [statement("a", "SELECT 1", 2), statement("b", "UPDATE t\n SET x = 1", 6), statement("a", "SELECT 2", 7)]
        );
        Ok(())
    }

    #[test]
    fn semicolons_in_quotes_comments_and_bodies_do_not_split() -> Result<(), SqlFileError> {
        for one in [
            "SELECT ';', 'it''s;', \"odd;name\"",
            r"SELECT E'\';', 'plain\'",
            "SELECT $$;$$, $tag$ ; $$ ; $tag$",
            "SELECT 1 -- ; not here\n + 1",
            "SELECT 1 /* ; /* nested ; */ ; */ + 1",
            "CREATE RULE r AS ON DELETE TO t DO ALSO (INSERT INTO l VALUES (1); DELETE FROM m)",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
            "SELECT $1, a$b$c FROM t",
            "SELECT 'größer; 大阪'",
        ] {
            assert_eq!(texts(&format!("{one};"))?, [one]);
            assert_eq!(texts(&format!("{one}; SELECT 2;"))?.len(), 2, "{one}");
        }
        Ok(())
    }

    #[test]
    fn nothing_between_semicolons_is_no_statement() -> Result<(), SqlFileError> {
        assert_eq!(texts(";;\n -- only a comment\n ; /* and another */")?, Vec::<String>::new());
        assert_eq!(texts("")?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn what_cannot_be_split_is_told_with_its_line() {
        let problem = |text: &str| split(text, Dialect::PostgreSql).map_err(|error| (error.line, error.problem));
        assert!(matches!(problem("SELECT 1;\nSELECT 'open;\n"), Err((2, p)) if p.contains("quote '")));
        assert!(matches!(problem("\n\nSELECT $x$ open"), Err((3, p)) if p.contains("$x$")));
        assert!(matches!(problem("SELECT 1 /* open"), Err((1, p)) if p.contains("/*")));
        assert!(matches!(problem("SELECT 1;\n\\d t"), Err((2, p)) if p.contains("psql")));
        assert!(matches!(problem("COPY t (a) FROM STDIN;\n1\n"), Err((1, p)) if p.contains("COPY")));
    }

    #[test]
    fn files_of_mysql_are_split_as_mysql_does() -> Result<(), SqlFileError> {
        let texts = |text: &str| -> Result<Vec<String>, SqlFileError> {
            Ok(split(text, Dialect::MySql)?.into_iter().map(|statement| statement.sql).collect())
        };
        for one in [
            r#"SELECT 'it\'s;', "a\";""#,
            "SELECT `odd;name`, 2--1",
            "SELECT $1 FROM t$$",
            "SELECT 1 # ; not here\n + 1",
            "SELECT 1 /* ; /* ; */ + 1",
            "CREATE TABLE t (id int) /*!50100 COMMENT 'x;' */",
        ] {
            assert_eq!(texts(&format!("{one};"))?, [one]);
            assert_eq!(texts(&format!("{one}; SELECT 2;"))?.len(), 2, "{one}");
        }
        let body = "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; SET NEW.b = 2; END";
        assert_eq!(texts(&format!("DELIMITER //\n{body}//\ndelimiter ;\nSELECT 2"))?, [body, "SELECT 2"]);
        assert!(split("SELECT 1;\nDELIMITER \nSELECT 2", Dialect::MySql).is_err_and(|error| error.line == 2));
        assert!(split("\\G", Dialect::MySql).is_err_and(|error| error.problem.contains("mysql")));
        Ok(())
    }

    #[test]
    fn a_file_that_two_databases_read_differently_is_refused() -> Result<(), SqlFileError> {
        let compared = |text: &str| same(&split(text, Dialect::PostgreSql)?, &split(text, Dialect::MySql)?);
        compared("SELECT 1; -- x\nSELECT 'a''b';")?;
        assert_eq!(compared("SELECT 1;\nSELECT 'a\\'; SELECT 'b'").map_err(|error| error.line), Err(2));
        assert_eq!(compared("SELECT 1;\n# SELECT 2;\nSELECT 3").map_err(|error| error.line), Err(2));
        Ok(())
    }
}
