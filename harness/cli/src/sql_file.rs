//! SQL files: split into statements as psql does it (PostgreSQL manual, 4.1 "Lexical Structure"), with their lines.

use std::{fmt, iter::Peekable, str::CharIndices};

pub(crate) use changeproof::script::FIRST_SESSION;

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
/// A quote or comment that doesn't end, a command of psql's own, rows of COPY in the file.
pub(crate) fn split(text: &str) -> Result<Vec<Statement>, SqlFileError> {
    let mut splitter = Splitter { text, chars: text.char_indices().peekable(), depth: 0 };
    let mut statements = Vec::new();
    while let Some(statement) = splitter.statement()? {
        statements.push(statement);
    }
    Ok(statements)
}

struct Splitter<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    /// Open parentheses, and bodies of functions (BEGIN ATOMIC … END): a semicolon in them doesn't end the statement.
    depth: usize,
}

impl Splitter<'_> {
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
            if char == ';' && self.depth == 0 {
                if let Some(start) = start {
                    return self.finish((start, at), session, look_before, &words);
                }
                continue;
            }
            if start.is_none() && char == '\\' {
                return self.error(at, "commands of psql (\\…) are not SQL; leave them out");
            }
            start.get_or_insert(at);
            self.token(at, char, &mut words)?;
        }
        match start {
            Some(start) => self.finish((start, self.text.len()), session, look_before, &words),
            None => Ok(None),
        }
    }

    fn finish(
        &self,
        (start, end): (usize, usize),
        session: Option<String>,
        look_before: bool,
        words: &Words,
    ) -> Result<Option<Statement>, SqlFileError> {
        if words.is_copy_from_stdin() {
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
            '\'' => self.quoted(at, '\'', words.last_is("e")),
            '"' => self.quoted(at, '"', false),
            '$' => self.dollar_quoted(at),
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
        if char == '-' && rest.starts_with("--") {
            let length = rest.find('\n').unwrap_or(rest.len());
            while self.chars.next_if(|(next, _)| *next < at + length).is_some() {}
            return Ok(Some(&self.text[at + 2..at + length]));
        }
        if char == '/' && rest.starts_with("/*") {
            let mut nesting = 0;
            let mut previous = (at, char);
            for (next, char) in self.chars.by_ref() {
                match (previous.1, char) {
                    ('/', '*') => nesting += 1,
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
        Ok(split(text)?.into_iter().map(|statement| statement.sql).collect())
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
            split(text)?,
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
        let problem = |text: &str| split(text).map_err(|error| (error.line, error.problem));
        assert!(matches!(problem("SELECT 1;\nSELECT 'open;\n"), Err((2, p)) if p.contains("quote '")));
        assert!(matches!(problem("\n\nSELECT $x$ open"), Err((3, p)) if p.contains("$x$")));
        assert!(matches!(problem("SELECT 1 /* open"), Err((1, p)) if p.contains("/*")));
        assert!(matches!(problem("SELECT 1;\n\\d t"), Err((2, p)) if p.contains("psql")));
        assert!(matches!(problem("COPY t (a) FROM STDIN;\n1\n"), Err((1, p)) if p.contains("COPY")));
    }
}
