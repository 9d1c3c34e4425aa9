//! A load: transactions of chance on two tables, one after another, and the Model of them.

use std::{collections::BTreeSet, time::Duration};

use changeproof::{
    Change,
    capture::{Capture, Options},
    error::{Context, Error, Result},
    evidence::{check_model, judge_by_both},
    judge::Watch,
    model::Model,
    row,
    schema::Type,
    script::{Step, TableBuilder, TableRef, begin, commit, create},
    source::Source,
};
use tokio::{sync::watch, time::timeout};

/// The seed of all that is random, unless another is given.
pub const DEFAULT_SEED: u64 = 20_240_229;

/// How long some transactions may take.
const COMMITTED_WITHIN: Duration = Duration::from_secs(60);

/// A seeded choice.
pub struct Chance(u64);

impl Chance {
    /// By a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// By `CHANGEPROOF_SEED`, or always the same.
    pub fn seeded() -> Self {
        Self(std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(DEFAULT_SEED))
    }

    /// A number below another.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Transfers, of which there are ever more, and accounts, which come, change and go.
pub struct Load {
    /// What has happened so far.
    pub model: Model,
    /// The table of accounts.
    pub accounts: TableRef,
    /// What it chooses by.
    pub chance: Chance,
    transfers: TableRef,
    there: BTreeSet<i32>,
    number: i32,
    /// How many transactions there were before the first transfer.
    began: usize,
}

impl Load {
    /// Creates the tables.
    ///
    /// # Errors
    /// The source refuses them.
    pub async fn begin(source: &mut dyn Source, chance: Chance) -> Result<Self> {
        let accounts = TableBuilder::new("accounts").key("id", Type::Int).column("balance", Type::BigInt);
        let transfers = TableBuilder::new("transfers").key("id", Type::Int).column("amount", Type::Int);
        let mut load = Self {
            model: Model::default(),
            accounts: accounts.handle(),
            transfers: transfers.handle(),
            there: BTreeSet::new(),
            chance,
            number: 0,
            began: 0,
        };
        load.apply(source, create(&accounts)).await?;
        load.apply(source, create(&transfers)).await?;
        load.began = load.model.committed().len();
        Ok(load)
    }

    /// How many transfers there have been.
    pub fn transfers(&self) -> u32 {
        self.number.unsigned_abs()
    }

    /// Applies a step, which the Model follows.
    ///
    /// # Errors
    /// The source refuses it.
    pub async fn apply(&mut self, source: &mut dyn Source, step: Step) -> Result<()> {
        source.apply(&step).await?;
        self.model.apply(&step).while_doing("the Model", "follow the load")
    }

    /// Commits so many transfers, each with an account that comes, changes or goes.
    ///
    /// # Errors
    /// The source refuses them.
    pub async fn transaction(&mut self, source: &mut dyn Source, transfers: u64) -> Result<()> {
        self.apply(source, begin()).await?;
        for _ in 0..transfers {
            self.number += 1;
            let id = i32::try_from(self.chance.below(30)).unwrap_or_default();
            let account = self.account(id);
            self.apply(source, self.transfers.insert(row! { id: self.number, amount: id })).await?;
            self.apply(source, account).await?;
        }
        self.apply(source, commit()).await
    }

    fn account(&mut self, id: i32) -> Step {
        let balance = i64::from(self.number);
        if self.there.insert(id) {
            return self.accounts.insert(row! { id: id, balance: balance });
        }
        if self.chance.below(5) > 0 {
            return self.accounts.update(id, row! { balance: balance });
        }
        self.there.remove(&id);
        self.accounts.delete(id)
    }

    /// Judges what a method that began to capture before the first transfer has delivered of all of it, over so many breaks.
    ///
    /// # Errors
    /// It doesn't keep its promises; or the Model differs from the source.
    pub async fn judge(
        &self,
        source: &mut dyn Source,
        (method, options): (&dyn Capture, &Options),
        stream: &[Change],
        breaks: usize,
    ) -> Result<()> {
        let contents = source.contents().await?;
        check_model(self.model.tables(), &contents)?;
        let watch = Watch { began: (self.began, self.began), breaks, ..Watch::default() };
        let verdict = judge_by_both(&self.model, &method.guarantees(options), &watch, stream, &contents).verdict;
        println!("{}: {} transfers, {} changes: {verdict}", method.name(), self.transfers(), stream.len());
        match verdict.is_broken() {
            true => Err(Error::new(method.name(), "keep its promises", verdict)),
            false => Ok(()),
        }
    }
}

/// What a load, or several, and those who act amid it know of each other.
#[derive(Default)]
pub struct Signs(watch::Sender<Sign>);

#[derive(Default)]
struct Sign {
    committed: u32,
    is_over: bool,
}

impl Signs {
    /// Whether nothing more is to be written.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_over
    }

    /// A transaction has been committed.
    pub fn committed(&self) {
        self.0.send_modify(|sign| sign.committed += 1);
    }

    /// Waits until so many more transactions have been committed.
    ///
    /// # Errors
    /// They aren't within a minute, or the load is over.
    pub async fn some_more(&self, transactions: u32) -> Result<()> {
        let until = self.0.borrow().committed + transactions;
        let mut signs = self.0.subscribe();
        let reached = timeout(COMMITTED_WITHIN, signs.wait_for(|sign| sign.is_over || sign.committed >= until)).await;
        match reached {
            Ok(Ok(sign)) if sign.committed >= until => Ok(()),
            Ok(_) => Err(Error::new("the load", "go on", "it is over")),
            Err(_) => Err(Error::new("the load", "go on", "a minute has passed")),
        }
    }

    /// Does something at whose end the load is over, whatever has come of it: those beside it would write, or wait, for ever.
    pub async fn until_the_end_of<T>(&self, work: impl Future<Output = T>) -> T {
        let done = work.await;
        self.0.send_modify(|sign| sign.is_over = true);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_wait_hear_that_a_load_is_over_however_it_ended() {
        let signs = Signs::default();
        let failing = signs.until_the_end_of(async { Err::<(), _>("refused") });
        let (waited, ended) = tokio::join!(signs.some_more(1), failing);
        assert!(ended.is_err() && signs.is_over());
        assert!(waited.is_err_and(|error| error.to_string().contains("it is over")));
    }

    #[tokio::test]
    async fn some_more_are_those_that_come_from_now_on() {
        let signs = Signs::default();
        signs.committed();
        let (waited, ()) = tokio::join!(signs.some_more(2), async {
            signs.committed();
            tokio::task::yield_now().await;
            signs.committed();
        });
        assert!(waited.is_ok() && !signs.is_over());
    }
}
