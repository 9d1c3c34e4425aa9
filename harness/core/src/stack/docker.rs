//! What the engine is asked for beyond starting a container, by way of the client that testcontainers uses.

use std::{collections::HashMap, path::Path, time::Duration};

use futures_util::{Stream, StreamExt};
use testcontainers::{
    bollard::{
        Docker,
        container::LogOutput,
        errors::Error as EngineError,
        exec::StartExecResults,
        models::{ContainerCreateBody, ExecConfig, HostConfig, NetworkCreateRequest, PortBinding},
        query_parameters::{
            CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
            ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
            RenameContainerOptionsBuilder, StopContainerOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
};

use super::State;
use crate::{
    error::{Context, Error, Result},
    time::now_us,
};

const ENGINE: &str = "Docker";

/// The label that each container, network and volume of a [`State`] carries, with the state's id as its value.
pub const LABEL: &str = "io.changeproof.stack";

const LOG_LINES_TOLD: &str = "30";

/// How long a program may take to end in order, in seconds.
const ENDS_WITHIN_S: i32 = 60;

/// The exit code of a program that was killed: 128 and the signal's number.
const KILLED: i64 = 137;

/// The engine's client.
///
/// # Errors
/// No engine answers: says how to get one.
pub async fn engine() -> Result<Docker> {
    let missing = |cause: &dyn std::fmt::Display| {
        Error::new(ENGINE, "reach the engine", cause).help(
            "start Docker, or set DOCKER_HOST; scripts/engine installs and starts an engine on Debian as root, and \
             https://docs.docker.com/engine/install/ tells of every other system",
        )
    };
    let client = docker_client_instance().await.map_err(|error| missing(&error))?;
    let ping = tokio::time::timeout(Duration::from_secs(10), client.ping()).await;
    match ping {
        Ok(Ok(_)) => Ok(client),
        Ok(Err(error)) => Err(missing(&error)),
        Err(_) => Err(missing(&"it did not answer within 10 s")),
    }
}

/// The network that a state's containers share.
pub(crate) fn network_name(state: &State) -> String {
    format!("changeproof-{}", state.id())
}

pub(crate) async fn ensure_network(state: &State) -> Result<()> {
    let engine = engine().await?;
    let _lock = state.lock("network.lock", "the stack", "lock the network").await?;
    let name = network_name(state);
    match engine.inspect_network(&name, None).await {
        Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
            let labels = HashMap::from([(LABEL.to_owned(), state.id().to_owned())]);
            let request = NetworkCreateRequest { name, labels: Some(labels), ..Default::default() };
            let created = engine.create_network(request).await;
            created.map(drop).while_doing(ENGINE, "create the network")
        }
        found => found.map(drop).while_doing(ENGINE, "look for the network"),
    }
}

/// Whether a container is running.
pub(crate) async fn is_running(container: &str) -> Result<bool> {
    match engine().await?.inspect_container(container, None).await {
        Ok(found) => Ok(found.state.and_then(|state| state.running) == Some(true)),
        Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(error).while_doing(ENGINE, format!("inspect {container}")),
    }
}

/// Runs a command in a container, and returns what it wrote to standard output.
///
/// # Errors
/// It can't be run, or it failed: with what it wrote to standard error.
pub async fn run_in(container: &str, command: &[&str]) -> Result<String> {
    let engine = engine().await?;
    let doing = format!("run {} in {container}", command.first().unwrap_or(&"nothing"));
    let config = ExecConfig {
        cmd: Some(words(command)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let made = engine.create_exec(container, config).await.while_doing(ENGINE, &doing)?;
    let output = match engine.start_exec(&made.id, None).await.while_doing(ENGINE, &doing)? {
        StartExecResults::Attached { output, .. } => written(output).await.while_doing(ENGINE, &doing)?,
        StartExecResults::Detached => Written::default(),
    };
    let ended = engine.inspect_exec(&made.id).await.while_doing(ENGINE, &doing)?;
    output.if_succeeded(ended.exit_code.unwrap_or(-1), doing)
}

/// Runs a command in a new container that has this machine's network, so that it reaches services as this process does.
/// Returns what it wrote to standard output.
///
/// # Errors
/// It can't be run, or it failed: with what it wrote to standard error.
pub async fn run_beside(state: &State, image: &str, environment: &[String], command: &[&str]) -> Result<String> {
    let host_config = HostConfig { network_mode: Some("host".to_owned()), ..Default::default() };
    let config = ContainerCreateBody {
        env: Some(environment.to_vec()),
        host_config: Some(host_config),
        ..one_command(state, image, command)
    };
    run_to_its_end(config, format!("run {} on {image}", command.first().unwrap_or(&"nothing"))).await
}

/// Runs a command in a new container without any network, which has a folder of this machine under the same path and this
/// process's user. Returns what it wrote to standard output.
///
/// # Errors
/// It can't be run, or it failed: with what it wrote to standard error.
pub async fn run_on_folder(
    state: &State,
    image: &str,
    folder: &Path,
    memory_mb: u32,
    command: &[&str],
) -> Result<String> {
    let folder = folder.display();
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let memory_bytes = i64::from(memory_mb) << 20;
    let host_config = HostConfig {
        network_mode: Some("none".to_owned()),
        binds: Some(vec![format!("{folder}:{folder}")]),
        memory: Some(memory_bytes),
        memory_swap: Some(memory_bytes),
        ..Default::default()
    };
    let config = ContainerCreateBody {
        user: Some(format!("{user}:{group}")),
        working_dir: Some(folder.to_string()),
        host_config: Some(host_config),
        ..one_command(state, image, command)
    };
    run_to_its_end(config, format!("run {} on {image}", command.first().unwrap_or(&"nothing"))).await
}

fn one_command(state: &State, image: &str, command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(words(command)),
        cmd: Some(Vec::new()),
        labels: Some(HashMap::from([(LABEL.to_owned(), state.id().to_owned())])),
        ..Default::default()
    }
}

async fn run_to_its_end(config: ContainerCreateBody, doing: String) -> Result<String> {
    let engine = engine().await?;
    let id = engine.create_container(None, config).await.while_doing(ENGINE, &doing)?.id;
    let ran = async {
        engine.start_container(&id, None).await?;
        let code = match engine.wait_container(&id, None).next().await {
            Some(Ok(ended)) => ended.status_code,
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(error),
            None => -1,
        };
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        Ok((written(engine.logs(&id, Some(options))).await?, code))
    };
    let ran = ran.await;
    remove_container(&id).await?;
    let (output, code) = ran.while_doing(ENGINE, &doing)?;
    output.if_succeeded(code, doing)
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

/// What a command wrote.
#[derive(Default)]
struct Written {
    output: String,
    errors: String,
}

impl Written {
    fn if_succeeded(self, code: i64, doing: String) -> Result<String> {
        match code {
            0 => Ok(self.output),
            code => Err(Error::new(ENGINE, doing, format!("exit code {code}; {}", self.errors.trim()))),
        }
    }
}

async fn written(parts: impl Stream<Item = Result<LogOutput, EngineError>>) -> Result<Written, EngineError> {
    let mut parts = std::pin::pin!(parts);
    let mut written = Written::default();
    while let Some(part) = parts.next().await {
        let part = part?;
        let text = match part {
            LogOutput::StdErr { .. } => &mut written.errors,
            _ => &mut written.output,
        };
        text.push_str(&String::from_utf8_lossy(&part.into_bytes()));
    }
    Ok(written)
}

/// Whether the engine has an image.
pub(crate) async fn has_image(image: &str) -> Result<bool> {
    match engine().await?.inspect_image(image).await {
        Ok(_) => Ok(true),
        Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(error).while_doing(ENGINE, format!("inspect the image {image}")),
    }
}

/// Removes a container with its volumes, running or not; one that isn't there is fine.
///
/// # Errors
/// The engine refuses or can't be reached.
pub async fn remove_container(container: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine().await?.remove_container(container, Some(options)).await {
        Err(EngineError::DockerResponseServerError { status_code: 404 | 409, .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error).while_doing(ENGINE, format!("remove {container}")),
    }
}

/// Removes a server's container, and those of programs that work for it, which begin with its name.
///
/// # Errors
/// The engine can't be reached.
pub(crate) async fn remove_with_company(server: &str) -> Result<()> {
    let filters = HashMap::from([("name", vec![format!("^/{server}")])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = engine().await?.list_containers(Some(options)).await.while_doing(ENGINE, "list containers")?;
    for container in found.into_iter().filter_map(|container| container.id) {
        remove_container(&container).await?;
    }
    Ok(())
}

/// Ends a container at once, as a power cut would (SIGKILL), and leaves its files.
///
/// # Errors
/// It isn't running, or the engine can't be reached.
pub async fn kill(container: &str) -> Result<()> {
    let killed = engine().await?.kill_container(container, None).await;
    killed.while_doing(ENGINE, format!("kill {container}"))
}

/// Has a container's program end in order, by the signal that its image asks for.
///
/// # Errors
/// It doesn't, and is killed; or the engine can't be reached.
pub(crate) async fn shut_down(container: &str) -> Result<()> {
    let (engine, doing) = (engine().await?, format!("shut {container} down"));
    let options = StopContainerOptionsBuilder::new().t(ENDS_WITHIN_S).build();
    engine.stop_container(container, Some(options)).await.while_doing(ENGINE, &doing)?;
    let ended = engine.inspect_container(container, None).await.while_doing(ENGINE, &doing)?;
    match ended.state.and_then(|state| state.exit_code) {
        Some(KILLED) => Err(Error::new(ENGINE, doing, format!("it went on for {ENDS_WITHIN_S} s, and was killed"))
            .log(log_tail(container).await)),
        _ => Ok(()),
    }
}

/// Starts a container again.
///
/// # Errors
/// It can't be started.
pub async fn start_again(container: &str) -> Result<()> {
    let started = engine().await?.start_container(container, None).await;
    started.while_doing(ENGINE, format!("start {container}"))
}

/// Gives a container another name, by which others in its network find it from then on.
///
/// # Errors
/// The name is taken, or the engine can't be reached.
pub(crate) async fn rename(container: &str, name: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    let renamed = engine().await?.rename_container(container, options).await;
    renamed.while_doing(ENGINE, format!("rename {container}"))
}

/// Starts a container on the image of another one, in its network and with its limits, that runs a script of Bash with the arguments which
/// that one has. A port of it is published as one of this machine.
///
/// # Errors
/// It can't be started.
pub(crate) async fn start_like(other: &str, name: &str, script: &str, (port, published): (u16, u16)) -> Result<()> {
    let (engine, doing) = (engine().await?, format!("start {name} beside {other}"));
    let found = engine.inspect_container(other, None).await.while_doing(ENGINE, &doing)?;
    let (config, host) = (found.config.unwrap_or_default(), found.host_config.unwrap_or_default());
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(published.to_string()) };
    let host_config = HostConfig {
        network_mode: host.network_mode,
        memory: host.memory,
        memory_swap: host.memory_swap,
        port_bindings: Some(HashMap::from([(format!("{port}/tcp"), Some(vec![binding]))])),
        ..Default::default()
    };
    let body = ContainerCreateBody {
        image: config.image,
        env: config.env,
        cmd: config.cmd,
        labels: config.labels,
        entrypoint: Some(words(&["bash", "-c", script, name])),
        host_config: Some(host_config),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    engine.create_container(Some(options), body).await.while_doing(ENGINE, &doing)?;
    engine.start_container(name, None).await.while_doing(ENGINE, &doing)
}

/// Removes every container, network and volume that carries the state's label. Returns their names.
pub(crate) async fn remove_all(state: &State) -> Result<Vec<String>> {
    let engine = engine().await?;
    let label = format!("{LABEL}={}", state.id());
    let filters = HashMap::from([("label", vec![label.as_str()])]);
    let mut removed = Vec::new();

    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = engine.list_containers(Some(options)).await.while_doing(ENGINE, "list containers")?;
    for container in found {
        let id = container.id.unwrap_or_default();
        remove_container(&id).await?;
        let name = container.names.unwrap_or_default().first().cloned().unwrap_or(id);
        removed.push(name.trim_start_matches('/').to_owned());
    }
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let found = engine.list_networks(Some(options)).await.while_doing(ENGINE, "list networks")?;
    for name in found.into_iter().filter_map(|network| network.name) {
        engine.remove_network(&name).await.while_doing(ENGINE, format!("remove {name}"))?;
        removed.push(name);
    }
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = engine.list_volumes(Some(options)).await.while_doing(ENGINE, "list volumes")?;
    for name in found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name) {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        engine.remove_volume(&name, Some(options)).await.while_doing(ENGINE, "remove a volume")?;
        removed.push(name);
    }
    Ok(removed)
}

/// Whether a container has written this since so many seconds.
pub(crate) async fn has_written(container: &str, text: &str, since: Duration) -> Result<bool> {
    let now = Duration::from_micros(now_us().unsigned_abs());
    let since = i32::try_from(now.saturating_sub(since).as_secs()).unwrap_or_default();
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).since(since).build();
    let log = written(engine().await?.logs(container, Some(options))).await;
    let log = log.while_doing(ENGINE, format!("read the log of {container}"))?;
    Ok(log.output.contains(text) || log.errors.contains(text))
}

/// The last lines a container wrote, or why they can't be had.
pub(crate) async fn log_tail(container: &str) -> String {
    let engine = match engine().await {
        Ok(engine) => engine,
        Err(error) => return error.to_string(),
    };
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LOG_LINES_TOLD).build();
    let mut log = engine.logs(container, Some(options));
    let mut text = String::new();
    while let Some(Ok(LogOutput::StdErr { message } | LogOutput::StdOut { message })) = log.next().await {
        text.push_str(&String::from_utf8_lossy(&message));
    }
    text
}
