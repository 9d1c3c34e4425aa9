//! The services: what each one is, once, and how it is found.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    State, docker, image,
    start::{IS_BRIEF, jaas_login, started},
};
use crate::error::{Error, Result};

/// The user that every service knows; the password is made anew at each start of a service.
pub(crate) const USER: &str = "changeproof";

/// The bucket that MinIO has from its start.
pub const BUCKET: &str = "changeproof";

/// Where the registry speaks Confluent's interface.
pub(crate) const CONFLUENT_PATH: &str = "apis/ccompat/v7";

/// The folder of PostgreSQL's container that is kept in memory.
pub(crate) const MEMORY_DIR: &str = "/var/lib/changeproof";

/// The size of PostgreSQL's folder in memory, in MiB. It counts towards the container's own.
pub const MEMORY_MB: u32 = 128;

/// A service that scenarios lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// PostgreSQL with `wal_level=logical`.
    Postgres,
    /// MySQL with a binary log of rows and global transaction identifiers.
    Mysql,
    /// MariaDB with a binary log of rows.
    Mariadb,
    /// A single Kafka broker in KRaft mode.
    Kafka,
    /// Kafka Connect with Debezium's plugins. Needs Kafka.
    Connect,
    /// Object storage that speaks S3, with the bucket [`BUCKET`].
    Minio,
    /// Iceberg's REST catalog, over that bucket. Needs MinIO.
    #[serde(rename = "iceberg-rest")]
    IcebergRest,
    /// Spark with the streaming pipelines of `images/spark`, on that catalog. Needs Iceberg's REST catalog.
    Spark,
    /// A schema registry that speaks Confluent's interface.
    Registry,
}

/// What a service is.
pub(super) struct Definition {
    title: &'static str,
    name: &'static str,
    image: &'static str,
    pub(super) port: u16,
    memory_mb: u32,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Mysql,
        Self::Mariadb,
        Self::Kafka,
        Self::Connect,
        Self::Minio,
        Self::IcebergRest,
        Self::Spark,
        Self::Registry,
    ];

    pub(super) fn definition(self) -> Definition {
        let (title, name, image, port, memory_mb) = match self {
            Self::Postgres => ("PostgreSQL", "postgres", "postgres", 5432, 512),
            Self::Mysql => ("MySQL", "mysql", "mysql", 3306, 512),
            Self::Mariadb => ("MariaDB", "mariadb", "mariadb", 3306, 512),
            Self::Kafka => ("Kafka", "kafka", "kafka", 9092, 2048),
            Self::Connect => ("Kafka Connect", "connect", "kafka", 8083, 1024),
            Self::Minio => ("MinIO", "minio", "minio", 9000, 512),
            Self::IcebergRest => ("Iceberg's REST catalog", "iceberg-rest", "iceberg-rest", 8181, 512),
            Self::Spark => ("Spark", "spark", "spark", 8998, 2048),
            Self::Registry => ("the schema registry", "registry", "registry", 8080, 512),
        };
        Definition { title, name, image, port, memory_mb }
    }

    /// The name people know it by.
    pub fn title(self) -> &'static str {
        self.definition().title
    }

    /// The name it goes by in commands and containers.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The image it runs on, a folder of `images/`.
    pub fn image(self) -> &'static str {
        self.definition().image
    }

    /// The memory that its container may use, in MiB.
    pub fn memory_mb(self) -> u32 {
        self.definition().memory_mb
    }

    fn container(self, state: &State) -> String {
        format!("changeproof-{}-{}", state.id(), self.name())
    }
}

/// How to reach a running service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The container's name, which is also its host name in the stack's network.
    pub container: String,
    /// The image it runs on.
    pub image: String,
    /// The port on this machine, published on 127.0.0.1 only.
    pub port: u16,
    /// The password of [`USER`].
    pub password: String,
    /// The folder on this machine where PostgreSQL makes its Unix socket.
    #[serde(default)]
    pub(super) sockets: Option<PathBuf>,
    /// Whether it was started to live for minutes, and nothing is to be measured on it.
    #[serde(default)]
    pub(super) is_brief: bool,
}

impl Endpoint {
    /// Whether the running service is what is wanted: the image, and one that is compiled to its end if something is measured on it.
    fn check_use(&self, service: Service, wanted: &str, to_test: bool) -> Result<()> {
        let (doing, seen) = if self.image != wanted {
            (format!("use {wanted}"), format!("it is running on {}", self.image))
        } else if self.is_brief && !to_test {
            ("use it at its full speed".to_owned(), "it was started for tests, and never optimises its code".to_owned())
        } else {
            return Ok(());
        };
        let help = "`cdc down` removes what is running, once no other run uses it";
        Err(Error::new(service.title(), doing, seen).help(help))
    }

    /// The address on this machine, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// PostgreSQL's Unix socket, if the engine shares its files with this machine; one in a virtual machine doesn't.
    pub fn unix_socket(&self) -> Option<PathBuf> {
        let socket = self.sockets.as_ref()?.join(format!(".s.PGSQL.{}", Service::Postgres.definition().port));
        socket.exists().then_some(socket)
    }

    /// What a client in another container needs to reach Kafka, by the names of Kafka's own settings.
    pub fn kafka_client(&self) -> [(&'static str, String); 4] {
        [
            ("bootstrap.servers", format!("{}:19092", self.container)),
            ("security.protocol", "SASL_PLAINTEXT".to_owned()),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.jaas.config", format!("{};", jaas_login(&self.password))),
        ]
    }

    /// What a client in another container needs to reach the REST catalog that this is, and its tables in MinIO, by the names of Iceberg's
    /// own settings.
    pub fn iceberg_client(&self, minio: &Self) -> [(&'static str, String); 8] {
        [
            ("type", "rest".to_owned()),
            ("uri", format!("http://{}:8181", self.container)),
            ("io-impl", "org.apache.iceberg.aws.s3.S3FileIO".to_owned()),
            ("s3.endpoint", format!("http://{}:9000", minio.container)),
            ("s3.path-style-access", "true".to_owned()),
            ("s3.access-key-id", USER.to_owned()),
            ("s3.secret-access-key", minio.password.clone()),
            ("client.region", "us-east-1".to_owned()),
        ]
    }

    /// The connection string of a database of PostgreSQL.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@{}/{database}", self.password, self.address())
    }

    /// The user that the service knows.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// How a person reaches the service.
    pub fn describe(&self, service: Service) -> String {
        let (address, password) = (self.address(), &self.password);
        match service {
            Service::Postgres => self.url(USER),
            Service::Mysql | Service::Mariadb => format!("mysql://{USER}:{password}@{address}"),
            Service::Kafka => {
                format!("{address}  (SASL_PLAINTEXT, PLAIN, user {USER}, password {password})")
            }
            Service::Connect => format!("http://{USER}:{password}@{address}"),
            Service::Minio => format!("http://{address}  (access key {USER}, secret key {password}, bucket {BUCKET})"),
            Service::IcebergRest => format!("http://{address}"),
            Service::Registry => format!("http://{address}/{CONFLUENT_PATH}"),
            Service::Spark => format!("http://{address}/pipelines  (Authorization: Bearer {password})"),
        }
    }
}

/// Whether a service was started on an image that has changed since.
pub(crate) async fn is_outdated(service: Service, state: &State) -> Result<bool> {
    let Some(found) = state.read::<Endpoint>(&format!("{}.json", service.name())) else {
        return Ok(false);
    };
    Ok(found.image != image::tag_of(service.image()).await?)
}

/// Finds the service running, or starts it.
pub(crate) async fn ensure(service: Service, state: &State) -> Result<Endpoint> {
    let record = format!("{}.json", service.name());
    if let Some(found) = running(service, state, &record).await? {
        return Ok(found);
    }
    let image = image::ensure(service.image()).await?;
    let lock = format!("{}.lock", service.name());
    let lock = state.lock(&lock, service.title(), "wait for its start by another process").await?;
    if let Some(found) = running(service, state, &record).await? {
        return Ok(found);
    }
    let container = service.container(state);
    state.starting(service.name(), true)?;
    // Who comes meanwhile finds a container of this name running, and must not take the record of the one before it for its own.
    state.remove(&record)?;
    docker::remove_container(&container).await?;
    let endpoint = started(service, state, container, image).await?;
    state.write(&record, &endpoint)?;
    state.starting(service.name(), false)?;
    drop(lock);
    Ok(endpoint)
}

/// Finds the service running, if it does.
pub(crate) async fn find(service: Service, state: &State) -> Result<Option<Endpoint>> {
    running(service, state, &format!("{}.json", service.name())).await
}

/// How the records of servers are called that wait for the next one who needs a server for itself.
const SECLUDED_ENDING: &str = ".secluded.json";

/// A server for one user at a time: one that another has left, or a new one. Nobody else finds it until it is left again.
pub(crate) async fn take_secluded(service: Service, state: &State) -> Result<Endpoint> {
    let lock = format!("{}.secluded.lock", service.name());
    let lock = state.lock(&lock, service.title(), "wait for another process that looks for a server").await?;
    let mine = format!("{}-", service.container(state));
    for record in state.files(SECLUDED_ENDING)?.into_iter().filter(|record| record.starts_with(&mine)) {
        let left = state.read::<Endpoint>(&record);
        // From here on it is known to its taker alone: what a killed process has used is used by nobody after it.
        state.remove(&record)?;
        let Some(left) = left else { continue };
        if left.image == image::tag_of(service.image()).await? && docker::is_running(&left.container).await? {
            return Ok(left);
        }
        docker::remove_with_company(&left.container).await?;
    }
    drop(lock);
    start_apart(service, state).await
}

/// Leaves a server to the next one who needs one for itself.
pub(crate) fn leave_secluded(endpoint: &Endpoint, state: &State) -> Result<()> {
    state.write(&format!("{}{SECLUDED_ENDING}", endpoint.container), endpoint)
}

/// Starts another container of the service, which no record tells of, so that no other process finds it.
pub(crate) async fn start_apart(service: Service, state: &State) -> Result<Endpoint> {
    let image = image::ensure(service.image()).await?;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let container = format!("{}-{}", service.container(state), &id[..10]);
    state.starting(&container, true)?;
    let endpoint = started(service, state, container.clone(), image).await?;
    state.starting(&container, false)?;
    Ok(endpoint)
}

async fn running(service: Service, state: &State, record: &str) -> Result<Option<Endpoint>> {
    let Some(found) = state.read::<Endpoint>(record) else {
        return Ok(None);
    };
    if !docker::is_running(&found.container).await? {
        return Ok(None);
    }
    let wanted = image::tag_of(service.image()).await?;
    found.check_use(service, &wanted, IS_BRIEF).map(|()| Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_have_started_serves_tests_alone_and_what_is_measured_serves_both() {
        let of = |is_brief| {
            let (container, image, password) = ("kafka".to_owned(), "kafka:1".to_owned(), String::new());
            Endpoint { container, image, port: 1, password, sockets: None, is_brief }
        };
        let is_of_use =
            |started_for_tests, to_test| of(started_for_tests).check_use(Service::Kafka, "kafka:1", to_test).is_ok();
        assert!(is_of_use(true, true));
        assert!(is_of_use(false, true));
        assert!(is_of_use(false, false));
        assert!(!is_of_use(true, false));
        assert!(of(true).check_use(Service::Kafka, "kafka:2", true).is_err(), "another image");
    }
}
