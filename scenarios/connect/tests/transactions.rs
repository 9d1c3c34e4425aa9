//! Transactions of Kafka: a relay that writes each transaction of the source as one of Kafka's, and its positions with it. It is cut off amid one;
//! the next one goes on where the last committed transaction ended, and readers of what is committed see each change once.

use std::{collections::BTreeSet, fmt::Write, process::ExitCode, time::Duration};

use changeproof::{
    Change,
    capture::{Options, collect_until_fence},
    dead_letters::read,
    error::{Context, Error, Result},
    kafka::{self, Brokers},
    logical::LogicalReplication,
    postgres,
    runner::on_a_runtime,
    source::Place,
    stack::{Service, Stack, run_guard_if_asked},
    workspace::Workspace,
};
use libtest_mimic::{Arguments, Failed, Trial};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

const WITHIN: Duration = Duration::from_secs(20);

/// The services of the source, and Kafka.
const SERVICES: [Service; 2] = [Service::Postgres, Service::Kafka];

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        Trial::test("relay::in_transactions", || documented("in_transactions", true)),
        Trial::test("relay::without_transactions", || documented("without_transactions", false)),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn documented(name: &str, in_transactions: bool) -> Result<(), Failed> {
    let page = on_a_runtime(relayed(in_transactions))?;
    scenarios_connect::document("transactions", name, file!(), &page);
    Ok(())
}

/// A change as the relay writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Relayed {
    /// The number of the source's transaction, from 1, by which the relay knows how far it has come.
    transaction: usize,
    what: String,
}

impl Relayed {
    fn value(&self) -> String {
        format!("{} {}", self.transaction, self.what)
    }

    fn of(value: &[u8]) -> Option<Self> {
        let (transaction, what) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self { transaction: transaction.parse().ok()?, what: what.to_owned() })
    }
}

/// One that writes to a topic of one partition.
struct Relay {
    producer: BaseProducer,
    topic: String,
    in_transactions: bool,
}

impl Relay {
    /// Who starts with the same identifier ends what the one before it has begun (Kafka's documentation, 4.7 "Using Transactions").
    fn start(brokers: &Brokers, topic: &str, in_transactions: bool) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.extend(brokers.settings().clone());
        config.set("acks", "all").set("enable.idempotence", "true");
        if in_transactions {
            config.set("transactional.id", topic);
        }
        let producer: BaseProducer = config.create().while_doing("the relay", "make a producer")?;
        if in_transactions {
            producer.init_transactions(WITHIN).while_doing("the relay", "begin")?;
        }
        Ok(Self { producer, topic: topic.to_owned(), in_transactions })
    }

    fn write(&self, changes: &[Relayed]) -> Result<()> {
        if self.in_transactions {
            self.producer.begin_transaction().while_doing("the relay", "begin a transaction")?;
        }
        for change in changes {
            let value = change.value();
            let record = BaseRecord::<(), _>::to(&self.topic).partition(0).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).while_doing("the relay", "write")?;
        }
        self.producer.flush(WITHIN).while_doing("the relay", "write")
    }

    fn commit(&self) -> Result<(), KafkaError> {
        if self.in_transactions { self.producer.commit_transaction(WITHIN) } else { Ok(()) }
    }
}

/// What readers of a level of isolation see.
async fn seen(brokers: &Brokers, topic: &str, isolation: &str) -> Result<Vec<Relayed>> {
    let letters = read(&brokers.clone().with("isolation.level", isolation), topic).await?;
    let seen = letters.iter().filter_map(|letter| Relayed::of(letter.value.as_deref()?));
    Ok(seen.collect())
}

/// What the relay has to write, read out of a real log.
async fn log(stack: &Stack, workspace: &mut Workspace) -> Result<Vec<Vec<Relayed>>> {
    let sql = [
        "INSERT INTO orders VALUES (1, 'new'), (2, 'new')",
        "UPDATE orders SET state = 'paid'; INSERT INTO orders VALUES (3, 'new'); DELETE FROM orders WHERE id = 1",
        "UPDATE orders SET state = 'sent' WHERE id = 2",
    ];
    let create = "CREATE TABLE orders (id int PRIMARY KEY, state text)";
    let run = |sql: String| {
        let client = workspace.source.as_a::<postgres::Source>().map(postgres::Source::admin);
        async move { client?.batch_execute(&sql).await.while_doing("PostgreSQL", format!("run {sql}")) }
    };
    run(create.to_owned()).await?;
    let mut subscription = workspace.start(stack, &Options::default()).await?;
    for sql in sql {
        run(format!("BEGIN; {sql}; COMMIT")).await?;
    }
    let fence = workspace.source.write_fence().await?;
    let changes = collect_until_fence(subscription.as_mut(), fence).await?;
    Ok(by_transaction(&changes))
}

fn by_transaction(changes: &[Change]) -> Vec<Vec<Relayed>> {
    let transactions = changes.chunk_by(|a, b| a.tx == b.tx);
    let relayed = |(number, changes): (usize, &[Change])| {
        let what = |change: &Change| {
            let row = change.after.as_ref().unwrap_or(&change.key);
            let columns: Vec<_> = row.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Relayed { transaction: number, what: format!("{:?} {}", change.op, columns.join(" ")) }
        };
        changes.iter().map(what).collect()
    };
    (1..).zip(transactions).map(relayed).collect()
}

async fn relayed(in_transactions: bool) -> Result<String> {
    let stack = Stack::acquire(&SERVICES).await?;
    let mut workspace = Workspace::open(&stack, &LogicalReplication, Place::Memory).await?;
    let transactions = log(&stack, &mut workspace).await?;
    let [first, second, third] = transactions.as_slice() else {
        return Err(Error::new("the test", "read three transactions", format!("{transactions:?}")));
    };
    let kafka = stack.endpoint(Service::Kafka)?;
    let brokers = Brokers::of(kafka);
    let topic = format!("{}.relayed", workspace.subject(&stack).name);
    kafka::create_ordered(kafka, &[&topic]).await?;

    let cut_off = Relay::start(&brokers, &topic, in_transactions)?;
    cut_off.write(first)?;
    cut_off.commit().while_doing("the relay", "commit")?;
    let (half, _) = second.split_at(2);
    cut_off.write(half)?;
    let mut page = String::from("A relay has written a transaction, and half of the next one, when it is cut off:\n");
    tell(&mut page, &brokers, &topic).await?;

    // The one after it goes on where what is committed ends.
    let next = Relay::start(&brokers, &topic, in_transactions)?;
    let last = seen(&brokers, &topic, "read_committed").await?.last().map_or(0, |change| change.transaction);
    let to_come: Vec<_> = transactions.iter().filter(|changes| changes.iter().all(|c| c.transaction > last)).collect();
    // Without transactions nobody can say whether the last one is there as a whole: it has to be written again.
    let to_come = if in_transactions { to_come } else { vec![second, third] };
    for changes in to_come {
        next.write(changes)?;
        next.commit().while_doing("the relay", "commit")?;
    }
    page.push_str("\nAnother one has gone on:\n");
    tell(&mut page, &brokers, &topic).await?;

    if in_transactions {
        let refused = cut_off.commit();
        let is_fenced =
            matches!(&refused, Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::Fenced);
        if !is_fenced {
            return Err(Error::new("Kafka", "refuse the relay that was cut off", format!("{refused:?}")));
        }
        page.push_str(
            "\nThe first one is there again, and commits: it is refused, since another has its identifier by now\n",
        );
    }

    let truth: Vec<_> = transactions.concat();
    let committed = seen(&brokers, &topic, "read_committed").await?;
    let all = seen(&brokers, &topic, "read_uncommitted").await?;
    let is_once = committed == truth;
    let is_twice = all.len() == truth.len() + half.len() && all.iter().collect::<BTreeSet<_>>().len() == truth.len();
    if is_once != in_transactions || !is_twice {
        return Err(Error::new(
            "the test",
            "find each change once only where it must be",
            format!("{committed:?}, {all:?}"),
        ));
    }
    kafka::remove(kafka, &topic).await?;
    workspace.close(&stack).await?;
    Ok(page)
}

async fn tell(page: &mut String, brokers: &Brokers, topic: &str) -> Result<()> {
    for isolation in ["read_committed", "read_uncommitted"] {
        let _ = writeln!(page, "  {isolation}:");
        for change in seen(brokers, topic, isolation).await? {
            let _ = writeln!(page, "    transaction {}: {}", change.transaction, change.what);
        }
    }
    Ok(())
}
