//! `cdc state`: pipelines of Kafka Connect, moved to another Kafka and another Connect.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use changeproof::{
    connect::Connect,
    kafka::Brokers,
    pipeline_state::{Given, Sources, Target, export, import},
    stack::{self, Endpoint, Service},
};
use clap::{Args, Subcommand};

use crate::{dlq::pair, exit::Failure};

/// Move pipelines of Kafka Connect, with all that they know, to another Kafka and another Connect
///
/// Their state is written to a file, and they are made again of it elsewhere. The state is what Kafka and Connect know and neither the
/// source nor a sink does: connectors' configurations and offsets, the records of their topics, and how far groups of consumers have read
/// them. Secrets are left out. Without --connect and --bootstrap, it is that of the services that `cdc up debezium` has started.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Connect's REST interface: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT
    #[arg(
        long,
        value_name = "URL",
        env = "CDC_CONNECT",
        hide_env_values = true,
        global = true,
        requires = "bootstrap"
    )]
    connect: Option<String>,
    /// The brokers
    #[arg(long, value_name = "HOST:PORT", env = "CDC_BOOTSTRAP", global = true, requires = "connect")]
    bootstrap: Option<String>,
    /// A setting of librdkafka, such as security.protocol=SASL_PLAINTEXT; give it again for more of them
    ///
    /// There is no TLS here, of SASL there is PLAIN alone, and topics compressed by gzip or zstd can't be read.
    #[arg(long = "kafka-option", value_name = "NAME=VALUE", global = true, value_parser = pair)]
    options: Vec<(String, String)>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Stop connectors, which stay stopped, and write their state to a file
    ///
    /// Whoever else reads their topics should be stopped too: what is committed after the export is not in the file.
    Export {
        /// The file, which must not be there
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// A connector; all of them, if none is named
        #[arg(long = "connector", value_name = "NAME")]
        connectors: Vec<String>,
        /// A further topic, beside those that connectors have used or name
        #[arg(long = "topic", value_name = "NAME")]
        topics: Vec<String>,
    },
    /// Make the connectors, topics and groups of a file, and start the connectors that ran
    ///
    /// All that can be known to be wrong is looked for before anything is made: a connector or topic of the same name, a secret that is
    /// missing, a source that has no more of its log what its connector hasn't read.
    Import {
        /// The file
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Settings of connectors: the secrets, and what is other than it was, as lines NAME=VALUE or CONNECTOR/NAME=VALUE; - is standard
        /// input
        #[arg(long, value_name = "FILE|-")]
        settings: Option<PathBuf>,
        /// Where this machine reaches the source of a connector, postgres://… or mysql://…, if not where the connector does
        #[arg(long = "source", value_name = "CONNECTOR=URL", value_parser = pair)]
        sources: Vec<(String, String)>,
        /// Don't ask sources whether they still have of their logs what connectors haven't read
        #[arg(long, conflicts_with = "sources")]
        unchecked: bool,
        /// Leave all connectors stopped
        #[arg(long)]
        stopped: bool,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (connect, brokers, running) = if let (Some(at), Some(bootstrap)) = (&arguments.connect, &arguments.bootstrap) {
        (Connect::at(at), Brokers::new(bootstrap, arguments.options.iter().cloned()), Vec::new())
    } else {
        let running = stack::running().await?;
        let connect = Connect::at_endpoint(endpoint(&running, Service::Connect)?);
        let brokers = Brokers::of(endpoint(&running, Service::Kafka)?);
        (connect, brokers, running)
    };
    match &arguments.action {
        Action::Export { to, connectors, topics } => {
            let exported = export(to, &connect, &brokers, connectors, topics).await?;
            anstream::eprintln!(
                "{}: {} with {} in {}, {}",
                to.display(),
                counted(exported.connectors.len(), "connector"),
                counted(exported.records, "record"),
                counted(exported.topics.len(), "topic"),
                counted(exported.groups.len(), "group")
            );
            for alive in &exported.alive {
                anstream::eprintln!("the group {alive} has members: what they commit from now on is not in the file");
            }
            anstream::eprintln!("the connectors stay stopped; PUT /connectors/NAME/resume starts one again");
            Ok(())
        }
        Action::Import { from, settings, sources, unchecked, stopped } => {
            let given = given(settings.as_deref())?.with_those_of(&running);
            let at: BTreeMap<_, _> = sources.iter().cloned().collect();
            let sources = Sources { at, are_not_asked: *unchecked };
            let target =
                Target { connect: &connect, brokers: &brokers, given: &given, sources: &sources, starts: !stopped };
            let imported = import(from, target).await?;
            imported.connectors.iter().for_each(|name| anstream::println!("{name}"));
            anstream::eprintln!(
                "{} made, with {} in {}, {}",
                counted(imported.connectors.len(), "connector"),
                counted(imported.records, "record"),
                counted(imported.topics, "topic"),
                counted(imported.groups, "group")
            );
            Ok(())
        }
    }
}

fn endpoint(running: &[(Service, Endpoint)], service: Service) -> Result<&Endpoint, Failure> {
    let found = running.iter().find(|(running, _)| *running == service).map(|(_, endpoint)| endpoint);
    found.ok_or_else(|| {
        let title = service.title();
        Failure::input(format!(
            "{title} isn't running: say where it is with --connect and --bootstrap, or `cdc up debezium`"
        ))
    })
}

fn given(settings: Option<&Path>) -> Result<Given, Failure> {
    let Some(path) = settings else { return Ok(Given::default()) };
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    Ok(Given::of_lines(&text)?)
}

fn counted(count: impl TryInto<u64>, what: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
