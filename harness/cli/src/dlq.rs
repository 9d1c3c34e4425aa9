//! `cdc dlq`: the dead letters of a pipeline.

use std::{collections::BTreeSet, fmt::Write as _};

use changeproof::{
    dead_letters::{Letter, Place, read, replay},
    kafka::Brokers,
};
use clap::{Args, Subcommand};

use crate::exit::Failure;

/// List, show, and send again what a pipeline could not use
///
/// A pipeline with a dead-letter topic goes on without the records that it can't read or that don't fit its sink, and keeps them there as
/// they came, with headers that say where from and why: Spark's pipeline with the setting dead_letters=TOPIC, a sink of Kafka Connect with
/// errors.tolerance=all, errors.deadletterqueue.topic.name=TOPIC and errors.deadletterqueue.context.headers.enable=true.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The brokers
    #[arg(long, value_name = "HOST:PORT", env = "CDC_BOOTSTRAP", global = true, default_value = "localhost:9092")]
    bootstrap: String,
    /// The topic of the dead letters
    #[arg(long, env = "CDC_DLQ_TOPIC", global = true, default_value = "dead-letters")]
    topic: String,
    /// A setting of librdkafka, such as security.protocol=SASL_PLAINTEXT; give it again for more of them
    ///
    /// There is no TLS here, of SASL there is PLAIN alone, and topics compressed by gzip or zstd can't be read.
    #[arg(long = "kafka-option", value_name = "NAME=VALUE", global = true, value_parser = pair)]
    options: Vec<(String, String)>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// One line for each: its place, where it came from, and why it is there
    List,
    /// A letter with its headers, and its key and value as text, or in hexadecimal digits if they aren't text
    Show {
        /// Its place, as `list` tells it
        #[arg(value_name = "PARTITION:OFFSET")]
        place: Place,
    },
    /// Send letters to the topics that they came by, as they came; they stay here too
    Replay {
        /// Their places, as `list` tells them
        #[arg(value_name = "PARTITION:OFFSET", required_unless_present = "all", conflicts_with = "all")]
        places: Vec<Place>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// Reads `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("{text} is not NAME=VALUE"))
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let brokers = Brokers::new(&arguments.bootstrap, arguments.options.iter().cloned());
    let letters = read(&brokers, &arguments.topic).await.map_err(|error| match error.has_help() {
        true => error,
        false => error.help(format!(
            "see whether brokers answer at {}, and how: --bootstrap and --kafka-option say it",
            arguments.bootstrap
        )),
    })?;
    match &arguments.action {
        Action::List => {
            letters.iter().for_each(|letter| anstream::println!("{}", line(letter)));
            anstream::eprintln!("{} in {}", count(letters.len()), arguments.topic);
        }
        Action::Show { place } => show(found(&letters, *place)?),
        Action::Replay { places, all } => {
            let chosen: BTreeSet<Place> = if *all {
                letters.iter().map(|letter| letter.place).collect()
            } else {
                places.iter().copied().collect()
            };
            // All are looked up before the first is sent.
            let chosen = chosen.into_iter().map(|place| found(&letters, place)).collect::<Result<Vec<_>, _>>()?;
            for letter in &chosen {
                replay(&brokers, letter).await?;
                anstream::println!("{}  → {}", letter.place, letter.topic.as_deref().unwrap_or_default());
            }
            anstream::eprintln!("{} sent again", count(chosen.len()));
        }
    }
    Ok(())
}

fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".to_owned() } else { format!("{letters} dead letters") }
}

fn found(letters: &[Letter], place: Place) -> Result<&Letter, Failure> {
    let found = letters.iter().find(|letter| letter.place == place);
    found.ok_or_else(|| {
        Failure::input(format!("there is no dead letter at {place}; `cdc dlq list` tells which there are"))
    })
}

fn line(letter: &Letter) -> String {
    let topic = letter.topic.as_deref().unwrap_or("(unknown topic)");
    let origin = letter.origin.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!("{}  {topic}{origin}  {}", letter.place, letter.reason)
}

fn show(letter: &Letter) {
    anstream::println!("{}", line(letter));
    for (name, value) in &letter.headers {
        anstream::println!("  {name}: {value}");
    }
    anstream::println!("key:\n{}", bytes(letter.key.as_deref()));
    anstream::println!("value:\n{}", bytes(letter.value.as_deref()));
}

/// Bytes as the text that they are, or in hexadecimal digits.
fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "(none)".to_owned(),
        Some((Ok(text), _)) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
        Some((_, bytes)) => bytes.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_shown_in_digits() {
        assert_eq!(bytes(Some("Köln".as_bytes())), "Köln");
        assert_eq!(bytes(Some(&[0, 255])), "00ff");
        assert_eq!(bytes(None), "(none)");
    }
}
