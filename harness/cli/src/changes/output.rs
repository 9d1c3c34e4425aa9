//! Where changes are told.

use std::{
    io::{BufWriter, Write},
    time::{Duration, Instant},
};

use anstyle::Style;
use changeproof::{
    Change,
    error::{Context, Error, Result},
    text,
};

use super::{Arguments, Format};
use crate::progress::Progress;

/// Progress is told about this often.
const TELL_EVERY: Duration = Duration::from_secs(2);

const DIM: Style = Style::new().dimmed();

/// Changes as text or as lines of JSON, on standard output.
pub(super) struct Output {
    format: Format,
    stdout: BufWriter<anstream::AutoStream<std::io::Stdout>>,
    commit: Option<i64>,
    progress: Progress,
    told: usize,
    last: Instant,
}

impl Output {
    pub(super) fn new(arguments: &Arguments) -> Self {
        let stdout = BufWriter::new(anstream::AutoStream::auto(std::io::stdout()));
        let (progress, last) = (Progress::start(), Instant::now());
        Self { format: arguments.format, stdout, commit: None, progress, told: 0, last }
    }

    /// Tells a change of a commit, which is known by its number and gets a heading in text.
    pub(super) fn change(&mut self, commit: i64, heading: impl FnOnce() -> String, change: &Change) -> Result<()> {
        let doing = "print the changes";
        self.count(1);
        if self.format == Format::Json {
            let json = serde_json::to_string(change).while_doing("cdc", doing)?;
            return writeln!(self.stdout, "{json}").while_doing("cdc", doing);
        }
        if self.commit.replace(commit) != Some(commit) {
            writeln!(self.stdout, "{DIM}{}{DIM:#}", heading()).while_doing("cdc", doing)?;
        }
        writeln!(self.stdout, "  {}", text::line(change, None)).while_doing("cdc", doing)
    }

    /// Says now and then how many changes have been told.
    pub(super) fn count(&mut self, changes: usize) {
        self.told += changes;
        if self.last.elapsed() > TELL_EVERY {
            self.progress.say(&format!("{} changes", self.told));
            self.last = Instant::now();
        }
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.stdout.flush().while_doing("cdc", "print the changes")
    }
}

/// A moment as the command line gives it, in milliseconds since 1970 (UTC).
pub(super) fn moment_ms(text: &str, what: &str) -> Result<i64> {
    let moment = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| {
        Error::new("cdc", format!("find the {what} `{text}`"), format!("it is neither a {what}'s number nor a time"))
            .help("write a time as 2026-01-31T12:00:00Z; the headings of `cdc changes` tell the numbers")
    })?;
    Ok(moment.timestamp_millis())
}
