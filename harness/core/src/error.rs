//! Errors that name the service, the action and the way out.

use std::{error::Error as StdError, fmt};

/// The result of anything that talks to a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, where, why, and what to do about it.
#[derive(Debug)]
pub struct Error {
    service: String,
    action: String,
    cause: String,
    help: Option<String>,
    log: Option<String>,
}

impl Error {
    /// An error of a service in an action: `Error::new("Kafka Connect", "register the connector", cause)`.
    pub fn new(service: impl Into<String>, action: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { service: service.into(), action: action.into(), cause: cause.to_string(), help: None, log: None }
    }

    /// What failed.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What it failed to do.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it says what somebody can do about it; without, it may pass by itself.
    pub fn has_help(&self) -> bool {
        self.help.is_some()
    }

    /// Adds the last lines of the service's log, unless it has some already.
    #[must_use]
    pub fn log(mut self, log: impl Into<String>) -> Self {
        self.log = self.log.or_else(|| Some(log.into()).filter(|log| !log.trim().is_empty()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: could not {}: {}", self.service, self.action, self.cause)?;
        if let Some(help) = &self.help {
            write!(f, "\n  what to do: {help}")?;
        }
        if let Some(log) = &self.log {
            write!(f, "\n  the last lines of its log:")?;
            log.lines().try_for_each(|line| write!(f, "\n    {line}"))?;
        }
        Ok(())
    }
}

impl StdError for Error {}

/// Adds service and action to any error.
pub trait Context<T> {
    /// `result.while_doing("PostgreSQL", "create the database")?`
    fn while_doing(self, service: &str, action: impl Into<String>) -> Result<T>;
}

impl<T, E: StdError> Context<T> for Result<T, E> {
    fn while_doing(self, service: &str, action: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::new(service, action, Chain(&error)))
    }
}

/// An error with all its causes: drivers say "db error" and keep the message in the cause.
struct Chain<'a>(&'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !told.contains(&cause_text) {
                write!(f, ": {cause_text}")?;
            }
            told = cause_text;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence_with_a_way_out_and_the_log() {
        let error = Error::new("Kafka Connect", "register the connector", "401 Unauthorized")
            .help("check the password")
            .log("line 1\nline 2\n");
        assert_eq!(
            error.to_string(),
            "Kafka Connect: could not register the connector: 401 Unauthorized\n  what to do: check the password\n  \
             the last lines of its log:\n    line 1\n    line 2"
        );
    }
}
