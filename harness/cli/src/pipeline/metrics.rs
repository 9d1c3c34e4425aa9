//! What `cdc replicate --metrics` tells Prometheus.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use changeproof::{error::Context as _, postgres::Address};
use changeproof_pipelines::Progress;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::{net::TcpListener, time::timeout};

/// How long the source may take to say what its slot keeps back.
const ASKS_FOR: Duration = Duration::from_secs(2);

const RETAINED: &str = "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END \
                        - restart_lsn)::float8 FROM pg_replication_slots WHERE slot_name = $1";

/// The numbers, and where the slot is looked at that one of them is of.
pub(super) struct Metrics {
    registry: Registry,
    address: Address,
    slot: String,
    told: Mutex<Progress>,
    copied: Counter,
    changes: Counter,
    transactions: Counter,
    commits: Counter,
    expired: Counter,
    failed_expiries: Counter,
    removed_files: Counter,
    left_files: Counter,
    lag_s: Number,
    retained: Number,
    last_commit: Number,
    failures: Gauge,
    failing_since: Number,
    failed: Gauge,
}

type Number = Gauge<f64, AtomicU64>;

impl Metrics {
    pub(super) fn new(address: &Address, slot: &str) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("changeproof_replicate"),
            address: address.clone(),
            slot: slot.to_owned(),
            told: Mutex::default(),
            copied: Counter::default(),
            changes: Counter::default(),
            transactions: Counter::default(),
            commits: Counter::default(),
            expired: Counter::default(),
            failed_expiries: Counter::default(),
            removed_files: Counter::default(),
            left_files: Counter::default(),
            lag_s: Number::default(),
            retained: Number::default(),
            last_commit: Number::default(),
            failures: Gauge::default(),
            failing_since: Number::default(),
            failed: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register("copied_rows", "Rows that were copied", self.copied.clone());
        to.register("changes", "Changes of rows that are in the sink", self.changes.clone());
        to.register("transactions", "Transactions that are in the sink", self.transactions.clone());
        to.register("commits", "Commits to the sink's tables", self.commits.clone());
        to.register("expired_snapshots", "Snapshots of the sink's tables that have expired", self.expired.clone());
        let failed = "How often the catalog didn't let any expire";
        to.register("failed_expiries", failed, self.failed_expiries.clone());
        to.register("removed_files", "Files that were removed with them", self.removed_files.clone());
        let left = "Files that no snapshot has any more, and that could not be removed";
        to.register("left_files", left, self.left_files.clone());
        let lag = "How far the last transaction that is in the sink was behind its commit when it came there; while it fails, is now";
        to.register("lag_seconds", lag, self.lag_s.clone());
        let retained =
            "The log that the slot keeps back at the source; NaN if the source doesn't answer or has no such slot";
        to.register("slot_retained_bytes", retained, self.retained.clone());
        let last = "When the sink was last known to have all that was read, in seconds since 1970; 0 before that";
        to.register("last_success_timestamp_seconds", last, self.last_commit.clone());
        to.register("consecutive_failures", "Failures since then", self.failures.clone());
        let since = "When the first of them was, in seconds since 1970; 0 if there is none";
        to.register("failing_since_timestamp_seconds", since, self.failing_since.clone());
        to.register("failed", "1 while it fails, and is tried again", self.failed.clone());
    }

    /// Something has worked.
    pub(super) fn progressed(&self, now: &Progress) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.copied.inc_by(now.copied - told.copied);
        self.changes.inc_by(now.changes - told.changes);
        self.transactions.inc_by(now.transactions - told.transactions);
        self.commits.inc_by(now.commits - told.commits);
        self.expired.inc_by(now.expired - told.expired);
        self.failed_expiries.inc_by(now.failed_expiries - told.failed_expiries);
        self.removed_files.inc_by(now.removed_files - told.removed_files);
        self.left_files.inc_by(now.left_files - told.left_files);
        if now.commit_time_us != told.commit_time_us {
            self.lag_s.set(lag(now));
        }
        *told = *now;
        self.last_commit.set(now_s());
        self.failures.set(0);
        self.failing_since.set(0.0);
        self.failed.set(0);
    }

    /// It has failed, and is tried again.
    pub(super) fn has_failed(&self) {
        if self.failures.inc() == 0 {
            self.failing_since.set(now_s());
        }
        self.failed.set(1);
    }

    async fn text(&self) -> String {
        self.retained.set(timeout(ASKS_FOR, self.retained_bytes()).await.ok().flatten().unwrap_or(f64::NAN));
        if self.failed.get() == 1 {
            let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
            self.lag_s.set(lag(&told));
        }
        let mut text = String::new();
        // Nothing that writes into a text fails.
        let _ = encode(&mut text, &self.registry);
        text
    }

    async fn retained_bytes(&self) -> Option<f64> {
        let client = self.address.connect().await.ok()?;
        client.query_opt(RETAINED, &[&self.slot]).await.ok()??.get(0)
    }
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// How long ago the last transaction was committed that is in the sink.
fn lag(progress: &Progress) -> f64 {
    super::replicate::lag(progress).unwrap_or_default().as_secs_f64()
}

/// Answers `GET /metrics` until the future is dropped. Returns where, beside it.
///
/// # Errors
/// The address is taken, or not this machine's.
pub(super) async fn serve(
    at: SocketAddr,
    metrics: Arc<Metrics>,
) -> changeproof::error::Result<(SocketAddr, impl Future<Output = ()>)> {
    let doing = || format!("listen on {at} for Prometheus");
    let listener = TcpListener::bind(at).await.while_doing("cdc", doing())?;
    let bound = listener.local_addr().while_doing("cdc", doing())?;
    let serving = async move {
        loop {
            // A connection that has gone before it was accepted is nobody's loss.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let metrics = Arc::clone(&metrics);
            let service = service_fn(move |request| answer(Arc::clone(&metrics), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    };
    Ok((bound, serving))
}

async fn answer<B>(metrics: Arc<Metrics>, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_asked = request.method() == hyper::Method::GET && request.uri().path() == "/metrics";
    let (status, form, text) = match is_asked {
        true => (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.text().await),
        false => (StatusCode::NOT_FOUND, "text/plain", "there is GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    Ok(response)
}
