//! How the program ends: a message and a code for each kind of end.

use std::process::ExitCode;

use changeproof::error::Error;

/// Why the program doesn't end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A method broke a promise; the output has told which.
    BrokenPromise,
    /// The command line or a file is wrong.
    Input(String),
    /// A service or the machine failed.
    Service(Error),
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl Failure {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    /// The program lacks a cargo feature, and therefore can't do what `so` says, if it says anything.
    pub(crate) fn built_without(feature: &str, so: &str) -> Self {
        Self::Input(format!(
            "this `cdc` was built without {feature}{so}\n  what to do: build it by `cargo build --package changeproof-cli --features \
             {feature}`"
        ))
    }

    /// Tells what there is to tell, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let (code, message) = match self {
            Self::BrokenPromise => return ExitCode::from(1),
            Self::Input(message) => (2, message.clone()),
            Self::Service(error) => (3, error.to_string()),
            Self::Interrupted => (130, "interrupted".to_owned()),
        };
        anstream::eprintln!("{red}cdc:{red:#} {message}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

/// Returns when the user or the system asks the program to end.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
