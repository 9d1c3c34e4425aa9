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

/// The words of a statement, without comments. What stands in a string counts as a name in quotes: nobody asks for it.
pub(super) fn words(sql: &str) -> Vec<Word> {
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
