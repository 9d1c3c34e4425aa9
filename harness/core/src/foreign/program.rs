//! A program being run: in a process group of its own, which goes with it, however either of us ends.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{HELP, PROGRAM};
use crate::error::{Context, Error, Result};

/// Starts the command, and beside it one that waits for the end of standard input and then kills the whole group: that end
/// comes even if we are killed. It ignores SIGTERM, so that it outlives what is asked to end in its own time.
const WATCHED: &str = "\
    exec 3<&0 </dev/null\n\
    (trap '' TERM; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &\n\
    exec sh -c \"$1\" 3<&-";

/// A program whose output has ended should end soon itself.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The last lines of stderr that are kept for messages.
const LINES_KEPT: usize = 20;

/// A process group of our own making. Dropping it kills every process in it.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails only if no process of the group is left.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The last lines that a program wrote to stderr.
type Words = Arc<Mutex<VecDeque<String>>>;

pub(super) struct Program {
    group: Group,
    child: Child,
    /// Its standard input, which ends when we do.
    lifeline: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// What has been read of a line whose end has not come.
    partial: Vec<u8>,
    words: Words,
    listening: JoinHandle<()>,
}

impl Program {
    pub(super) fn start(command: &str, environment: &[(&str, String)]) -> Result<Self> {
        let doing = || format!("start `{command}`");
        let mut child = Command::new("sh")
            .args(["-c", WATCHED, "sh", command])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .while_doing(PROGRAM, doing())?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(PROGRAM, doing(), "its output can't be read"));
        };
        let words = Words::default();
        Ok(Self {
            group: Group(group),
            lifeline: child.stdin.take(),
            child,
            stdout: BufReader::new(stdout),
            partial: Vec::new(),
            listening: tokio::spawn(listen(stderr, Arc::clone(&words))),
            words,
        })
    }

    /// The next line. Dropping the future loses nothing. `action` is what the program fails in if there is none.
    pub(super) async fn line(&mut self, action: &str) -> Result<String> {
        match self.next_line().await? {
            Some(line) => Ok(line),
            None => Err(self.ended(action).await),
        }
    }

    /// The next line that isn't blank; none at the end.
    async fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            let read = self.stdout.read_until(b'\n', &mut self.partial).await;
            read.while_doing(PROGRAM, "be read")?;
            if self.partial.is_empty() {
                return Ok(None);
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim().to_owned();
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    async fn ended(&mut self, action: &str) -> Error {
        let status = timeout(ENDS_WITHIN, self.child.wait()).await;
        self.group.signal(Signal::KILL);
        drop(self.lifeline.take());
        // Whoever holds stderr open has just been killed; what was written to it is still read.
        let _ = timeout(ENDS_WITHIN, &mut self.listening).await;
        let cause = match status {
            Ok(Ok(status)) => format!("it ended by itself ({})", words_of(status)),
            _ => "it closed its standard output".to_owned(),
        };
        self.explain(Error::new(PROGRAM, action, cause).help(HELP))
    }

    /// Adds what the program has said on stderr.
    pub(super) fn explain(&self, error: Error) -> Error {
        let said = self.last_words();
        error.log(if said.is_empty() { "(the program has written nothing to stderr)".to_owned() } else { said })
    }

    pub(super) fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Asks the program to end, by SIGTERM to its group, and kills what is left of it after a time. Returns what it has
    /// written until then.
    pub(super) async fn stop(mut self, within: Duration) -> Result<Vec<String>> {
        self.group.signal(Signal::TERM);
        let deadline = Instant::now() + within;
        let mut lines = Vec::new();
        loop {
            match timeout_at(deadline, self.next_line()).await {
                Ok(Ok(Some(line))) => lines.push(line),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(error),
                // A line that was being written when its time was over is no line.
                Err(_) => return Ok(lines),
            }
        }
        // If it isn't gone by the deadline, dropping the group kills it.
        let _ = timeout_at(deadline, self.child.wait()).await;
        Ok(lines)
    }
}

fn words_of(status: ExitStatus) -> String {
    match status.code() {
        Some(127) => "exit status 127: the shell did not find the command".to_owned(),
        Some(126) => "exit status 126: the shell could not execute the command".to_owned(),
        _ => status.to_string(),
    }
}

async fn listen(stderr: impl AsyncRead + Unpin, words: Words) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if words.len() > LINES_KEPT {
            words.pop_front();
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn message(program: &mut Program) -> String {
        program.line("go on").await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Waits until a process is gone: not there, or a zombie that nobody has asked for yet.
    async fn gone(process: Pid) -> bool {
        let stat = format!("/proc/{process}/stat");
        let is_gone = || {
            test_kill_process(process).is_err() || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z"))
        };
        let deadline = Instant::now() + LONG;
        while !is_gone() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        is_gone()
    }

    fn process(line: &str) -> Result<Pid> {
        let process = line.parse().ok().and_then(Pid::from_raw);
        process.ok_or_else(|| Error::new("test", "read a process's number", line))
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_an_early_end_is_told_with_status_and_last_words() -> Result<()> {
        let environment = [("WHAT", "two".to_owned())];
        let mut program = Program::start("echo one; echo; echo $WHAT; echo no >&2; exit 3", &environment)?;
        assert_eq!(program.line("go on").await?, "one");
        assert_eq!(program.line("go on").await?, "two");
        let told = message(&mut program).await;
        assert!(told.contains("could not go on: it ended by itself (exit status: 3)"), "{told}");
        assert!(told.contains("last lines of its log:\n    no"), "{told}");
        let mut program = Program::start("no-such-command-anywhere", &[])?;
        let told = message(&mut program).await;
        assert!(told.contains("127") && told.contains("no-such-command-anywhere"), "{told}");
        Ok(())
    }

    #[tokio::test]
    async fn a_program_that_is_stopped_may_finish_what_it_says() -> Result<()> {
        // A signal may miss a sleeper that is just being forked, which must not hold the output open then.
        let command = "trap 'echo last; exit 0' TERM; echo ready; sleep 1000 >/dev/null & wait";
        let mut program = Program::start(command, &[])?;
        assert_eq!(program.line("go on").await?, "ready");
        assert_eq!(program.stop(LONG).await?, ["last"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_program_that_does_not_stop_is_killed_with_all_that_it_started() -> Result<()> {
        let command = "trap '' TERM; sleep 1000 & echo $!; printf half; wait";
        let mut program = Program::start(command, &[])?;
        let sleeper = process(&program.line("go on").await?);
        assert_eq!(program.stop(Duration::from_millis(200)).await?, Vec::<String>::new(), "half a line is none");
        assert!(gone(sleeper?).await);
        Ok(())
    }

    #[tokio::test]
    async fn a_program_that_is_dropped_leaves_no_process_behind() -> Result<()> {
        let mut program = Program::start("sleep 1000 & echo $!; wait", &[])?;
        let sleeper = process(&program.line("go on").await?);
        drop(program);
        assert!(gone(sleeper?).await);
        Ok(())
    }

    #[tokio::test]
    async fn a_program_does_not_outlive_whoever_started_it() -> Result<()> {
        let mut program = Program::start("sleep 1000 & echo $!; wait", &[])?;
        let sleeper = process(&program.line("go on").await?);
        // What the kernel does if we are killed.
        drop(program.lifeline.take());
        assert!(gone(sleeper?).await);
        Ok(())
    }
}
