//! Maxwell at work in a container: started, read, stopped, and started again.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use rdkafka::Message;

use super::{
    SERVICE, container,
    line::{Decoder, Told},
    own_database,
};
use crate::{
    capture::{Options, SnapshotMode, Subject, Subscription},
    change::Change,
    error::{Context, Error, Result},
    kafka::{self, Reader},
    mysql::{self, Conn, quote},
    schema::TableName,
    stack::{Endpoint, Line, Service, Task, Worker, jaas_login},
};

/// Where it finds its settings.
const SETTINGS: &str = "/etc/maxwell.properties";

const READY_WITHIN: Duration = Duration::from_secs(90);

/// The memory that its container may use, in MiB.
const MEMORY_MB: u32 = 512;

/// What it writes when it has lost its connection, and ends: whoever runs it starts it again.
const PASSING_FAILURE: &str = "Communications link failure";

/// What it writes when it can't make sense of the log, and goes on without a word to its consumers.
const LOST_ITS_WAY: &str = "Unknown event type";

/// A capture by Maxwell.
pub(super) struct MaxwellSubscription {
    worker: Worker,
    source: Endpoint,
    lease: String,
    /// The topic, if it writes to Kafka.
    reader: Option<Reader>,
    decoder: Decoder,
    ready: VecDeque<Change>,
    /// Tables whose rows are still to be read.
    to_read: BTreeSet<TableName>,
    is_stopped: bool,
}

impl MaxwellSubscription {
    /// Starts it, and has the rows read that exist, if they are asked for.
    pub(super) async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let endpoint = subject.stack.endpoint(Service::Mariadb)?;
        let mut conn = mysql::connect(endpoint, subject.database).await?;
        let shapes = mysql::shapes(&mut conn, subject.database).await?;
        let decoder = Decoder::new(subject.database, &shapes);
        let is_to_kafka = options.settings.get("producer").is_some_and(|producer| producer == "kafka");
        let broker = if is_to_kafka { Some(subject.stack.also(Service::Kafka).await?) } else { None };
        let reader = match &broker {
            Some(broker) => {
                let topic = topic(subject.name);
                kafka::create_ordered(broker, &[&topic]).await?;
                Some(Reader::open(broker, subject.name, &[&topic]).await?)
            }
            None => None,
        };
        let task = Task {
            title: SERVICE,
            image: "maxwell",
            container: container(subject),
            command: vec!["maxwell".to_owned(), format!("--config={SETTINGS}")],
            file: (SETTINGS, settings(subject, endpoint, broker.as_ref(), options)),
            is_ready: "Binlog connected.",
            ready_within: READY_WITHIN,
            memory_mb: MEMORY_MB,
        };
        let worker = Worker::start(subject.stack, task).await?;
        let mut subscription = Self {
            worker,
            source: endpoint.clone(),
            lease: subject.database.to_owned(),
            reader,
            decoder,
            ready: VecDeque::new(),
            to_read: BTreeSet::new(),
            is_stopped: false,
        };
        if options.snapshot == SnapshotMode::Initial {
            subscription.to_read = shapes.into_keys().collect();
            subscription.read_existing(&mut conn, subject).await?;
        }
        Ok(subscription)
    }

    /// Has it read all rows of the tables, as `maxwell-bootstrap` does: by a row in a table of its own (its documentation,
    /// "Bootstrapping"). It goes on telling changes meanwhile.
    async fn read_existing(&mut self, conn: &mut Conn, subject: Subject<'_>) -> Result<()> {
        let client = quote(subject.database);
        for table in &self.to_read {
            let (database, name) = (mysql::database_of(subject.database, table.schema()), quote(table.name()));
            let ask = format!(
                "INSERT INTO {}.bootstrap (database_name, table_name, client_id) VALUES ({}, {name}, {client})",
                own_database(subject),
                quote(&database)
            );
            conn.query_drop(ask).await.while_doing(SERVICE, format!("have the table {table} read"))?;
        }
        while !self.to_read.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    /// Waits for the next line, or record, and takes it.
    async fn read(&mut self) -> Result<()> {
        let line = match &mut self.reader {
            None => Some(self.worker.line().await?),
            Some(reader) => tokio::select! {
                record = reader.next() => {
                    let text = record?.payload().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                    return self.take(&text);
                }
                line = self.worker.line() => Some(line?),
            },
        };
        match line {
            Some(Line::Output(line)) => self.take(&line),
            Some(Line::Error(line)) if line.contains(LOST_ITS_WAY) => {
                let cause = format!("it has written to its log: {line}");
                Err(self.worker.explain(Error::new(SERVICE, "make sense of the log", cause)))
            }
            Some(Line::End) => self.start_again().await,
            _ => Ok(()),
        }
    }

    async fn start_again(&mut self) -> Result<()> {
        if self.worker.last_words().contains(PASSING_FAILURE) {
            return self.worker.restart().await;
        }
        Err(self.worker.explain(Error::new(SERVICE, "go on", "it has ended")))
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let told = self.decoder.read(line);
        match told.map_err(|cause| Error::new(SERVICE, format!("read its line {line}"), cause))? {
            Told::Change(change) => self.ready.push_back(*change),
            Told::Bootstrapped(table) => {
                self.to_read.remove(&table);
            }
            Told::Nothing => {}
        }
        Ok(())
    }
}

fn topic(name: &str) -> String {
    format!("{name}.changes")
}

/// Its settings: what the capture needs, and those asked for over them.
fn settings(subject: Subject<'_>, source: &Endpoint, broker: Option<&Endpoint>, options: &Options) -> String {
    let lease = subject.database;
    let (server_id, ..) = uuid::Uuid::new_v4().as_fields();
    let mut settings = vec![
        ("producer", if broker.is_some() { "kafka" } else { "stdout" }.to_owned()),
        ("host", source.container.clone()),
        ("user", lease.to_owned()),
        ("password", source.password.clone()),
        ("client_id", lease.to_owned()),
        ("replica_server_id", (server_id >> 1).to_string()),
        ("schema_database", own_database(subject)),
        ("filter", format!("exclude: *.*, include: /^{lease}(_.*)?$/.*")),
        ("output_ddl", "true".to_owned()),
        ("output_binlog_position", "true".to_owned()),
        ("output_primary_key_columns", "true".to_owned()),
        // Its own tables are made in `utf8`, which it can't read itself where that is utf8mb3.
        ("jdbc_options", "sessionVariables=old_mode=''".to_owned()),
    ];
    if let Some(broker) = broker {
        settings.extend([
            ("kafka_topic", topic(subject.name)),
            ("kafka.bootstrap.servers", format!("{}:19092", broker.container)),
            ("kafka.security.protocol", "SASL_PLAINTEXT".to_owned()),
            ("kafka.sasl.mechanism", "PLAIN".to_owned()),
            ("kafka.sasl.jaas.config", format!("{};", jaas_login(&broker.password))),
        ]);
    }
    let asked = options.settings.iter().filter(|(name, _)| *name != "producer");
    let settings = settings.into_iter().chain(asked.map(|(name, value)| (name.as_str(), value.clone())));
    settings.map(|(name, value)| [name, "=", &value, "\n"].concat()).collect()
}

#[async_trait]
impl Subscription for MaxwellSubscription {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if self.is_stopped && self.reader.is_none() {
                return Err(Error::new(SERVICE, "deliver the next change", "the capture is stopped"));
            }
            self.read().await?;
        }
    }

    fn waiting_for(&self) -> String {
        format!("it waits for Maxwell's next line; to its log it has written\n{}", self.worker.last_words())
    }

    /// It notes where it stands as it ends.
    async fn stop(&mut self) -> Result<()> {
        self.is_stopped = true;
        for line in self.worker.stop().await? {
            self.take(&line)?;
        }
        mysql::hang_up(&self.source, &self.lease).await
    }

    async fn resume(&mut self) -> Result<()> {
        self.is_stopped = false;
        self.worker.restart().await
    }
}
