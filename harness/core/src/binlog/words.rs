//! Statements cut into words.

/// A word of a statement: a keyword or sign, or a name in quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Plain(String),
    Quoted(String),
}

impl Word {
    /// Whether it is this sign.
    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self, Self::Plain(word) if word == sign)
    }
}

/// Words that are read one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [Word]);

impl<'a> Reader<'a> {
    /// The next word, if it is no name in quotes, in capitals.
    pub(super) fn keyword(&mut self) -> Option<String> {
        let (Word::Plain(word), rest) = self.0.split_first()? else { return None };
        self.0 = rest;
        Some(word.to_uppercase())
    }

    /// Whether the next word is one of these.
    pub(super) fn is_at(&self, words: &[&str]) -> bool {
        matches!(self.0.first(), Some(Word::Plain(word)) if words.contains(&word.to_uppercase().as_str()))
    }

    /// Steps over a word if it is one of these.
    pub(super) fn skip(&mut self, words: &[&str]) -> bool {
        let is_it = self.is_at(words);
        self.0 = &self.0[usize::from(is_it)..];
        is_it
    }

    /// Steps over `IF EXISTS` and `IF NOT EXISTS`. Returns whether one stood there.
    pub(super) fn skip_condition(&mut self) -> bool {
        let is_conditional = self.skip(&["IF"]);
        while is_conditional && self.skip(&["NOT", "EXISTS"]) {}
        is_conditional
    }

    /// The next word, whatever it is.
    pub(super) fn part(&mut self) -> Option<String> {
        let (Word::Plain(part) | Word::Quoted(part), rest) = self.0.split_first()?;
        self.0 = rest;
        Some(part.clone())
    }

    /// What stands in the parentheses that begin here, if any do.
    pub(super) fn in_parentheses(&mut self) -> Option<&'a [Word]> {
        self.0.first().filter(|word| word.is("("))?;
        let mut depth = 0;
        let end = self.0.iter().position(|word| {
            depth += i32::from(word.is("(")) - i32::from(word.is(")"));
            depth == 0
        })?;
        let inside = &self.0[1..end];
        self.0 = &self.0[end + 1..];
        Some(inside)
    }
}

/// The parts of a list, between commas that stand in no parentheses.
pub(super) fn listed(words: &[Word]) -> impl Iterator<Item = &[Word]> {
    let mut depth = 0;
    words.split(move |word| {
        depth += i32::from(word.is("(")) - i32::from(word.is(")"));
        depth == 0 && word.is(",")
    })
}

/// What stands behind `SET STATEMENT … FOR`, by which MariaDB sets variables for one statement; all of it if it begins with something else.
pub(super) fn after_set_statement(words: &[Word]) -> &[Word] {
    let mut rest = Reader(words);
    if !(rest.skip(&["SET"]) && rest.skip(&["STATEMENT"])) {
        return words;
    }
    let place = rest.0.iter().position(|word| Reader(std::slice::from_ref(word)).is_at(&["FOR"]));
    place.map_or(words, |place| &rest.0[place + 1..])
}

/// The words of a statement, without comments, but with those that servers execute (MySQL manual, 11.7). What stands in a string counts as
/// a name in quotes: nobody asks for it.
pub(super) fn words(sql: &str) -> Vec<Word> {
    words_by(sql, false)
}

/// As [`words`], where a backslash may be nothing but that (`NO_BACKSLASH_ESCAPES`).
pub(super) fn words_by(sql: &str, is_backslash_plain: bool) -> Vec<Word> {
    let mut words = Vec::new();
    let mut executed = 0_usize;
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '/' if rest.starts_with("/*!") || rest.starts_with("/*M!") => {
                let content = rest[2..].trim_start_matches('M')[1..].trim_start_matches(|c: char| c.is_ascii_digit());
                executed += 1;
                (None, rest.len() - content.len())
            }
            '*' if executed > 0 && rest.starts_with("*/") => {
                executed -= 1;
                (None, 2)
            }
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '-' if rest.starts_with("--") && !rest[2..].starts_with(|c: char| !c.is_whitespace()) => {
                (None, rest.find('\n').unwrap_or(rest.len()))
            }
            '`' | '"' | '\'' => {
                let (name, length) = quoted(rest, first, is_backslash_plain);
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
fn quoted(text: &str, quote: char, is_backslash_plain: bool) -> (String, usize) {
    let mut content = String::new();
    let mut signs = text.char_indices().skip(1).peekable();
    while let Some((at, sign)) = signs.next() {
        if sign == '\\' && quote != '`' && !is_backslash_plain {
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

    fn plain(sql: &str, is_backslash_plain: bool) -> String {
        let text = |word: &Word| match word {
            Word::Plain(text) => text.clone(),
            Word::Quoted(text) => format!("<{text}>"),
        };
        words_by(sql, is_backslash_plain).iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_left_out_unless_servers_execute_them() {
        assert_eq!(plain("/* a */ b -- c\n--\nd--e # f", false), "b d - - e");
        assert_eq!(plain("/*!40000 TRUNCATE TABLE t */", false), "TRUNCATE TABLE t");
        assert_eq!(plain("/*M!100100 a */ /*! b */ c", false), "a b c");
        assert_eq!(plain("2*/* c */3", false), "2 * 3");
    }

    #[test]
    fn a_backslash_may_be_plain() {
        assert_eq!(plain(r"'a\', b", true), r"<a\> , b");
        assert_eq!(plain(r"'a\', b", false), r"<a', b>");
    }

    #[test]
    fn a_statement_may_stand_behind_variables() {
        let words = words("SET STATEMENT lock_wait_timeout=5 FOR TRUNCATE TABLE t");
        assert!(Reader(after_set_statement(&words)).is_at(&["TRUNCATE"]));
    }
}
