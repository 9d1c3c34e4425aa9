//! The outcome for people: the streams side by side under the statements that caused them, then the verdicts.

use std::{collections::BTreeSet, io::IsTerminal};

use anstyle::{AnsiColor, Style};
use changeproof::{
    Op,
    guarantees::Loss,
    judge::Verdict,
    text::{LEGEND, line},
};
use unicode_width::UnicodeWidthStr;

use super::{
    execute::Ran,
    outcome::{Attempt, Attributed, MethodOutcome},
};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Columns in front of the streams: the line's number and two blanks.
const MARGIN: usize = 7;

/// What is told of one statement by one method at most; a count tells the rest.
const CHANGES_TOLD: usize = 10;

const SQL_LINES_TOLD: usize = 8;

pub(super) fn print(attempt: &Attempt) {
    let width = Layout::of(attempt.methods.len());
    print_head(attempt, &width);
    let has_sessions = attempt.statements().iter().any(|ran| ran.statement.session != crate::sql_file::FIRST_SESSION);
    for (number, ran) in attempt.statements().iter().enumerate() {
        print_statement(ran, has_sessions);
        print_streams(attempt, Some(number), &width);
    }
    if attempt.methods.iter().any(|m| m.changes.iter().any(|c| c.statement.is_none())) {
        anstream::println!("\n{DIM}of no statement{DIM:#}");
        print_streams(attempt, None, &width);
    }
    anstream::println!();
    for method in &attempt.methods {
        print_verdict(method);
    }
}

/// How wide each method's stream may be; no limit where nobody looks at it line by line.
struct Layout {
    cell: Option<usize>,
}

impl Layout {
    fn of(methods: usize) -> Self {
        const PIPED: usize = 160;
        let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let is_terminal = std::io::stdout().is_terminal();
        let whole = terminal.filter(|_| is_terminal).or((methods > 1).then_some(PIPED));
        let separators = 3 * methods.saturating_sub(1);
        let share = |whole: usize| whole.saturating_sub(MARGIN + separators) / methods.max(1);
        Self { cell: whole.map(|whole| share(whole).max(24)) }
    }
}

fn print_head(attempt: &Attempt, layout: &Layout) {
    let file = attempt.file.display();
    let storages = attempt.storages.iter().map(|(catalogue, version)| format!("{} {version}", catalogue.title()));
    anstream::println!("{BOLD}{file}{BOLD:#} on {}", storages.collect::<Vec<_>>().join(" and "));
    for method in &attempt.methods {
        anstream::println!("  {BOLD}{}{BOLD:#}  {}", method.name, method.summary);
    }
    anstream::println!("{DIM}{LEGEND}   #n its transaction{DIM:#}");
    if let ([_, _, ..], Some(cell)) = (attempt.methods.as_slice(), layout.cell) {
        let names = attempt.methods.iter().map(|method| format!("{:cell$}", method.name));
        let names = names.collect::<Vec<_>>().join(" │ ");
        anstream::println!("\n{:MARGIN$}{BOLD}{}{BOLD:#}", "", names.trim_end());
    }
}

fn print_statement(ran: &Ran, has_sessions: bool) {
    let statement = &ran.statement;
    let session = if has_sessions { format!("{}: ", statement.session) } else { String::new() };
    let total = statement.sql.lines().count();
    anstream::println!();
    for (i, text) in statement.sql.lines().take(SQL_LINES_TOLD).enumerate() {
        let number = if i == 0 { statement.line.to_string() } else { String::new() };
        let end = if i + 1 == total { ";" } else { "" };
        let session = if i == 0 { session.as_str() } else { "" };
        anstream::println!("{DIM}{number:>5}{DIM:#}  {BOLD}{session}{BOLD:#}{text}{end}");
    }
    if total > SQL_LINES_TOLD {
        anstream::println!("{:MARGIN$}{DIM}… {} lines more{DIM:#}", "", total - SQL_LINES_TOLD);
    }
    if ran.waited {
        anstream::println!("{:MARGIN$}{DIM}(waited for another session's lock){DIM:#}", "");
    }
    if let Some(failure) = &ran.failure {
        if let Some(column) = failure.column
            && let Some(text) = statement.sql.lines().nth(failure.line - statement.line)
        {
            let before: String = text.chars().take(column - 1).collect();
            let indent = MARGIN + before.width() + if failure.line == statement.line { session.width() } else { 0 };
            anstream::println!("{:indent$}{RED}^{RED:#}", "");
        }
        anstream::println!("{:MARGIN$}{RED}line {}: {}{RED:#}", "", failure.line, failure.message);
    }
}

fn print_streams(attempt: &Attempt, statement: Option<usize>, layout: &Layout) {
    let cells: Vec<Vec<(Style, String)>> =
        attempt.methods.iter().map(|method| cell(method, statement, layout)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..height {
        let mut text = " ".repeat(MARGIN);
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                text.push_str(&format!(" {DIM}│{DIM:#} "));
            }
            let (style, content) = cell.get(row).cloned().unwrap_or_default();
            let is_last = i + 1 == cells.len();
            let padding = layout.cell.filter(|_| !is_last).unwrap_or(0);
            let padding = padding.saturating_sub(content.width());
            text.push_str(&format!("{style}{content}{style:#}{:padding$}", ""));
        }
        anstream::println!("{}", text.trim_end());
    }
}

fn cell(method: &MethodOutcome, statement: Option<usize>, layout: &Layout) -> Vec<(Style, String)> {
    let changes: Vec<_> = method.changes.iter().filter(|c| c.statement == statement).collect();
    let told = if changes.len() > CHANGES_TOLD + 1 { CHANGES_TOLD } else { changes.len() };
    let mut lines = Vec::new();
    for Attributed { change, transaction, image, .. } in changes.iter().take(told) {
        let text = format!("{} #{transaction}", line(change, image.as_deref()));
        let style = style_of(change.op);
        lines.extend(wrap(&text, layout.cell).into_iter().map(|text| (style, text)));
    }
    if changes.len() > told {
        lines.push((DIM, format!("… {} changes more", changes.len() - told)));
    }
    lines
}

fn style_of(op: Op) -> Style {
    match op {
        Op::Read => AnsiColor::Blue,
        Op::Insert => AnsiColor::Green,
        Op::Update | Op::Upsert => AnsiColor::Yellow,
        Op::Delete => AnsiColor::Red,
        Op::Truncate => AnsiColor::Magenta,
        Op::Schema | Op::Files => AnsiColor::Cyan,
    }
    .on_default()
}

/// Breaks a line at blanks where it can, with the rest indented.
fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    const INDENT: &str = "    ";
    let Some(width) = width else { return vec![text.to_owned()] };
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split_inclusive(' ') {
        if !current.trim().is_empty() && current.width() + word.trim_end().width() > width {
            lines.push(std::mem::replace(&mut current, INDENT.to_owned()).trim_end().to_owned());
        }
        for char in word.chars() {
            if current.width() >= width {
                lines.push(std::mem::replace(&mut current, INDENT.to_owned()));
            }
            current.push(char);
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

fn print_verdict(method: &MethodOutcome) {
    let same = method.proof();
    let leaves_out = |losses: &BTreeSet<Loss>| {
        [Loss::DeleteMissed, Loss::OldKeyMissed, Loss::TruncateMissed, Loss::BehindTheMark]
            .iter()
            .any(|l| losses.contains(l))
    };
    let (style, verdict, note) = match &method.verdict {
        Verdict::Exact => (AnsiColor::Green, "exact", same),
        Verdict::AsGuaranteed { losses } if leaves_out(losses) => {
            (AnsiColor::Green, "as guaranteed", format!("{same}, but for what it doesn't promise to tell"))
        }
        Verdict::AsGuaranteed { .. } => (AnsiColor::Green, "as guaranteed", same),
        Verdict::KnownFlaw { .. } | Verdict::Refused { .. } => (AnsiColor::Yellow, "known flaw", String::new()),
        Verdict::Broken { .. } => (AnsiColor::Red, "broken", "a promise was not kept".to_owned()),
    };
    let style = style.on_default().bold();
    anstream::println!("{BOLD}{}{BOLD:#}  {style}{verdict}{style:#}: {note}", method.name);
    match &method.verdict {
        Verdict::AsGuaranteed { losses } => {
            for loss in losses {
                let count = method.counts.get(loss).map(|count| format!(" ({count}×)"));
                anstream::println!("    {loss}{}", count.unwrap_or_default());
            }
        }
        Verdict::Broken { faults } => {
            for fault in faults {
                anstream::println!("    {RED}{fault}{RED:#}");
            }
        }
        Verdict::Exact | Verdict::KnownFlaw { .. } | Verdict::Refused { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_never_wider_than_allowed() {
        let text = "+ customers 1  name: Ada  motto: 大阪大阪大阪大阪大阪大阪大阪大阪大阪";
        let lines = wrap(text, Some(24));
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.width() <= 25), "{lines:?}");
        assert!(lines[0].starts_with("+ customers 1  name:"));
        assert_eq!(wrap(text, None), [text]);
    }
}
