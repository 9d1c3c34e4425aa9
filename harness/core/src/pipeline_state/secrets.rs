//! Settings that are secret: they are left out of the file, and asked for again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::{SERVICE, file::Connector};
use crate::{
    error::{Error, Result},
    stack::{Endpoint, Service, jaas_login},
};

/// What names of secret settings hold.
const SECRET: [&str; 8] =
    ["password", "passphrase", "secret", "jaas", "token", "credential", "keystore.key", "private.key"];

/// Whether a setting must not be written down. One that only says where Connect finds the secret (`${provider:…}`, KIP-297) may.
fn is_secret(name: &str, value: &str) -> bool {
    let (name, value) = (name.to_ascii_lowercase(), value.trim());
    let is_a_reference = value.starts_with("${") && value.ends_with('}');
    !is_a_reference && (SECRET.iter().any(|word| name.contains(word)) || has_a_login(value))
}

/// Whether it is an address with a password, as `http://USER:PASSWORD@HOST`.
fn has_a_login(value: &str) -> bool {
    let authority = value.split("://").skip(1).filter_map(|rest| rest.split(['/', '?', ' ']).next());
    authority.filter_map(|authority| authority.rsplit_once('@')).any(|(login, _)| login.contains(':'))
}

/// Takes the secret settings out of a configuration, and returns their names.
pub(super) fn without_secrets(mut configuration: Map<String, Json>) -> (Map<String, Json>, Vec<String>) {
    let is_one = |(name, value): &(&String, &Json)| value.as_str().is_some_and(|value| is_secret(name, value));
    let secrets: Vec<String> = configuration.iter().filter(is_one).map(|(name, _)| name.clone()).collect();
    configuration.retain(|name, _| !secrets.contains(name));
    (configuration, secrets)
}

/// Settings for connectors to come: those that were left out, and any that are other than they were.
#[derive(Clone, Default)]
pub struct Given {
    by_name: BTreeMap<String, String>,
    running: Vec<(Service, Endpoint)>,
}

/// Without the secrets.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Given {
    /// Those of lines `NAME=VALUE`, for each connector that has such a setting, and `CONNECTOR/NAME=VALUE`, for one of them. Empty lines
    /// and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line is none of these: says which, without its text.
    pub fn of_lines(text: &str) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| Error::new(SERVICE, "read the settings", format!("line {number} is not NAME=VALUE")))?;
            by_name.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self { by_name, running: Vec::new() })
    }

    /// The same, and the passwords of running services for the settings that name them.
    #[must_use]
    pub fn with_those_of(self, running: &[(Service, Endpoint)]) -> Self {
        Self { running: running.to_vec(), ..self }
    }

    /// A connector's configuration with the settings given.
    ///
    /// # Errors
    /// A secret is missing: says which.
    pub(super) fn fill(&self, connector: &Connector) -> Result<Map<String, Json>> {
        let mut configuration = connector.config.clone();
        let mut missing = Vec::new();
        let names: BTreeSet<&String> = configuration.keys().chain(&connector.secrets).collect();
        let mut filled = Vec::new();
        for name in names {
            let is_left_out = connector.secrets.contains(name);
            let of_one = self.by_name.get(&format!("{}/{name}", connector.name));
            let given = of_one.or_else(|| self.by_name.get(name)).cloned();
            match given.or_else(|| self.of_a_service(&connector.config, name).filter(|_| is_left_out)) {
                Some(value) => filled.push((name.clone(), Json::String(value))),
                None if is_left_out => missing.push(format!("{}/{name}", connector.name)),
                None => {}
            }
        }
        if !missing.is_empty() {
            let cause = format!("secrets were left out of the file: {}", missing.join(", "));
            return Err(Error::new(SERVICE, format!("configure the connector {}", connector.name), cause)
                .help("give them with --settings FILE, a line CONNECTOR/NAME=VALUE for each"));
        }
        configuration.extend(filled);
        let own = format!("{}/", connector.name);
        let new = self.by_name.iter().filter_map(|(name, value)| Some((name.strip_prefix(&own)?, value)));
        configuration.extend(new.map(|(name, value)| (name.to_owned(), Json::String(value.clone()))));
        Ok(configuration)
    }

    fn of_a_service(&self, configuration: &Map<String, Json>, name: &str) -> Option<String> {
        let of = |service| Some(&self.running.iter().find(|(running, _)| *running == service)?.1.password);
        if name.ends_with("sasl.jaas.config") {
            return of(Service::Kafka).map(|password| format!("{};", jaas_login(password)));
        }
        if name.ends_with("s3.secret-access-key") {
            return of(Service::Minio).cloned();
        }
        let host = configuration.get("database.hostname").filter(|_| name == "database.password")?.as_str()?;
        self.running.iter().find(|(_, endpoint)| endpoint.container == host).map(|(_, found)| found.password.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connector() -> Connector {
        let config = json!({
            "database.hostname": "db", "database.password": "s3cret", "database.user": "me",
            "producer.override.sasl.jaas.config": "… password=\"s3cret\"", "uri": "http://me:s3cret@catalog:8181",
            "ssl.keystore.password": "${file:/run/keys:store}", "iceberg.catalog.s3.secret-access-key": "s3cret",
        });
        let (config, secrets) = without_secrets(config.as_object().cloned().unwrap_or_default());
        Connector { name: "shop".to_owned(), config, secrets, offsets: Vec::new(), ran: true }
    }

    #[test]
    fn secrets_are_left_out_and_references_to_them_are_not() {
        let connector = connector();
        assert!(!serde_json::to_string(&connector).is_ok_and(|written| written.contains("s3cret")), "{connector:?}");
        assert_eq!(connector.config["ssl.keystore.password"], "${file:/run/keys:store}");
        assert_eq!(connector.secrets.len(), 4, "{:?}", connector.secrets);
    }

    #[test]
    fn what_was_left_out_must_be_given_again() -> Result<()> {
        let missing = Given::default().fill(&connector()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(missing.contains("shop/database.password") && missing.contains("--settings"), "{missing}");
        let given = Given::of_lines(
            "# of the new place\nshop/database.password=a=b\nuri=http://c\ndatabase.hostname=other\nshop/new=1\n\
             producer.override.sasl.jaas.config=x\nother/database.user=you\niceberg.catalog.s3.secret-access-key=k",
        )?;
        let filled = given.fill(&connector())?;
        assert_eq!(filled["database.password"], "a=b");
        assert_eq!((&filled["database.hostname"], &filled["new"]), (&json!("other"), &json!("1")));
        assert_eq!(filled["database.user"], "me", "that was for another connector");
        let told = Given::of_lines("no setting").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains("line 1") && !told.contains("no setting is"), "{told}");
        Ok(())
    }
}
