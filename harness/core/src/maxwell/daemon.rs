//! The program: whom it is known as, what it is told, and where it runs.
//!
//! It reads the log of a whole server, and starting it costs more than most captures. Whoever has a server alone finds the one that the
//! server's last user has left at work, which has followed all that was done since.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::timeout;

use super::{SERVICE, container, own_database};
use crate::{
    capture::{Options, Subject},
    error::{Context, Result},
    mysql::{self, DAEMON, RIGHTS, quote},
    source::HARNESS_SCHEMA,
    stack::{Endpoint, Line, Service, Stack, Task, USER, Worker, docker, jaas_login},
};

/// Where it finds its settings.
const SETTINGS: &str = "/etc/maxwell.properties";

const READY_WITHIN: Duration = Duration::from_secs(90);

/// How long one that is at work may take to come to the end of the log.
const COMES_WITHIN: Duration = Duration::from_secs(20);

/// The memory that its container may use, in MiB.
const MEMORY_MB: u32 = 512;

/// What it writes when it can't make sense of the log, and goes on without a word to its consumers.
pub(super) const LOST_ITS_WAY: &str = "Unknown event type";

/// What it writes when the thread that reads existing rows has ended, because its connection broke, or at a value that it can't read. That one is
/// gone for good, while the rest of it goes on: rows that it is asked to read later it never reads, without a word.
pub(super) const READS_NO_ROWS: &str = "BootstrapController.work(";

/// A Maxwell of a server.
pub(super) struct Daemon<'a> {
    stack: &'a Stack,
    lease: &'a str,
    server: &'a Endpoint,
    container: String,
    is_shared: bool,
    settings: String,
    /// The user that it is to the server, and how it calls itself there.
    pub(super) user: String,
    /// The database that it keeps its state in.
    pub(super) database: String,
}

impl<'a> Daemon<'a> {
    /// The one for a capture with these options, which writes to the broker if there is one: that of the server, if nobody else uses
    /// it and nothing is asked for that others don't have.
    pub(super) fn of(subject: Subject<'a>, options: &Options, broker: Option<(&Endpoint, &str)>) -> Result<Self> {
        let server = subject.stack.endpoint(Service::Mariadb)?;
        let is_shared = subject.stack.is_apart() && options.settings.is_empty();
        let (container, user, database) = if is_shared {
            (format!("{}-maxwell", server.container), DAEMON.to_owned(), DAEMON.to_owned())
        } else {
            (container(subject), subject.database.to_owned(), own_database(subject))
        };
        let settings = settings(&user, &database, server, broker, options);
        Ok(Self {
            stack: subject.stack,
            lease: subject.database,
            server,
            container,
            is_shared,
            settings,
            user,
            database,
        })
    }

    /// Finds it, or starts it.
    ///
    /// # Errors
    /// It ends, or doesn't get ready.
    pub(super) async fn at_work(&self) -> Result<Worker> {
        if !self.is_shared {
            return self.start().await;
        }
        let a_day = Duration::from_hours(24);
        let is_at_work = docker::is_running(&self.container).await?
            && !docker::has_written(&self.container, LOST_ITS_WAY, a_day).await?
            && !docker::has_written(&self.container, READS_NO_ROWS, a_day).await?;
        if is_at_work
            && !self.follows_otherwise().await?
            && let Some(worker) = self.left_by_another().await?
        {
            return Ok(worker);
        }
        docker::remove_container(&self.container).await?;
        self.prepare().await?;
        self.start().await
    }

    async fn start(&self) -> Result<Worker> {
        let task = Task {
            title: SERVICE,
            image: "maxwell",
            container: self.container.clone(),
            command: vec!["maxwell".to_owned(), format!("--config={SETTINGS}")],
            file: (SETTINGS, self.settings.clone()),
            is_ready: "Binlog connected.",
            ready_within: READY_WITHIN,
            memory_mb: MEMORY_MB,
            is_shared: self.is_shared,
        };
        Worker::start(self.stack, task).await
    }

    /// Whether it knows a table as its definition told it that the catalogue tells of otherwise: a document, which MariaDB stores as a text,
    /// ends who takes it for what MySQL stores.
    async fn follows_otherwise(&self) -> Result<bool> {
        let documents = format!(
            "SELECT COUNT(*) FROM information_schema.check_constraints \
             WHERE constraint_schema LIKE '{}%' AND check_clause LIKE 'json_valid%'",
            self.lease
        );
        let mut admin = mysql::open(self.server, USER, None).await?;
        let documents: Option<u64> =
            admin.query_first(documents).await.while_doing(SERVICE, "look for columns with documents")?;
        Ok(documents != Some(0))
    }

    /// The one that is at work, once it has told of what was just done; none if it ends before, or doesn't come to it.
    async fn left_by_another(&self) -> Result<Option<Worker>> {
        let mut worker = self.start().await?;
        let (database, table) = (mysql::database_of(self.lease, HARNESS_SCHEMA), mysql::FENCE);
        let mut admin = mysql::open(self.server, USER, None).await?;
        for statement in [
            format!("INSERT INTO {database}.{table} (id) VALUES (-1)"),
            format!("DELETE FROM {database}.{table} WHERE id = -1"),
        ] {
            admin.query_drop(statement).await.while_doing(SERVICE, "write what it has to tell")?;
        }
        let database = format!(r#""database":"{database}""#);
        let comes = async {
            loop {
                match worker.line().await? {
                    Line::Output(line) if line.contains(&database) && line.contains(r#""type":"delete""#) => {
                        return Ok(true);
                    }
                    Line::End => return Ok(false),
                    _ => {}
                }
            }
        };
        match timeout(COMES_WITHIN, comes).await {
            Ok(Ok(true)) => Ok(Some(worker)),
            Ok(Err(error)) => Err(error),
            Ok(Ok(false)) | Err(_) => Ok(None),
        }
    }

    /// Makes its user (its documentation, "Quick Start"), and has it begin at the end of the log.
    async fn prepare(&self) -> Result<()> {
        let mut admin = mysql::open(self.server, USER, None).await?;
        let (user, database, password) = (&self.user, &self.database, quote(&self.server.password));
        for statement in [
            format!("DROP DATABASE IF EXISTS {database}"),
            format!("CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY {password}"),
            format!("GRANT {RIGHTS} ON *.* TO {user}@'%'"),
            format!("GRANT ALL ON {database}.* TO {user}@'%'"),
        ] {
            admin.query_drop(statement).await.while_doing(SERVICE, "give it a user and a database")?;
        }
        Ok(())
    }
}

/// Its settings: what the capture needs, and those asked for over them.
fn settings(
    user: &str,
    database: &str,
    server: &Endpoint,
    broker: Option<(&Endpoint, &str)>,
    options: &Options,
) -> String {
    let (server_id, ..) = uuid::Uuid::new_v4().as_fields();
    let mut settings = vec![
        ("producer", if broker.is_some() { "kafka" } else { "stdout" }.to_owned()),
        ("host", server.container.clone()),
        ("user", user.to_owned()),
        ("password", server.password.clone()),
        ("client_id", user.to_owned()),
        ("replica_server_id", (server_id >> 1).to_string()),
        ("schema_database", database.to_owned()),
        ("filter", "exclude: *.*, include: /^cp_.*$/.*".to_owned()),
        ("output_ddl", "true".to_owned()),
        ("output_binlog_position", "true".to_owned()),
        ("output_primary_key_columns", "true".to_owned()),
        // Its own tables are made in `utf8`, which it can't read itself where that is utf8mb3.
        ("jdbc_options", "sessionVariables=old_mode=''".to_owned()),
    ];
    if let Some((broker, topic)) = broker {
        settings.extend([
            ("kafka_topic", topic.to_owned()),
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
