//! Services that fail amid a load, under all three pipelines at once. In the end each sink must hold what the source holds.
//!
//! The services are this test's own, in a state of their own: others don't survive what happens here.

mod amid;
mod once;
mod outage;

use std::{process::ExitCode, time::Duration};

use changeproof::{
    error::Result,
    stack::{Service, Stack, docker},
};
use scenarios_pipelines::apart;
use scenarios_relational::load::Chance;

fn main() -> ExitCode {
    apart::main(
        "-kills",
        &[
            ("kills::each_component_in_turn", || Box::pin(each_component_in_turn())),
            ("kills::sinks_that_are_down_for_20_s", || Box::pin(outage::sinks_that_are_down_for_20_s())),
        ],
    )
}

/// Exactly once, by proof. The check of a changelog looks at the last record of each key, and so the records are counted too.
async fn each_component_in_turn() -> Result<()> {
    let killing = amid::a_load(async |pipelines| {
        let killed = kill_each(pipelines.stack, Chance::seeded()).await;
        pipelines.end_the_load();
        killed?;
        pipelines.wait_until_equal().await?;
        once::must_have_each_change_once(pipelines).await
    });
    Box::pin(killing).await
}

/// Kills each component and starts it again, in an order and after pauses of chance.
async fn kill_each(stack: &Stack, mut chance: Chance) -> Result<()> {
    let mut components = vec![Service::Connect, Service::Kafka, Service::Spark, Service::IcebergRest, Service::Minio];
    while !components.is_empty() {
        let at = usize::try_from(chance.below(components.len() as u64)).unwrap_or_default();
        let component = components.swap_remove(at);
        tokio::time::sleep(Duration::from_millis(2000 + chance.below(3000))).await;
        let container = &stack.endpoint(component)?.container;
        docker::kill(container).await?;
        let down = Duration::from_millis(chance.below(4000));
        println!("{} is killed, and down for {} ms", component.title(), down.as_millis());
        tokio::time::sleep(down).await;
        docker::start_again(container).await?;
    }
    Ok(())
}
