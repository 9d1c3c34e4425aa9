//! The program that comes with a database and reads its log, and throws away what it reads: what a native method is measured
//! against.

use std::time::Duration;

use changeproof::{
    capture::Capture,
    error::{Context, Error, Result},
    postgres::{self, PUBLICATION, end_of_log},
    stack::docker,
};
use serde::Serialize;

use crate::rig::Rig;

/// How readers reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    UnixSocket,
    Tcp,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UnixSocket => "Unix socket",
            Self::Tcp => "TCP",
        }
    }
}

/// Such a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    PgRecvlogical,
    Mysqlbinlog,
}

impl Rival {
    /// The one that a method is measured against.
    pub(crate) fn of(method: &dyn Capture) -> Option<Self> {
        match method.name() {
            "logical" => Some(Self::PgRecvlogical),
            "binlog" if method.storage().title() == "MySQL" => Some(Self::Mysqlbinlog),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PgRecvlogical => "pg_recvlogical",
            Self::Mysqlbinlog => "mysqlbinlog",
        }
    }

    /// The ways by which both readers go. pgoutput sends each change in a packet of its own, so the way counts there: by the
    /// server's Unix socket, the shortest there is, and by TCP, to the port that the engine publishes.
    pub(crate) fn ways(self) -> &'static [Way] {
        match self {
            Self::PgRecvlogical => &[Way::UnixSocket, Way::Tcp],
            Self::Mysqlbinlog => &[Way::Tcp],
        }
    }

    /// What the capture is told of the way.
    pub(crate) fn setting(self, way: Way) -> &'static [(&'static str, &'static str)] {
        match (self, way) {
            (Self::PgRecvlogical, Way::Tcp) => &[("way", "tcp")],
            _ => &[],
        }
    }

    /// Notes where the backlog will begin: in a slot of the program's own, or a log file of its own. Returns its name.
    pub(crate) async fn prepare(self, rig: &Rig, way: Way) -> Result<String> {
        let target = &rig.database.target;
        match self {
            Self::PgRecvlogical => {
                if way == Way::UnixSocket && target.endpoint.unix_socket().is_none() {
                    let cause = "the engine doesn't share its files with this machine";
                    return Err(Error::new("the bench", "reach the server by its Unix socket", cause)
                        .help("run this part on Linux, with the engine on the same machine"));
                }
                let slot = format!("{}_recv", target.database);
                let make = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
                rig.database.writer.run(&make).await?;
                Ok(slot)
            }
            Self::Mysqlbinlog => {
                rig.database.writer.run("FLUSH BINARY LOGS").await?;
                changeproof::mysql::current_log(&target.endpoint).await
            }
        }
    }

    /// From the program's start until its end: it reads what was written after it was prepared.
    pub(crate) async fn drain(self, rig: &Rig, way: Way, prepared: &str) -> Result<Duration> {
        match self {
            Self::PgRecvlogical => pg_recvlogical(rig, way, prepared).await,
            Self::Mysqlbinlog => mysqlbinlog(rig, prepared).await,
        }
    }
}

/// Times a program within its container, so that the engine's own time doesn't count.
const TIMED: &str = r#"begin=$EPOCHREALTIME; "$@" && echo "$begin $EPOCHREALTIME""#;

async fn pg_recvlogical(rig: &Rig, way: Way, slot: &str) -> Result<Duration> {
    let target = &rig.database.target;
    let (endpoint, database) = (&target.endpoint, target.database.as_str());
    let end = end_of_log(&postgres::connect(endpoint, database).await?).await?.to_string();
    let (publication, port) = (format!("publication_names={PUBLICATION}"), endpoint.port.to_string());
    let mut command = [
        &["bash", "-c", TIMED, "bash", "pg_recvlogical", "--start", "--no-loop", "--file", "/dev/null"][..],
        &["--username", endpoint.user(), "--dbname", database, "--slot", slot],
        &["--endpos", &end, "--option", "proto_version=2", "--option", &publication],
        &["--option", "messages=true", "--option", "streaming=on"],
    ]
    .concat();
    if way == Way::UnixSocket {
        return timed(&docker::run_in(&endpoint.container, &command).await?);
    }
    command.extend(["--host", "127.0.0.1", "--port", &port]);
    let password = [format!("PGPASSWORD={}", endpoint.password)];
    timed(&docker::run_beside(rig.database.stack.state(), &endpoint.image, &password, &command).await?)
}

/// It copies the log as it is (`--raw`), into a file of its name, which is a link to nowhere.
async fn mysqlbinlog(rig: &Rig, log: &str) -> Result<Duration> {
    const TO_NOWHERE: &str = r#"folder=$(mktemp -d) && ln -s /dev/null "$folder/${@: -1}" && cd "$folder" || exit"#;
    let endpoint = &rig.database.target.endpoint;
    let (port, timed_there) = (endpoint.port.to_string(), format!("{TO_NOWHERE}; {TIMED}"));
    let command =
        [
            &[
                "bash",
                "-c",
                &timed_there,
                "bash",
                "mysqlbinlog",
                "--read-from-remote-server",
                "--raw",
                "--protocol=tcp",
            ][..],
            &["--host", "127.0.0.1", "--port", &port, "--user", endpoint.user()],
            &["--ssl-mode=DISABLED", "--get-server-public-key", log],
        ]
        .concat();
    let password = [format!("MYSQL_PWD={}", endpoint.password)];
    timed(&docker::run_beside(rig.database.stack.state(), &endpoint.image, &password, &command).await?)
}

fn timed(told: &str) -> Result<Duration> {
    let mut times_s = told.split_whitespace().map(str::parse::<f64>);
    match (times_s.next(), times_s.next()) {
        (Some(Ok(begin)), Some(Ok(end))) => {
            Duration::try_from_secs_f64(end - begin).while_doing("the bench", "time the database's own program")
        }
        _ => Err(Error::new("the bench", "time the database's own program", format!("it told “{told}”"))),
    }
}
