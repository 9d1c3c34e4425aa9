//! `cdc replicate`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use changeproof::{error::Error, postgres::end_of_log};
use changeproof_pipelines::{Cadence, Progress, Settings, keep_replicating};

use super::{
    ReplicateArguments,
    metrics::{Metrics, serve},
};
use crate::exit::{Failure, interrupted};

/// So often it tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) async fn run(arguments: &ReplicateArguments) -> Result<(), Failure> {
    let ends = &arguments.ends;
    let (address, sink) = (ends.address()?, ends.sink().await?);
    let settings = Settings {
        slot: arguments.slot.clone(),
        failover: arguments.failover,
        publication: ends.publication.clone(),
        cadence: Cadence { every: Duration::from_millis(arguments.every), changes: arguments.at_most },
        misfit: ends.misfit(),
        compact_above: arguments.compact_above,
        keep_snapshots: Duration::from_secs(arguments.keep_snapshots),
    };
    let metrics = Arc::new(Metrics::new(&address, &settings.slot));
    if let Some(at) = arguments.metrics {
        let (bound, serving) = serve(at, Arc::clone(&metrics)).await?;
        anstream::eprintln!("metrics at http://{bound}/metrics");
        tokio::spawn(serving);
    }
    let goal = match arguments.once {
        true => Some(end_of_log(&address.connect().await?).await?),
        false => None,
    };
    let (reached, is_reached) = tokio::sync::watch::channel(false);
    let mut is_reached = is_reached;
    let mut is_interrupted = false;
    let stop = async {
        tokio::select! {
            () = interrupted() => is_interrupted = true,
            _ = is_reached.wait_for(|is_reached| *is_reached) => {}
        }
    };
    let (mut teller, mut last) = (Teller::new(), None);
    let tell = |progress: &Progress| {
        metrics.progressed(progress);
        teller.tell(progress);
        last = Some(*progress);
        if goal.is_some_and(|goal| progress.position >= goal) {
            reached.send_replace(true);
        }
    };
    let failed = |error: &Error, pause: Duration| {
        metrics.has_failed();
        anstream::eprintln!("{error}\n  it is tried again in {} ms", pause.as_millis());
    };
    let patience = Duration::from_secs(arguments.retry_for);
    keep_replicating(&address, &sink, &settings, patience, stop, tell, failed).await?;
    match last {
        Some(last) => teller.tell_now(&last),
        // It was interrupted before it had begun.
        None if is_interrupted => return Err(Failure::Interrupted),
        None => {}
    }
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
        let Progress { copied, changes, commits, position, left_files, failed_expiries, .. } = progress;
        let kept = match failed_expiries {
            0 => "",
            _ => ", old snapshots stay: the catalog doesn't let them expire",
        };
        let left = match left_files {
            0 => String::new(),
            left => format!(", {left} files of expired snapshots left: the storage doesn't let them be removed"),
        };
        let lag = lag(progress).map(|lag| format!(", {} ms behind", lag.as_millis())).unwrap_or_default();
        anstream::eprintln!(
            "{seconds:6.1} s  {copied} rows copied, {changes} changes in {commits} commits, up to {position}{lag}{kept}{left}"
        );
    }
}

/// How long ago the last transaction was committed that is in the sink.
pub(super) fn lag(progress: &Progress) -> Option<Duration> {
    let committed = Duration::from_micros(u64::try_from(progress.commit_time_us?).ok()?);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + committed).ok()
}
