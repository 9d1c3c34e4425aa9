//! A standby of a scenario's own server, and the failover to it (manual, 26.2 "Log-Shipping Standby Servers" and 47.2.3 "Replication Slot
//! Synchronization").

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener},
    time::{Instant, sleep},
};

use super::{Client, SERVICE, Source, connect};
use crate::{
    error::{Context, Error, Result},
    source::Source as _,
    stack::{Endpoint, USER, docker, free_port, until_it_answers},
};

/// What the standby is called by the server, as is its slot there.
const NAME: &str = "standby";

/// The first version whose standbys get slots.
const GETS_SLOTS_SINCE: u32 = 17;

const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);

const PORT_FREE_WITHIN: Duration = Duration::from_secs(10);

/// A server that follows another one.
pub(super) struct Standby {
    container: String,
    port: u16,
    client: Client,
}

impl Source {
    /// Whether standbys of this version get the server's slots.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn standbys_get_slots(&self) -> Result<bool> {
        let version = self.version().await?;
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        Ok(major.is_some_and(|major| major >= GETS_SLOTS_SINCE))
    }

    /// Starts a standby: what is committed from now on is on both servers. It gets the slots that are to outlive the server (`FAILOVER`), if its
    /// version can, and nobody who reads such a slot is ahead of it. The image's user must be the one that the server runs as, as in the
    /// project's own.
    ///
    /// # Errors
    /// It can't be started, or doesn't follow.
    pub async fn start_standby(&mut self) -> Result<()> {
        let gets_slots = self.standbys_get_slots().await?;
        let (primary, password) = (&self.endpoint.container, &self.endpoint.password);
        let settings = if gets_slots { "-c sync_replication_slots=on" } else { "" };
        let script = format!(
            r#"set -e
            find "$PGDATA" -mindepth 1 -delete
            pg_basebackup --dbname='host={primary} port=5432 user={USER} password={password} dbname={USER}' --pgdata="$PGDATA" \
                --write-recovery-conf --checkpoint=fast --create-slot --slot={NAME}
            exec postgres "$@" -c cluster_name={NAME} -c hot_standby_feedback=on {settings}"#
        );
        let (container, port) = (format!("{primary}-{NAME}"), free_port()?);
        docker::start_like(primary, &container, &script, (5432, port)).await?;
        let (mut endpoint, database) = (self.endpoint.clone(), &self.database);
        endpoint.port = port;
        let client = until_it_answers(&container, || connect(&endpoint, database)).await?;
        let waits = format!("ALTER SYSTEM SET synchronous_standby_names = '{NAME}'");
        let is_first = format!("ALTER SYSTEM SET synchronized_standby_slots = '{NAME}'");
        let settings = [Some(&*waits), gets_slots.then_some(&*is_first), Some("SELECT pg_reload_conf()")];
        for setting in settings.into_iter().flatten() {
            self.admin.batch_execute(setting).await.while_doing(SERVICE, "wait for its standby")?;
        }
        self.until_it_follows().await?;
        self.standby = Some(Standby { container, port, client });
        Ok(())
    }

    /// Waits until commits wait for the standby.
    async fn until_it_follows(&self) -> Result<()> {
        let doing = "wait for its standby";
        let states = "SELECT state || ', ' || sync_state FROM pg_stat_replication WHERE application_name = $1";
        let deadline = Instant::now() + FOLLOWS_WITHIN;
        loop {
            let found = self.admin.query(states, &[&NAME]).await.while_doing(SERVICE, doing)?;
            let states: Vec<String> = found.iter().map(|found| found.get(0)).collect();
            if states.iter().any(|state| state == "streaming, sync") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, doing, format!("its states are {states:?}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the standby has a slot, to be used after a failover. The server is given a reason to move the slot on, without which it may
    /// need log that is older than the standby.
    ///
    /// # Errors
    /// There is no standby, or one of both doesn't answer.
    pub async fn has_on_standby(&self, slot: &str) -> Result<bool> {
        let doing = "look for a slot on the standby";
        self.admin.batch_execute("SELECT pg_log_standby_snapshot()").await.while_doing(SERVICE, doing)?;
        let standby = self.standby.as_ref().ok_or_else(|| no_standby(doing))?;
        let question =
            "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary)";
        let answer = standby.client.query_one(question, &[&slot]).await;
        Ok(answer.while_doing(SERVICE, doing)?.get(0))
    }

    /// The server dies at once, as by a power cut; its standby is promoted, and is found by the server's name and port from then on. All
    /// sessions end.
    ///
    /// # Errors
    /// There is no standby, or it can't take over.
    pub async fn fail_over(&mut self) -> Result<()> {
        let standby = self.standby.take().ok_or_else(|| no_standby("fail over"))?;
        let (container, database) = (&self.endpoint.container, &self.database);
        self.sessions.clear();
        docker::kill(container).await?;
        standby.client.batch_execute("SELECT pg_promote()").await.while_doing(SERVICE, "promote the standby")?;
        docker::rename(container, &format!("{container}-former")).await?;
        docker::rename(&standby.container, container).await?;
        let endpoint = &self.endpoint;
        pass_on(endpoint, standby.port).await?;
        self.admin = until_it_answers(container, || connect(endpoint, database)).await?;
        Ok(())
    }
}

fn no_standby(doing: &str) -> Error {
    Error::new(SERVICE, doing, "it has no standby").help("call s.start_standby().await? before")
}

/// Has connections to a port of this machine, and to a Unix socket, go to another port, as long as the runtime lives: who cleans up still
/// comes by the old ones.
async fn pass_on(from: &Endpoint, to: u16) -> Result<()> {
    let doing = "take over its address";
    if let Some(socket) = from.unix_socket() {
        // That of the server that died.
        std::fs::remove_file(&socket).while_doing(SERVICE, doing)?;
        let listener = UnixListener::bind(&socket).while_doing(SERVICE, doing)?;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to));
            }
        });
    }
    let deadline = Instant::now() + PORT_FREE_WITHIN;
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", from.port)).await {
            Ok(listener) => break listener,
            Err(error) if Instant::now() > deadline => return Err(error).while_doing(SERVICE, doing),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, to));
        }
    });
    Ok(())
}

/// Carries what a client and the server say to each other. A connection that breaks breaks for both.
async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, to: u16) {
    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
