//! Maxwell at work in a container: started, read, stopped, and started again.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use rdkafka::Message;
use tokio::time::{Instant, timeout};

use super::{
    SERVICE,
    daemon::{Daemon, LOST_ITS_WAY, READS_NO_ROWS},
    end_of_log,
    line::{Decoder, Told},
};
use crate::{
    capture::{Options, SnapshotMode, Subject, Subscription},
    change::Change,
    error::{Context, Error, Result},
    kafka::{self, Reader},
    looking::COMES_BACK_WITHIN,
    mysql::{self, Conn, quote},
    schema::TableName,
    stack::{Endpoint, Line, Service, Worker},
};

/// What it writes when it has lost its server, and ends: whoever runs it starts it again.
const PASSING_FAILURES: [&str; 2] = ["Communications link failure", "Failed to connect to MySQL"];

/// How long it may say nothing while it reads the rows that exist.
const READS_ON_WITHIN: Duration = Duration::from_secs(60);

/// A capture by Maxwell.
pub(super) struct MaxwellSubscription {
    worker: Worker,
    source: Endpoint,
    /// The user that Maxwell is to the server.
    user: String,
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
        let is_to_kafka = options.settings.get("producer").is_some_and(|producer| producer == "kafka");
        let topic = format!("{}.changes", subject.name);
        let broker = if is_to_kafka { Some(subject.stack.also(Service::Kafka).await?) } else { None };
        let reader = match &broker {
            Some(broker) => {
                kafka::create_ordered(broker, &[&topic]).await?;
                Some(Reader::open(broker, subject.name, &[&topic]).await?)
            }
            None => None,
        };
        let daemon = Daemon::of(subject, options, broker.as_ref().map(|broker| (broker, topic.as_str())))?;
        let worker = daemon.at_work().await?;
        let since = end_of_log(&mut conn).await?;
        let shapes = mysql::shapes(&mut conn, subject.database).await?;
        let mut subscription = Self {
            worker,
            source: endpoint.clone(),
            user: daemon.user.clone(),
            reader,
            decoder: Decoder::new(subject.database, since, &shapes),
            ready: VecDeque::new(),
            to_read: BTreeSet::new(),
            is_stopped: false,
        };
        if options.snapshot == SnapshotMode::Initial {
            subscription.to_read = shapes.into_keys().collect();
            subscription.read_existing(&mut conn, subject, &daemon.database).await?;
        }
        Ok(subscription)
    }

    /// Has it read all rows of the tables, as `maxwell-bootstrap` does: by a row in a table of its own (its documentation,
    /// "Bootstrapping"). It goes on telling changes meanwhile.
    async fn read_existing(&mut self, conn: &mut Conn, subject: Subject<'_>, its_database: &str) -> Result<()> {
        let client = quote(&self.user);
        for table in &self.to_read {
            let (database, name) = (mysql::database_of(subject.database, table.schema()), quote(table.name()));
            let ask = format!(
                "INSERT INTO {its_database}.bootstrap (database_name, table_name, client_id) VALUES ({}, {name}, {client})",
                quote(&database)
            );
            conn.query_drop(ask).await.while_doing(SERVICE, format!("have the table {table} read"))?;
        }
        while !self.to_read.is_empty() {
            let Ok(read) = timeout(READS_ON_WITHIN, self.read()).await else {
                let seen = format!("nothing came for {} s", READS_ON_WITHIN.as_secs());
                return Err(self.worker.explain(Error::new(SERVICE, "read what there is already", seen)));
            };
            read?;
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
            Some(Line::Error(line)) if line.contains(READS_NO_ROWS) && !self.to_read.is_empty() => {
                let cause = "the thread that reads them has ended, and nothing else";
                Err(self.worker.explain(Error::new(SERVICE, "read what there is already", cause)))
            }
            Some(Line::End) => self.start_again().await,
            _ => Ok(()),
        }
    }

    async fn start_again(&mut self) -> Result<()> {
        let until = Instant::now() + COMES_BACK_WITHIN;
        while self.has_lost_its_server() {
            match self.worker.restart().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                // While the server is away it ends as soon as it has begun.
                Err(_) => {}
            }
        }
        Err(self.worker.explain(Error::new(SERVICE, "go on", "it has ended")))
    }

    fn has_lost_its_server(&self) -> bool {
        let last_words = self.worker.last_words();
        PASSING_FAILURES.iter().any(|failure| last_words.contains(failure))
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
        mysql::hang_up(&self.source, &self.user).await
    }

    async fn resume(&mut self) -> Result<()> {
        self.is_stopped = false;
        self.worker.restart().await
    }
}
