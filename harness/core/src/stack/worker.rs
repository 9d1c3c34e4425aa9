//! A container of a capture's own: a program that is no service, started for one capture and removed with it, or left beside a server for
//! the next one.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use testcontainers::{ContainerAsync, GenericImage, ImageExt, ReuseDirective, runners::AsyncRunner};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, Lines},
    time::timeout,
};

use super::{Stack, docker, image, start::split_tag};
use crate::error::{Context, Error, Result};

/// How many of the last lines that it wrote to standard error are kept.
const LINES_KEPT: usize = 100;

/// How long it may take to end when it is asked to, before it is killed.
const STOPS_WITHIN_SECONDS: i32 = 10;

/// What to run.
pub(crate) struct Task<'a> {
    /// Whose errors those of the program are.
    pub(crate) title: &'static str,
    /// The image, a folder of `images/`.
    pub(crate) image: &'a str,
    /// The container's name.
    pub(crate) container: String,
    /// The command.
    pub(crate) command: Vec<String>,
    /// A file that it finds, and what is in it.
    pub(crate) file: (&'a str, String),
    /// What it writes to standard error once it is ready.
    pub(crate) is_ready: &'a str,
    /// How long that may take.
    pub(crate) ready_within: Duration,
    /// The memory that its container may use, in MiB.
    pub(crate) memory_mb: u32,
    /// Whether one of this name that is at work already will do, and it stays for others.
    pub(crate) is_shared: bool,
}

/// A line that a worker wrote.
pub(crate) enum Line {
    /// To standard output.
    Output(String),
    /// To standard error.
    Error(String),
    /// It has ended, and there is no more.
    End,
}

/// A program at work in a container.
pub(crate) struct Worker {
    title: &'static str,
    container: ContainerAsync<GenericImage>,
    is_ready: String,
    ready_within: Duration,
    output: Stream,
    errors: Stream,
    last_words: VecDeque<String>,
}

/// What it writes, and has written since the container was made.
struct Stream {
    lines: Lines<Pin<Box<dyn AsyncBufRead + Send>>>,
    /// How many lines have been read.
    read: usize,
    has_ended: bool,
}

impl Stream {
    fn new(lines: Pin<Box<dyn AsyncBufRead + Send>>) -> Self {
        Self { lines: lines.lines(), read: 0, has_ended: false }
    }

    /// The next line, if one comes. Dropping the future loses nothing.
    async fn next(&mut self) -> std::io::Result<Option<String>> {
        let line = self.lines.next_line().await?;
        self.read += usize::from(line.is_some());
        self.has_ended |= line.is_none();
        Ok(line)
    }

    /// Goes on after a restart: the engine tells all from the beginning.
    async fn reopen(&mut self, lines: Pin<Box<dyn AsyncBufRead + Send>>) -> std::io::Result<()> {
        let known = self.read;
        *self = Self::new(lines);
        while self.read < known && self.next().await?.is_some() {}
        Ok(())
    }
}

impl Worker {
    /// Starts the program in the stack's network, and waits until it is ready.
    ///
    /// # Errors
    /// It ends before, or takes too long: with what it wrote to standard error.
    pub(crate) async fn start(stack: &Stack, task: Task<'_>) -> Result<Self> {
        let tag = image::ensure(task.image).await?;
        let memory_bytes = i64::from(task.memory_mb) << 20;
        let (path, text) = task.file;
        // One of this name may be left of a process that was killed.
        if !task.is_shared {
            docker::remove_container(&task.container).await?;
        }
        let (name, version) = split_tag(&tag);
        let request = GenericImage::new(name, version)
            .with_container_name(&task.container)
            .with_network(docker::network_name(stack.state()))
            .with_labels([(docker::LABEL, stack.state().id())])
            .with_cmd(task.command)
            .with_copy_to(path, text.into_bytes())
            .with_reuse(if task.is_shared { ReuseDirective::Always } else { ReuseDirective::Never })
            .with_host_config_modifier(move |host| {
                host.memory = Some(memory_bytes);
                host.memory_swap = Some(memory_bytes);
            });
        let container = AsyncRunner::start(request).await;
        let container = container.while_doing(task.title, format!("start {}", task.container))?;
        let mut worker = Self {
            title: task.title,
            output: Stream::new(container.stdout(true)),
            errors: Stream::new(container.stderr(true)),
            container,
            is_ready: task.is_ready.to_owned(),
            ready_within: task.ready_within,
            last_words: VecDeque::new(),
        };
        worker.wait_until_ready().await?;
        Ok(worker)
    }

    /// Starts the program again that has ended, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let doing = "start it again";
        self.container.start().await.while_doing(self.title, doing)?;
        self.output.reopen(self.container.stdout(true)).await.while_doing(self.title, doing)?;
        self.errors.reopen(self.container.stderr(true)).await.while_doing(self.title, doing)?;
        self.last_words.clear();
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let doing = "wait until it is ready";
        let limit = self.ready_within;
        match timeout(limit, self.until_ready()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(self.explain(Error::new(self.title, doing, "it has ended"))),
            Ok(Err(error)) => Err(error).while_doing(self.title, doing),
            Err(_) => {
                Err(self.explain(Error::new(self.title, doing, format!("it took longer than {} s", limit.as_secs()))))
            }
        }
    }

    async fn until_ready(&mut self) -> std::io::Result<bool> {
        while let Some(line) = self.errors.next().await? {
            let is_it = line.contains(&self.is_ready);
            self.keep(line);
            if is_it {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn keep(&mut self, line: String) {
        if self.last_words.len() == LINES_KEPT {
            self.last_words.pop_front();
        }
        self.last_words.push_back(line);
    }

    /// What it wrote last to standard error.
    pub(crate) fn last_words(&self) -> String {
        self.last_words.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// The error, with what it wrote last to standard error.
    pub(crate) fn explain(&self, error: Error) -> Error {
        error.log(self.last_words())
    }

    /// The next line, whichever comes first. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The engine doesn't tell any more.
    pub(crate) async fn line(&mut self) -> Result<Line> {
        let doing = "read what it writes";
        loop {
            tokio::select! {
                line = self.output.next(), if !self.output.has_ended => {
                    if let Some(line) = line.while_doing(self.title, doing)? {
                        return Ok(Line::Output(line));
                    }
                }
                line = self.errors.next(), if !self.errors.has_ended => {
                    if let Some(line) = line.while_doing(self.title, doing)? {
                        self.keep(line.clone());
                        return Ok(Line::Error(line));
                    }
                }
                else => return Ok(Line::End),
            }
        }
    }

    /// Asks it to end, waits until it has, and returns what it had still written to standard output.
    ///
    /// # Errors
    /// The engine can't be reached.
    pub(crate) async fn stop(&mut self) -> Result<Vec<String>> {
        let doing = "stop it";
        self.container.stop_with_timeout(Some(STOPS_WITHIN_SECONDS)).await.while_doing(self.title, doing)?;
        let mut rest = Vec::new();
        loop {
            match self.line().await? {
                Line::Output(line) => rest.push(line),
                Line::Error(_) => {}
                Line::End => return Ok(rest),
            }
        }
    }
}
