//! How each service is started: through testcontainers, as a container that stays when this process ends.

use std::{
    collections::HashMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use testcontainers_modules::{
    postgres::Postgres,
    testcontainers::{
        ContainerAsync, ContainerRequest, GenericImage, Image, ImageExt, TestcontainersError,
        bollard::models::PortBinding,
        core::{ContainerPort, WaitFor},
        runners::AsyncRunner,
    },
};

use super::{
    State, docker,
    service::{BUCKET, CONFLUENT_PATH, Endpoint, MEMORY_DIR, MEMORY_MB, Service, USER, ensure},
};
use crate::{
    error::{Context, Error, Result},
    http, mysql,
};

/// How often a port is chosen that somebody else takes before the container has it.
const PORT_ATTEMPTS: u32 = 5;

/// How long a service may take from the start of its container until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Whether services are to live for minutes: those of tests. What is built to be measured is built without debug assertions.
pub(super) const IS_BRIEF: bool = cfg!(debug_assertions);

/// In minutes the optimising compiler takes a quarter of all the time that Kafka, Connect and Spark use, and what it makes doesn't give
/// that back.
const QUICKLY_COMPILED: &str = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// Of a few rows Spark interprets a plan in less time than it compiles it in.
const INTERPRETED: [&str; 2] = ["spark.sql.codegen.wholeStage=false", "spark.sql.codegen.factoryMode=NO_CODEGEN"];

/// How long a pipeline of Spark's that has found nothing in its topics waits until it looks again. By default it looks up to a hundred
/// times a second, in Kafka's time as in its own.
const SPARK_ASKS_AGAIN_MS: u32 = 100;

/// The heap of Spark's driver. Beside it the JVM and Python need about 700 MiB.
const SPARK_HEAP_MB: u32 = 1200;

/// The folder of PostgreSQL's container where it makes its Unix socket.
const SOCKETS_DIR: &str = "/var/run/postgresql";

/// Starts a container of the service, and waits until it is ready.
pub(super) async fn started(service: Service, state: &State, container: String, image: String) -> Result<Endpoint> {
    let password = uuid::Uuid::new_v4().simple().to_string();
    let sockets = match service {
        Service::Postgres => Some(state.shared_folder(&container)?),
        _ => None,
    };
    let mut endpoint = Endpoint { container, image, port: 0, password, sockets, is_brief: IS_BRIEF };
    endpoint.port = match service {
        Service::Postgres => start_postgres(state, &endpoint).await?,
        Service::Mysql | Service::Mariadb => start_mysql(service, state, &endpoint).await?,
        Service::Kafka => start_kafka(state, &endpoint).await?,
        Service::Connect => start_connect(state, &endpoint).await?,
        Service::Minio => start_minio(state, &endpoint).await?,
        Service::IcebergRest => start_iceberg_rest(state, &endpoint).await?,
        Service::Spark => start_spark(state, &endpoint).await?,
        Service::Registry => start_registry(state, &endpoint).await?,
    };
    Ok(endpoint)
}

async fn start_postgres(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let postgres = Postgres::default().with_user(USER).with_db_name(USER);
    let postgres = postgres.with_password(&endpoint.password);
    let (name, tag) = split_tag(&endpoint.image);
    // The project's own image has these as its defaults; another of the same contract need not.
    let settings = [
        "fsync=off",
        "wal_level=logical",
        "max_connections=200",
        "max_replication_slots=64",
        "max_wal_senders=64",
        "max_prepared_transactions=16",
    ];
    let arguments = settings.iter().flat_map(|setting| ["-c", *setting]);
    let request = |_| postgres.clone().with_name(name).with_tag(tag).with_cmd(arguments.clone());
    start(Service::Postgres, state, endpoint, request).await
}

async fn start_mysql(service: Service, state: &State, endpoint: &Endpoint) -> Result<u16> {
    // The project's own images have these as their defaults; others of the same contract need not.
    let common = [
        "--server-id=1",
        "--log-bin=binlog",
        "--binlog-row-metadata=FULL",
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M",
        "--performance-schema=OFF",
        "--max-connections=300",
    ];
    let own: &[&str] = match service {
        Service::Mariadb => &["--binlog-format=ROW", "--gtid-strict-mode=ON", "--binlog-annotate-row-events=OFF"],
        _ => &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"],
    };
    let (name, tag) = split_tag(&endpoint.image);
    let request = |_| {
        GenericImage::new(name, tag)
            .with_env_var("MYSQL_ROOT_PASSWORD", &endpoint.password)
            .with_env_var("MYSQL_USER", USER)
            .with_env_var("MYSQL_PASSWORD", &endpoint.password)
            .with_env_var("MYSQL_DATABASE", USER)
            .with_cmd(common.iter().chain(own).copied())
    };
    let port = start(service, state, endpoint, request).await?;
    let endpoint = Endpoint { port, ..endpoint.clone() };
    until_it_answers(&endpoint.container, || mysql::give_rights(&endpoint)).await?;
    Ok(port)
}

/// Shuts a server down in order, starts it again at the same address, and returns what has come of the first question that it answers.
///
/// # Errors
/// It doesn't end, or doesn't answer within 90 s: with the end of its log.
pub(crate) async fn restarted<T, F>(container: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    docker::shut_down(container).await?;
    docker::start_again(container).await?;
    until_it_answers(container, ask).await
}

/// Asks a server until it answers. (MySQL's official image starts one without a network first, to set it up.)
pub(crate) async fn until_it_answers<T, F>(container: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline || !docker::is_running(container).await? => {
                return Err(error.log(docker::log_tail(container).await));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn start_kafka(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let jaas = format!("{} user_{USER}=\"{}\";", jaas_login(&endpoint.password), endpoint.password);
    let protocols = "CONTROLLER:PLAINTEXT,EXTERNAL:SASL_PLAINTEXT,INTERNAL:SASL_PLAINTEXT";
    let listeners = "EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://localhost:9093";
    let request = |port: u16| {
        // A broker tells its clients the address to come back to, so its port has to be known before it starts.
        let advertised = format!("EXTERNAL://127.0.0.1:{port},INTERNAL://{}:19092", endpoint.container);
        plain_image(endpoint, "broker")
            .with_env_var("KAFKA_LISTENERS", listeners)
            .with_env_var("KAFKA_ADVERTISED_LISTENERS", advertised)
            .with_env_var("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", protocols)
            .with_env_var("KAFKA_INTER_BROKER_LISTENER_NAME", "INTERNAL")
            .with_env_var("KAFKA_SASL_ENABLED_MECHANISMS", "PLAIN")
            .with_env_var("KAFKA_SASL_MECHANISM_INTER_BROKER_PROTOCOL", "PLAIN")
            .with_env_var("KAFKA_LISTENER_NAME_EXTERNAL_PLAIN_SASL_JAAS_CONFIG", &jaas)
            .with_env_var("KAFKA_LISTENER_NAME_INTERNAL_PLAIN_SASL_JAAS_CONFIG", &jaas)
    };
    start(Service::Kafka, state, endpoint, request).await
}

/// Somebody took the port between the look for a free one and the container's start.
fn is_port_taken(error: &Error) -> bool {
    let told = error.to_string();
    ["port is already allocated", "address already in use"].iter().any(|words| told.contains(words))
}

async fn start_connect(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let kafka = Box::pin(ensure(Service::Kafka, state)).await?;
    let jaas = format!("{};", jaas_login(&kafka.password));
    let request = |_| {
        let request = plain_image(endpoint, "connect")
            .with_env_var("CONNECT_BOOTSTRAP_SERVERS", format!("{}:19092", kafka.container))
            .with_env_var("CONNECT_REST_ADVERTISED_HOST_NAME", &endpoint.container)
            .with_env_var("CONNECT_REST_USER", USER)
            .with_env_var("CONNECT_REST_PASSWORD", &endpoint.password);
        ["", "PRODUCER_", "CONSUMER_", "ADMIN_"].iter().fold(request, |request, client| {
            request
                .with_env_var(format!("CONNECT_{client}SECURITY_PROTOCOL"), "SASL_PLAINTEXT")
                .with_env_var(format!("CONNECT_{client}SASL_MECHANISM"), "PLAIN")
                .with_env_var(format!("CONNECT_{client}SASL_JAAS_CONFIG"), &jaas)
        })
    };
    let port = start(Service::Connect, state, endpoint, request).await?;
    // Its REST server answers before the worker has joined its group; only then does it list connectors.
    wait_until_it_answers(Service::Connect, endpoint, port, "connectors").await?;
    Ok(port)
}

async fn start_minio(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let (name, tag) = split_tag(&endpoint.image);
    // A folder that is there before the server starts is a bucket of it, on a single drive.
    let make_and_serve = format!("mkdir -p /data/{BUCKET} && exec minio server /data");
    let request = |_| {
        GenericImage::new(name, tag)
            .with_entrypoint("sh")
            .with_cmd(["-c", make_and_serve.as_str()])
            .with_env_var("MINIO_ROOT_USER", USER)
            .with_env_var("MINIO_ROOT_PASSWORD", &endpoint.password)
    };
    let port = start(Service::Minio, state, endpoint, request).await?;
    wait_until_it_answers(Service::Minio, endpoint, port, "minio/health/ready").await?;
    Ok(port)
}

async fn start_iceberg_rest(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let minio = Box::pin(ensure(Service::Minio, state)).await?;
    let (name, tag) = split_tag(&endpoint.image);
    let request = |_| {
        GenericImage::new(name, tag)
            .with_env_var("CATALOG_WAREHOUSE", format!("s3://{BUCKET}/"))
            .with_env_var("CATALOG_IO__IMPL", "org.apache.iceberg.aws.s3.S3FileIO")
            .with_env_var("CATALOG_S3_ENDPOINT", format!("http://{}:9000", minio.container))
            .with_env_var("CATALOG_S3_PATH__STYLE__ACCESS", "true")
            .with_env_var("AWS_REGION", "us-east-1")
            .with_env_var("AWS_ACCESS_KEY_ID", USER)
            .with_env_var("AWS_SECRET_ACCESS_KEY", &minio.password)
    };
    let port = start(Service::IcebergRest, state, endpoint, request).await?;
    wait_until_it_answers(Service::IcebergRest, endpoint, port, "v1/config").await?;
    Ok(port)
}

async fn start_registry(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let (name, tag) = split_tag(&endpoint.image);
    let port = start(Service::Registry, state, endpoint, |_| GenericImage::new(name, tag)).await?;
    wait_until_it_answers(Service::Registry, endpoint, port, &format!("{CONFLUENT_PATH}/subjects")).await?;
    Ok(port)
}

async fn start_spark(state: &State, endpoint: &Endpoint) -> Result<u16> {
    let rest = Box::pin(ensure(Service::IcebergRest, state)).await?;
    let minio = Box::pin(ensure(Service::Minio, state)).await?;
    let serve = "python3 -m changeproof_spark serve --host 0.0.0.0 --folder /var/lib/changeproof";
    let mut command: Vec<String> = serve.split(' ').map(str::to_owned).collect();
    command.extend(rest.iceberg_client(&minio).map(|(name, value)| format!("--catalog-option={name}={value}")));
    command.push(format!("--spark-option=spark.driver.memory={SPARK_HEAP_MB}m"));
    if IS_BRIEF {
        command.push(format!("--spark-option=spark.driver.defaultJavaOptions={QUICKLY_COMPILED}"));
        command.push(format!("--spark-option=spark.sql.streaming.pollingDelay={SPARK_ASKS_AGAIN_MS}ms"));
        command.extend(INTERPRETED.map(|setting| format!("--spark-option={setting}")));
    }
    let (name, tag) = split_tag(&endpoint.image);
    let request = |_| {
        GenericImage::new(name, tag).with_cmd(command.clone()).with_env_var("CHANGEPROOF_TOKEN", &endpoint.password)
    };
    let port = start(Service::Spark, state, endpoint, request).await?;
    wait_until_it_answers(Service::Spark, endpoint, port, "health").await?;
    Ok(port)
}

async fn wait_until_it_answers(service: Service, endpoint: &Endpoint, port: u16, path: &str) -> Result<()> {
    let client = http::plain_client();
    let url = format!("http://127.0.0.1:{port}/{path}");
    let deadline = Instant::now() + READY_WITHIN;
    let mut pause = Duration::from_millis(20);
    loop {
        let mut request = client.get(&url);
        if service == Service::Connect {
            request = request.basic_auth(USER, Some(&endpoint.password));
        }
        let seen = match request.timeout(Duration::from_secs(5)).send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => response.status().to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline || !docker::is_running(&endpoint.container).await? {
            return Err(Error::new(service.title(), format!("wait until it answers at /{path}"), seen)
                .log(docker::log_tail(&endpoint.container).await));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// How a client of Kafka logs in.
pub(crate) fn jaas_login(password: &str) -> String {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    format!("{module} required username=\"{USER}\" password=\"{password}\"")
}

fn plain_image(endpoint: &Endpoint, role: &str) -> ContainerRequest<GenericImage> {
    let (name, tag) = split_tag(&endpoint.image);
    let ready = match role {
        "broker" => WaitFor::message_on_stdout("Kafka Server started"),
        _ => WaitFor::Nothing,
    };
    let request = GenericImage::new(name, tag).with_wait_for(ready).with_cmd([role]);
    if IS_BRIEF { request.with_env_var("KAFKA_JVM_PERFORMANCE_OPTS", QUICKLY_COMPILED) } else { request }
}

/// Starts a container that stays when this process ends, and returns its port on this machine. It is chosen here and not by the engine,
/// which would choose another one when the container starts again.
async fn start<I: Image, R: Into<ContainerRequest<I>>>(
    service: Service,
    state: &State,
    endpoint: &Endpoint,
    request: impl Fn(u16) -> R,
) -> Result<u16> {
    for _ in 1..PORT_ATTEMPTS {
        let port = free_port()?;
        match start_at(service, state, endpoint, request(port), port).await {
            Err(error) if is_port_taken(&error) => docker::remove_container(&endpoint.container).await?,
            started => return started,
        }
    }
    let port = free_port()?;
    start_at(service, state, endpoint, request(port), port).await
}

async fn start_at<I: Image>(
    service: Service,
    state: &State,
    endpoint: &Endpoint,
    request: impl Into<ContainerRequest<I>>,
    host_port: u16,
) -> Result<u16> {
    let memory_bytes = i64::from(service.memory_mb()) << 20;
    let port = service.definition().port;
    let binds = endpoint.sockets.as_ref().map(|folder| vec![format!("{}:{SOCKETS_DIR}", folder.display())]);
    let request = request
        .into()
        .with_container_name(&endpoint.container)
        .with_hostname(&endpoint.container)
        .with_network(docker::network_name(state))
        .with_labels([(docker::LABEL, state.id())])
        .with_startup_timeout(READY_WITHIN)
        .with_host_config_modifier(move |host| {
            host.memory = Some(memory_bytes);
            host.memory_swap = Some(memory_bytes);
            host.publish_all_ports = Some(false);
            host.binds.clone_from(&binds);
            if service == Service::Postgres {
                // Writable by all, for the user that the server runs as differs from image to image.
                host.tmpfs = Some(HashMap::from([(MEMORY_DIR.to_owned(), format!("mode=1777,size={MEMORY_MB}m"))]));
            }
            let host_ip = Some("127.0.0.1".to_owned());
            let binding = PortBinding { host_ip, host_port: Some(host_port.to_string()) };
            host.port_bindings = Some(HashMap::from([(format!("{port}/tcp"), Some(vec![binding]))]));
        });
    let container = match AsyncRunner::start(request).await {
        Ok(container) => container,
        Err(error) => {
            let log = docker::log_tail(&endpoint.container).await;
            docker::remove_container(&endpoint.container).await?;
            return Err(explain(service, endpoint, &error).log(log));
        }
    };
    let published = published_port(&container, port).await;
    // The container is the stack's from here on: the guard removes it, not this process's end.
    std::mem::forget(container);
    published.while_doing(service.title(), "look up its port")
}

async fn published_port<I: Image>(container: &ContainerAsync<I>, port: u16) -> Result<u16, TestcontainersError> {
    container.get_host_port_ipv4(ContainerPort::Tcp(port)).await
}

fn explain(service: Service, endpoint: &Endpoint, error: &TestcontainersError) -> Error {
    let doing = format!("start {} on {}", endpoint.container, endpoint.image);
    let Err(explained) = Err::<(), _>(error).while_doing(service.title(), doing) else {
        return Error::new(service.title(), "start it", "unknown");
    };
    explained
}

pub(super) fn split_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

pub(crate) fn free_port() -> Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .while_doing("the stack", "find a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_off_and_ports_of_registries_are_not() {
        assert_eq!(split_tag("postgres:16"), ("postgres", "16"));
        assert_eq!(split_tag("registry:5000/postgres"), ("registry:5000/postgres", "latest"));
        assert_eq!(split_tag("registry:5000/postgres:16"), ("registry:5000/postgres", "16"));
    }
}
