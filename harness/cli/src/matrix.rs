//! `cdc matrix`: what each method makes of each scenario.

use std::path::PathBuf;

use changeproof::{
    error::Context,
    matrix::{Matrix, write_into},
    runner::Catalogue,
};
use clap::{Args, ValueEnum};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, in a terminal
    Text,
    /// For documents
    Markdown,
    /// For programs
    Json,
}

/// Prints the fidelity matrix, as the pages on record say it.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Of this storage; `cdc list` has their names
    #[arg(long, value_name = "STORAGE", default_value = "postgres")]
    on: String,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Put it into this document instead, between its marks
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "README.md")]
    write: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, catalogues: &[&Catalogue]) -> Result<(), Failure> {
    let Some(catalogue) = catalogues.iter().find(|catalogue| catalogue.storage == arguments.on) else {
        let known: Vec<_> = catalogues.iter().map(|catalogue| catalogue.storage).collect();
        return Err(Failure::input(format!(
            "there is no storage `{}` in this build; there are {}",
            arguments.on,
            known.join(", ")
        )));
    };
    let matrix = Matrix::read(catalogue)?;
    if let Some(document) = &arguments.write {
        let outcome = if write_into(document, &matrix, false)? { "updated" } else { "was up to date" };
        anstream::eprintln!("{} {outcome}", document.display());
        return Ok(());
    }
    match arguments.format {
        Format::Text => anstream::print!("{}", matrix.text()),
        Format::Markdown => anstream::print!("{}", matrix.markdown()),
        Format::Json => {
            let json = serde_json::to_string(&matrix).while_doing("cdc", "write the matrix as JSON")?;
            anstream::println!("{json}");
        }
    }
    Ok(())
}
