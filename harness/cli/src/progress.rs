//! What takes long, told on stderr.

use std::{io::IsTerminal, time::Instant};

use changeproof::stack::Stack;

/// Tells what is being done, with the seconds since the start.
pub(crate) struct Progress(Instant);

impl Progress {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn say(&self, what: &str) {
        let seconds = self.0.elapsed().as_secs_f32();
        let dim = if std::io::stderr().is_terminal() { anstyle::Style::new().dimmed() } else { anstyle::Style::new() };
        anstream::eprintln!("{dim}{seconds:6.1} s  {what}{dim:#}");
    }

    pub(crate) fn done(&self, stack: &Stack) {
        self.say(if !stack.has_services() {
            "done"
        } else if stack.is_kept() {
            "done; the services stay, `cdc down` removes them"
        } else {
            "done; the services are removed in the background"
        });
    }
}
