//! `cdc up`, `down`, `ps`, `sweep`: the services, by hand.

use changeproof::stack::{self, Service, Stack};
use clap::{Args, ValueEnum};

use crate::exit::Failure;

/// Services that belong together.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StackName {
    /// PostgreSQL alone
    Postgres,
    /// MySQL alone
    Mysql,
    /// MariaDB alone
    Mariadb,
    /// Kafka alone
    Kafka,
    /// PostgreSQL, Kafka, and Kafka Connect with Debezium
    Debezium,
    /// MinIO and Iceberg's REST catalog
    Lakehouse,
}

/// Starts services.
#[derive(Args, Debug)]
pub(crate) struct UpArguments {
    /// What to start
    #[arg(value_enum)]
    stack: StackName,
}

pub(crate) async fn up(arguments: &UpArguments) -> Result<(), Failure> {
    let services: &[Service] = match arguments.stack {
        StackName::Postgres => &[Service::Postgres],
        StackName::Kafka => &[Service::Kafka],
        StackName::Debezium => &[Service::Postgres, Service::Kafka, Service::Connect],
        StackName::Lakehouse => &[Service::Minio, Service::IcebergRest],
        StackName::Mysql => &[Service::Mysql],
        StackName::Mariadb => &[Service::Mariadb],
    };
    let titles: Vec<_> = services.iter().map(|service| service.title()).collect();
    anstream::eprintln!("starting {} …", titles.join(", "));
    let stack = tokio::select! {
        stack = stack::up(services) => stack?,
        () = crate::exit::interrupted() => {
            anstream::eprintln!("what has been started stays; `cdc down` removes it");
            return Err(Failure::Interrupted);
        }
    };
    print(&stack, services)?;
    anstream::println!("`cdc down` removes them.");
    Ok(())
}

fn print(stack: &Stack, services: &[Service]) -> Result<(), Failure> {
    for service in services {
        let endpoint = stack.endpoint(*service)?;
        anstream::println!("{:14} {}", service.title(), endpoint.describe(*service));
        anstream::println!("{:14} container {}, {} MB", "", endpoint.container, service.memory_mb());
    }
    Ok(())
}

pub(crate) async fn ps() -> Result<(), Failure> {
    let running = stack::running().await?;
    if running.is_empty() {
        anstream::println!("no service is running; `cdc up` starts some");
    }
    for (service, endpoint) in running {
        anstream::println!("{:14} {}", service.title(), endpoint.describe(service));
        anstream::println!("{:14} container {}, {}", "", endpoint.container, endpoint.image);
    }
    Ok(())
}

/// Removes the services that nobody uses: what `cdc up` has started, what was kept, and what a crash has left.
pub(crate) async fn remove() -> Result<(), Failure> {
    let removed = stack::sweep().await?;
    if removed.is_empty() {
        anstream::println!("there was nothing to remove");
    }
    for name in removed {
        anstream::println!("removed {name}");
    }
    Ok(())
}
