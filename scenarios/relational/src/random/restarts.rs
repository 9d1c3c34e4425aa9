//! A method that is stopped and started again at points of chance, while transactions go on being committed.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use changeproof::{
    capture::{Capture, Options, SnapshotMode, Subscription, collect_until_fence},
    error::{Error, Result},
    evidence::{check_model, judge_by_both},
    guarantees::{Granularity, Order},
    judge::Watch,
    source::{Place, Source},
    stack::Stack,
    workspace::Workspace,
};

use crate::load::{Chance, Load};

/// How often it is stopped.
const STOPS: u32 = 4;

/// So many transactions are committed before each stop, and before each start.
const SOME: u32 = 10;

/// The most transfers of a transaction: few stops are between two of them.
const TRANSFERS: u64 = 8;

/// Whether a method promises each change, in the order in which they were committed.
pub(super) fn applies(method: &dyn Capture) -> bool {
    let guarantees = method.guarantees(&Options::default());
    guarantees.granularity == Granularity::EachChange && guarantees.order == Order::Commit
}

/// Between two transactions, so that there aren't more of them while a method starts than it takes to tell how it did.
const PAUSE: Duration = Duration::from_millis(5);

/// What happens meanwhile.
#[derive(Default)]
struct Signs {
    is_over: AtomicBool,
    committed: AtomicU32,
}

impl Signs {
    async fn write(&self, load: &mut Load, source: &mut dyn Source) -> Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            let transfers = 1 + load.chance(TRANSFERS);
            load.transaction(source, transfers).await?;
            self.committed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn some_more(&self) {
        let until = self.committed.load(Ordering::Relaxed) + SOME;
        while self.committed.load(Ordering::Relaxed) < until && !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn stop_and_start(&self, subscription: &mut dyn Subscription) -> Result<()> {
        for _ in 0..STOPS {
            self.some_more().await;
            subscription.stop().await?;
            self.some_more().await;
            subscription.resume().await?;
        }
        Ok(())
    }
}

/// Judges what it has delivered.
pub(super) async fn judge(method: &'static dyn Capture, seed: u64) -> Result<()> {
    let stack = Stack::acquire(method.services()).await?;
    let mut workspace = Workspace::open(&stack, method, Place::Memory).await?;
    let judged = amid_a_load(&stack, &mut workspace, seed).await;
    let closed = workspace.close(&stack).await;
    judged?;
    closed
}

async fn amid_a_load(stack: &Stack, workspace: &mut Workspace, seed: u64) -> Result<()> {
    let options = Options { snapshot: SnapshotMode::NoData, ..Options::default() };
    let mut load = Load::begin(workspace.source.as_mut(), Chance::of(seed)).await?;
    let began = load.model.committed().len();
    let mut subscription = workspace.start(stack, &options).await?;
    let signs = Signs::default();
    let stopping = async {
        let stopped = signs.stop_and_start(subscription.as_mut()).await;
        signs.is_over.store(true, Ordering::Relaxed);
        stopped
    };
    let writing = async {
        let written = signs.write(&mut load, workspace.source.as_mut()).await;
        signs.is_over.store(true, Ordering::Relaxed);
        written
    };
    let (stopped, written) = tokio::join!(stopping, writing);
    written.and(stopped)?;

    let fence = workspace.source.write_fence().await?;
    let stream = collect_until_fence(subscription.as_mut(), fence).await?;
    let contents = workspace.source.contents().await?;
    check_model(load.model.tables(), &contents)?;
    let watch = Watch { began: (began, began), is_broken: true, ..Watch::default() };
    let method = workspace.method();
    let verdict = judge_by_both(&load.model, &method.guarantees(&options), &watch, &stream, &contents).verdict;
    println!("{} transfers, {} changes: {verdict}", load.transfers(), stream.len());
    match verdict.is_broken() {
        true => Err(Error::new(method.name(), "keep its promises", verdict)),
        false => Ok(()),
    }
}
