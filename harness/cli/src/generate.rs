//! `cdc generate`: rows of the shop.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use changeproof_fixtures::{Format, Locale, Table, write_table};
use clap::Args;

use crate::exit::Failure;

/// Writes rows.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The table
    #[arg(long, value_enum)]
    table: Table,
    /// How many rows
    #[arg(long, default_value_t = 100)]
    rows: u32,
    /// The seed: the same one gives the same rows
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The language and country of names and addresses
    #[arg(long, value_enum, default_value = "en")]
    locale: Locale,
    /// The format
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The file to write [default: standard output]
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            Box::new(File::create(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut told = Told::new(arguments.rows);
    let Arguments { table, rows, seed, locale, format, .. } = arguments;
    let written = write_table(&mut out, *table, *rows, *seed, *locale, *format, |done| told.say(done));
    told.end();
    match written {
        // Whoever reads from a pipe may have had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::input(format!("could not write: {error}"))),
    }
}

/// Progress on stderr, where a person looks on and it takes long enough to matter.
struct Told {
    rows: u32,
    next: Instant,
    said: bool,
    looked_at: bool,
}

impl Told {
    const EVERY: Duration = Duration::from_millis(500);

    fn new(rows: u32) -> Self {
        let looked_at = io::stderr().is_terminal();
        Self { rows, next: Instant::now() + Self::EVERY, said: false, looked_at }
    }

    fn say(&mut self, done: u64) {
        if self.looked_at && Instant::now() >= self.next {
            anstream::eprint!("\r{done} of {} rows", self.rows);
            self.next += Self::EVERY;
            self.said = true;
        }
    }

    fn end(&self) {
        if self.said {
            anstream::eprintln!();
        }
    }
}
