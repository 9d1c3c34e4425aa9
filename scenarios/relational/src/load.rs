//! A load: transactions of chance on two tables, one after another, and the Model of them.

use std::collections::BTreeSet;

use changeproof::{
    error::{Context, Result},
    model::Model,
    row,
    schema::Type,
    script::{Step, TableBuilder, TableRef, begin, commit, create},
    source::Source,
};

/// A seeded choice.
pub struct Chance(u64);

impl Chance {
    /// By a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// By `CHANGEPROOF_SEED`, or always the same.
    pub fn seeded() -> Self {
        Self(std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229))
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
    transfers: TableRef,
    there: BTreeSet<i32>,
    chance: Chance,
    number: i32,
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
        };
        load.apply(source, create(&accounts)).await?;
        load.apply(source, create(&transfers)).await?;
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

    /// A number below another, by the load's own chance.
    pub fn chance(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }
}
