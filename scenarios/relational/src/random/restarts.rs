//! A method that is stopped and started again at points of chance, while transactions go on being committed.

use std::time::Duration;

use changeproof::{
    capture::{Capture, Options, SnapshotMode, Subscription, collect_until_fence},
    error::Result,
    guarantees::{Granularity, Order},
    source::{Place, Source},
    stack::Stack,
    workspace::Workspace,
};

use crate::load::{Chance, Load, Signs};

/// How often it is stopped.
const STOPS: usize = 4;

/// So many transactions are committed before each stop, and before each start.
const SOME: u32 = 10;

/// The most transfers of a transaction: few stops are between two of them.
const TRANSFERS: u64 = 8;

/// Between two transactions, so that there aren't more of them while a method starts than it takes to tell how it did.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a method promises each change, in the order in which they were committed.
pub(super) fn applies(method: &dyn Capture) -> bool {
    let guarantees = method.guarantees(&Options::default());
    guarantees.granularity == Granularity::EachChange && guarantees.order == Order::Commit
}

/// Judges what it has delivered.
pub(super) async fn judge(method: &'static dyn Capture, seed: u64) -> Result<()> {
    let does = async |stack: &Stack, workspace: &mut Workspace| amid_a_load(stack, workspace, seed).await;
    Workspace::within(method, Place::Memory, does).await
}

async fn amid_a_load(stack: &Stack, workspace: &mut Workspace, seed: u64) -> Result<()> {
    let options = Options { snapshot: SnapshotMode::NoData, ..Options::default() };
    let mut load = Load::begin(workspace.source.as_mut(), Chance::of(seed)).await?;
    let mut subscription = workspace.start(stack, &options).await?;
    let signs = Signs::default();
    let stopping = signs.until_the_end_of(stop_and_start(subscription.as_mut(), &signs));
    let writing = signs.until_the_end_of(write(&mut load, workspace.source.as_mut(), &signs));
    let (stopped, written) = tokio::join!(stopping, writing);
    written.and(stopped)?;

    let fence = workspace.source.write_fence().await?;
    let stream = collect_until_fence(subscription.as_mut(), fence).await?;
    let method = workspace.method();
    load.judge(workspace.source.as_mut(), (method, &options), &stream, STOPS).await
}

async fn stop_and_start(subscription: &mut dyn Subscription, signs: &Signs) -> Result<()> {
    for _ in 0..STOPS {
        signs.some_more(SOME).await?;
        subscription.stop().await?;
        signs.some_more(SOME).await?;
        subscription.resume().await?;
    }
    Ok(())
}

async fn write(load: &mut Load, source: &mut dyn Source, signs: &Signs) -> Result<()> {
    while !signs.is_over() {
        let transfers = 1 + load.chance.below(TRANSFERS);
        load.transaction(source, transfers).await?;
        signs.committed();
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
