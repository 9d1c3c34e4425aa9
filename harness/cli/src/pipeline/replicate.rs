//! `cdc replicate`.

use std::time::{Duration, Instant, SystemTime};

use changeproof::postgres::end_of_log;
use changeproof_pipelines::{Cadence, Progress, Replication, Settings};

use super::ReplicateArguments;
use crate::exit::{Failure, interrupted};

/// So often it tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) async fn run(arguments: &ReplicateArguments) -> Result<(), Failure> {
    let ends = &arguments.ends;
    let (address, sink) = (ends.address()?, ends.sink().await?);
    let settings = Settings {
        slot: arguments.slot.clone(),
        publication: ends.publication.clone(),
        cadence: Cadence { every: Duration::from_millis(arguments.every), changes: arguments.at_most },
        misfit: ends.misfit(),
        compact_above: arguments.compact_above,
    };
    let goal = match arguments.once {
        true => Some(end_of_log(&address.connect().await?).await?),
        false => None,
    };
    let mut teller = Teller::new();
    let started = Replication::start(&address, sink, settings, |progress| teller.tell(progress));
    let mut replication = tokio::select! {
        started = started => started?,
        // What was copied whole is there, and what was not is copied anew the next time.
        () = interrupted() => return Err(Failure::Interrupted),
    };
    teller.tell_now(replication.progress());
    let (reached, is_reached) = tokio::sync::watch::channel(false);
    let stop = async move {
        let mut is_reached = is_reached;
        tokio::select! {
            () = interrupted() => {}
            _ = is_reached.wait_for(|is_reached| *is_reached) => {}
        }
    };
    let followed = replication.run(stop, |progress| {
        teller.tell(progress);
        if goal.is_some_and(|goal| progress.position >= goal) {
            reached.send_replace(true);
        }
    });
    followed.await?;
    teller.tell_now(replication.progress());
    Ok(())
}

/// Tells on stderr how far the replication is, and not too often.
struct Teller {
    began: Instant,
    told: Option<Instant>,
}

impl Teller {
    fn new() -> Self {
        Self { began: Instant::now(), told: None }
    }

    fn tell(&mut self, progress: &Progress) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.tell_now(progress);
        }
    }

    fn tell_now(&mut self, progress: &Progress) {
        self.told = Some(Instant::now());
        let seconds = self.began.elapsed().as_secs_f32();
        let Progress { copied, changes, commits, position, .. } = progress;
        let lag = lag(progress).map(|lag| format!(", {} ms behind", lag.as_millis())).unwrap_or_default();
        anstream::eprintln!(
            "{seconds:6.1} s  {copied} rows copied, {changes} changes in {commits} commits, up to {position}{lag}"
        );
    }
}

/// How long ago the last transaction was committed that is in the sink.
fn lag(progress: &Progress) -> Option<Duration> {
    let committed = Duration::from_micros(u64::try_from(progress.commit_time_us?).ok()?);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + committed).ok()
}
