//! Services that scenarios lease: started once, shared by every process of a run, removed when the last one is done.
//!
//! Who may do what is decided by kernel file locks, which free themselves however a process dies:
//! - `use.lock`: shared by everyone who uses the services, exclusive for whoever removes them;
//! - `SERVICE.lock`: exclusive while a service is looked for or started.
//!
//! A guard process per test run holds the shared lock between the run's tests and removes the services at its end. If it
//! was killed too, whoever gets the exclusive lock next sweeps what is left, found by label.

pub mod docker;
mod guard;
mod image;
mod lease;
mod service;
mod start;
mod state;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
    sync::OnceLock,
};

use futures_util::future::try_join_all;

pub use self::{
    guard::run_if_asked as run_guard_if_asked,
    image::tag_of as image_tag,
    lease::{Lease, stale as stale_leases},
    service::{BUCKET, Endpoint, MEMORY_MB, Service},
    state::State,
};
pub(crate) use self::{
    service::{CONFLUENT_PATH, MEMORY_DIR, USER},
    start::{free_port, jaas_login, restarted, until_it_answers},
    worker::{Line, Task, Worker},
};

use crate::{
    error::{Context, Error, Result},
    http,
};

/// Set to 1, leaves the services running after the run, for the next one to find.
pub const KEEP: &str = "CHANGEPROOF_KEEP";

/// Services in use by this process.
#[derive(Debug)]
pub struct Stack {
    state: State,
    endpoints: BTreeMap<Service, Endpoint>,
    /// Those that are this stack's own.
    apart: BTreeSet<Service>,
    /// Those of them that others may have after it.
    secluded: BTreeSet<Service>,
    http: OnceLock<reqwest::Client>,
    _in_use: Option<File>,
}

impl Stack {
    /// Makes sure that the services run, and keeps them running until this process and the run it belongs to end. Without any
    /// no engine is needed.
    ///
    /// # Errors
    /// No Docker engine, an image that can't be built, a service that doesn't get ready: each with its way out.
    pub async fn acquire(services: &[Service]) -> Result<Self> {
        if services.is_empty() {
            let (endpoints, [apart, secluded]) = (BTreeMap::new(), [BTreeSet::new(), BTreeSet::new()]);
            let http = OnceLock::new();
            return Ok(Self { state: State::open()?, endpoints, apart, secluded, http, _in_use: None });
        }
        Self::with_engine(services).await
    }

    /// As [`Stack::acquire`], but with the engine even if no service is needed: for containers that do one job and end.
    ///
    /// # Errors
    /// As [`Stack::acquire`].
    pub async fn with_engine(services: &[Service]) -> Result<Self> {
        let state = State::open()?;
        let in_use = Some(enter(&state).await?);
        if std::env::var_os(KEEP).is_some_and(|keep| keep == "1") {
            state.keep(true)?;
        } else {
            guard::watch_this_run(&state)?;
        }
        docker::ensure_network(&state).await?;
        let endpoints = try_join_all(services.iter().map(|service| {
            let state = &state;
            async move { Ok::<_, Error>((*service, service::ensure(*service, state).await?)) }
        }))
        .await?;
        let [apart, secluded] = [BTreeSet::new(), BTreeSet::new()];
        let (endpoints, http) = (endpoints.into_iter().collect(), OnceLock::new());
        Ok(Self { state, endpoints, apart, secluded, http, _in_use: in_use })
    }

    /// How to reach a service of the stack.
    ///
    /// # Errors
    /// The service was not among those acquired.
    pub fn endpoint(&self, service: Service) -> Result<&Endpoint> {
        self.endpoints
            .get(&service)
            .ok_or_else(|| Error::new(service.title(), "use the service", "the stack was acquired without it"))
    }

    /// A client of the services that speak HTTP. All share one: each that is made anew reads the machine's certificate authorities.
    pub fn http(&self) -> reqwest::Client {
        self.http.get_or_init(http::plain_client).clone()
    }

    /// How to reach a service that is needed beyond those acquired; it is started if it doesn't run.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub(crate) async fn also(&self, service: Service) -> Result<Endpoint> {
        match self.endpoints.get(&service) {
            Some(endpoint) => Ok(endpoint.clone()),
            None => service::ensure(service, &self.state).await,
        }
    }

    /// How to reach a service, if it runs.
    ///
    /// # Errors
    /// The engine can't be reached, or the service runs on another image.
    pub(crate) async fn find(&self, service: Service) -> Result<Option<Endpoint>> {
        service::find(service, &self.state).await
    }

    /// Starts a server of the stack's own in the place of a shared one, for whoever does harm to a whole server. It goes with
    /// [`Stack::give_back`]; the guard, or the next run, removes it if that doesn't come.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn take_apart(&mut self, service: Service) -> Result<()> {
        self.endpoints.insert(service, service::start_apart(service, &self.state).await?);
        self.apart.insert(service);
        Ok(())
    }

    /// As [`Stack::take_apart`], for whoever must be alone on a server but does no harm to it: it may be one that another has left.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub async fn take_secluded(&mut self, service: Service) -> Result<()> {
        self.endpoints.insert(service, service::take_secluded(service, &self.state).await?);
        self.apart.insert(service);
        self.secluded.insert(service);
        Ok(())
    }

    /// Leaves the servers that have done no harm to the next one who must be alone: they must be as they were.
    ///
    /// # Errors
    /// No record can be written of them.
    pub fn leave_to_others(&mut self) -> Result<()> {
        for service in std::mem::take(&mut self.secluded) {
            self.apart.remove(&service);
            if let Some(endpoint) = self.endpoints.remove(&service) {
                service::leave_secluded(&endpoint, &self.state)?;
            }
        }
        Ok(())
    }

    /// Removes the servers of the stack's own.
    ///
    /// # Errors
    /// The engine can't be reached.
    pub async fn give_back(&mut self) -> Result<()> {
        for service in std::mem::take(&mut self.apart) {
            if let Some(endpoint) = self.endpoints.remove(&service) {
                docker::remove_with_company(&endpoint.container).await?;
                self.state.remove_shared_folder(&endpoint.container)?;
            }
        }
        Ok(())
    }

    /// Whether the stack has a server of its own.
    pub(crate) fn is_apart(&self) -> bool {
        !self.apart.is_empty()
    }

    /// Whether there is a service in it.
    pub fn has_services(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether the services stay when nobody uses them.
    pub fn is_kept(&self) -> bool {
        self.state.is_kept()
    }

    /// The folder of locks and records that the stack belongs to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Adds to an error the last lines of the log of the service that is the last of those a method needs: it is the one
    /// that does the capturing.
    pub async fn explain(&self, services: &[Service], error: Error) -> Error {
        match services.last().and_then(|service| self.endpoints.get(service)) {
            Some(endpoint) => error.log(docker::log_tail(&endpoint.container).await),
            None => error,
        }
    }
}

/// Takes the shared lock. Whoever could take the exclusive one first is alone, so what it finds is left from a crash,
/// or was kept on purpose; what was kept goes if its image has changed since.
async fn enter(state: &State) -> Result<File> {
    let lock = state.lock_file("use.lock")?;
    if lock.try_lock().is_ok() {
        let mut is_useless = !state.is_kept();
        for service in Service::ALL {
            is_useless = is_useless || service::is_outdated(service, state).await?;
        }
        if is_useless {
            docker::remove_all(state).await?;
            state.forget_services()?;
        }
    }
    state::locked(lock, File::lock_shared).await.while_doing("the stack", "take the shared lock")
}

/// Removes every container, network and volume of the project's, if nobody uses them.
///
/// Returns what was removed.
///
/// # Errors
/// Another process uses the services, or the engine can't be reached.
pub async fn sweep() -> Result<Vec<String>> {
    let state = State::open()?;
    let lock = state.lock_file("use.lock")?;
    if lock.try_lock().is_err() {
        return Err(Error::new("the stack", "remove the services", "they are in use")
            .help("wait for the run that uses them, or end it"));
    }
    let removed = docker::remove_all(&state).await?;
    state.forget_services()?;
    state.keep(false)?;
    Ok(removed)
}

/// Starts services and leaves them running until [`sweep`].
///
/// # Errors
/// As [`Stack::acquire`].
pub async fn up(services: &[Service]) -> Result<Stack> {
    State::open()?.keep(true)?;
    Stack::acquire(services).await
}

/// The services that are running, whoever started them.
///
/// # Errors
/// The engine can't be reached.
pub async fn running() -> Result<Vec<(Service, Endpoint)>> {
    let state = State::open()?;
    let mut running = Vec::new();
    for service in Service::ALL {
        if let Some(endpoint) = state.read::<Endpoint>(&format!("{}.json", service.name()))
            && docker::is_running(&endpoint.container).await?
        {
            running.push((service, endpoint));
        }
    }
    Ok(running)
}

/// Runs the first of some scripts by Python in a new container of an image, after writing all of them into a folder: see
/// [`docker::run_on_folder`].
///
/// # Errors
/// As [`docker::run_on_folder`]; or a script can't be written, or there is no engine.
pub async fn run_scripts(
    image: &str,
    folder: &Path,
    memory_mb: u32,
    scripts: &[(&str, &str)],
    arguments: &[&str],
) -> Result<String> {
    // While it is held, nobody takes the container for one that a crash has left.
    let stack = Stack::with_engine(&[]).await?;
    for (name, text) in scripts {
        std::fs::write(folder.join(name), text).while_doing("the harness", format!("write {name}"))?;
    }
    let script = folder.join(scripts.first().map_or("", |(name, _)| name));
    let script = script.to_string_lossy();
    let command: Vec<&str> = ["python3", &script].into_iter().chain(arguments.iter().copied()).collect();
    docker::run_on_folder(stack.state(), &image_tag(image).await?, folder, memory_mb, &command).await
}
