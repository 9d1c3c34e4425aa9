//! The process that outlives the tests of a run and removes the services when the run is over, however it ended.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, getppid};

use super::{
    State, docker,
    state::{GUARD_LOCK_ENDING, STATE_DIR},
};
use crate::error::{Context, Error, Result};

const WATCHED: &str = "CHANGEPROOF_GUARD_OF";
const READY: &str = "ready";

/// Starts the guard of this process's run, unless there is one.
///
/// nextest gives each test a process of its own, so there the run is the parent. The executable starts itself: its
/// `main` has to begin with [`run_if_asked`].
pub(crate) fn watch_this_run(state: &State) -> Result<()> {
    let doing = "start the guard that removes the services";
    let this = std::process::id().cast_signed();
    let run = match std::env::var_os("NEXTEST") {
        Some(_) => getppid().map_or(this, Pid::as_raw_pid),
        None => this,
    };
    if state.lock_file(&guard_lock(run))?.try_lock().is_err() {
        return Ok(());
    }
    let mut guard = Command::new(std::env::current_exe().while_doing("the stack", doing)?)
        .env(WATCHED, run.to_string())
        .env(STATE_DIR, state.dir())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .while_doing("the stack", doing)?;
    let mut said = String::new();
    if let Some(stdout) = guard.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).while_doing("the stack", doing)?;
    }
    if said.trim() == READY {
        Ok(())
    } else {
        Err(Error::new("the stack", doing, "it ended at once")
            .help("the program's main must call changeproof::stack::run_guard_if_asked() first"))
    }
}

fn guard_lock(run: i32) -> String {
    format!("{run}{GUARD_LOCK_ENDING}")
}

/// Becomes the guard and never returns, if this process was started to be one.
pub fn run_if_asked() {
    let watched = std::env::var(WATCHED).ok().and_then(|run| run.parse().ok());
    let Some(run) = watched else { return };
    let Some(dir) = std::env::var_os(STATE_DIR) else { return };
    let ended = State::at(Path::new(&dir)).and_then(|state| guard(&state, run));
    std::process::exit(i32::from(ended.is_err()));
}

fn guard(state: &State, run: i32) -> Result<()> {
    let in_use = state.lock_file("use.lock")?;
    in_use.lock_shared().while_doing("the guard", "take the shared lock")?;
    let only_one = state.lock_file(&guard_lock(run))?;
    let is_first = only_one.try_lock().is_ok();
    println!("{READY}");
    std::io::stdout().flush().while_doing("the guard", "say that it is ready")?;
    if !is_first {
        return Ok(());
    }
    wait_for_end(run);
    in_use.unlock().while_doing("the guard", "give up the shared lock")?;
    in_use.lock().while_doing("the guard", "take the exclusive lock")?;
    if !state.is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.while_doing("the guard", "start its runtime")?;
        runtime.block_on(remove_everything(state))?;
    }
    state.remove(&guard_lock(run))
}

/// How long the engine may go on carrying out what a killed process has asked of it.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// Removes the run's services. If the run died while it started one, the engine may make that container only now.
async fn remove_everything(state: &State) -> Result<()> {
    let died_while_starting = state.is_starting()?;
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        let removed = docker::remove_all(state).await;
        let is_clean = removed.as_ref().is_ok_and(Vec::is_empty);
        let is_over = Instant::now() > deadline;
        if is_over || (removed.is_ok() && !died_while_starting) {
            removed?;
            return state.forget_services();
        }
        if is_clean || removed.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[cfg(target_os = "linux")]
fn wait_for_end(run: i32) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        process::{PidfdFlags, pidfd_open},
    };
    let Some(Ok(process)) = Pid::from_raw(run).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return;
    };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    while poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
}

#[cfg(not(target_os = "linux"))]
fn wait_for_end(run: i32) {
    let Some(pid) = Pid::from_raw(run) else { return };
    while rustix::process::test_kill_process(pid).is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
}
