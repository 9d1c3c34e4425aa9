//! The judge finds what is wrong with a capture, and calls it by its name: a method, tampered with.
//!
//! A storage's test target `mutants` (with `harness = false`) is [`main`] on its catalogue and a method that loses nothing, or
//! [`main_of_several`] on some of its methods.

use std::{
    collections::{BTreeSet, VecDeque},
    process::ExitCode,
};

use async_trait::async_trait;
use changeproof::{
    Change, Op, Value,
    capture::{Capture, Options, Subject, Subscription},
    change::{DomainGtid, Gtid, LogPlace, Lsn, Position, TxId},
    error::{Error, Result},
    guarantees::Guarantees,
    judge::{FaultKind, Verdict},
    row,
    runner::{Catalogue, on_a_runtime},
    scenario::Scenario,
    source::{HARNESS_SCHEMA, Source, Storage},
    stack::{Service, run_guard_if_asked},
};
use libtest_mimic::{Arguments, Trial};

/// Runs each mutant of a method as a test: the common ones, and some more.
pub fn main(catalogue: Catalogue, method: &'static dyn Capture, more: &'static [Mutant]) -> ExitCode {
    run(catalogue, method, COMMON.iter().chain(more))
}

/// Runs mutants of a method that tells something else than changes.
pub fn main_of(catalogue: Catalogue, method: &'static dyn Capture, mutants: &'static [Mutant]) -> ExitCode {
    run(catalogue, method, mutants.iter())
}

/// Runs mutants of several methods, each as a test that bears its method's name.
pub fn main_of_several(
    catalogue: Catalogue,
    methods: &[(&'static dyn Capture, &'static [&'static [Mutant]])],
) -> ExitCode {
    run_guard_if_asked();
    let trials = methods.iter().flat_map(|(method, mutants)| {
        let prefix = format!("mutants::{}::", method.name());
        mutants.iter().copied().flatten().map(move |mutant| trial(catalogue, *method, mutant, &prefix))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn run(catalogue: Catalogue, method: &'static dyn Capture, mutants: impl Iterator<Item = &'static Mutant>) -> ExitCode {
    run_guard_if_asked();
    let trials = mutants.map(|mutant| trial(catalogue, method, mutant, "mutants::"));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn trial(catalogue: Catalogue, method: &'static dyn Capture, mutant: &'static Mutant, prefix: &str) -> Trial {
    Trial::test(format!("{prefix}{}", mutant.name), move || {
        on_a_runtime(caught(&catalogue, Box::leak(Box::new(Mutated { method, mutant }))))
    })
}

use FaultKind::{
    Duplicated, Lost, Phantom, Reordered, SplitTransaction, WrongBeforeImage, WrongCommitTime, WrongPosition,
    WrongState, WrongValue,
};

/// A capture that is wrong in one way, a scenario that shows it, and the kinds of fault that it must be told as.
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// Makes what tampers with the stream.
    pub tamper: fn() -> Box<dyn Tamper>,
    /// The scenario.
    pub scenario: &'static str,
    /// The kinds of fault.
    pub kinds: &'static [FaultKind],
}

/// What is not wrong at all, and must not be told as wrong.
pub const LEFT_ALONE: Mutant = Mutant {
    name: "one_that_is_left_alone_keeps_its_promises",
    tamper: || Box::new(|change| vec![change]),
    scenario: "several_tables_in_a_transaction",
    kinds: &[],
};

/// Changes that are lost. The scenario has six, or as a reader of tables sees it five.
pub const CHANGES_DROPPED: Mutant = Mutant {
    name: "every_third_change_dropped",
    tamper: || {
        let mut seen = 0;
        Box::new(move |change| {
            seen += 1;
            if seen % 3 == 0 { vec![] } else { vec![change] }
        })
    },
    scenario: "several_tables_in_a_transaction",
    kinds: &[Lost, WrongState],
};

/// Changes in another order.
pub const CHANGES_SWAPPED: Mutant = Mutant {
    name: "two_changes_of_a_transaction_swapped",
    tamper: || Box::new(Swap(None)),
    scenario: "several_tables_in_a_transaction",
    kinds: &[Reordered],
};

/// A change that comes again, for the method forgot that it had told it.
pub const CHANGE_REPEATED: Mutant = Mutant {
    name: "a_change_repeated_after_a_resume",
    tamper: || Box::new(RepeatAfterResume(false)),
    scenario: "capture_stopped_in_mid_transaction",
    kinds: &[Duplicated],
};

/// A value in the place of none.
pub const NULLS_AS_ZERO: Mutant = Mutant {
    name: "nulls_told_as_zero",
    tamper: || {
        Box::new(|mut change: Change| {
            if let Some(after) = &mut change.after {
                *after = after.iter().map(|(name, value)| (name, nothing_for_null(value))).collect();
            }
            vec![change]
        })
    },
    scenario: "nulls_and_defaults",
    kinds: &[WrongValue, WrongState],
};

/// What a method that tells each change whole, and its transaction, can do wrong.
pub const COMMON: &[Mutant] = &[
    LEFT_ALONE,
    CHANGES_DROPPED,
    CHANGES_SWAPPED,
    Mutant {
        name: "before_images_lost",
        tamper: || Box::new(|change| vec![Change { before: None, ..change }]),
        scenario: "nulls_and_defaults",
        kinds: &[WrongBeforeImage],
    },
    CHANGE_REPEATED,
    NULLS_AS_ZERO,
    Mutant {
        name: "each_change_told_as_a_transaction",
        tamper: || {
            let mut number = 0;
            Box::new(move |change| {
                number += 1;
                vec![Change { tx: Some(TxId::new(number.to_string())), ..change }]
            })
        },
        scenario: "several_tables_in_a_transaction",
        kinds: &[SplitTransaction],
    },
    Mutant {
        name: "a_change_invented",
        tamper: || {
            Box::new(|change: Change| {
                let (key, after) = (row! { id: -1 }, Some(row! { id: -1, balance: 0 }));
                let invented = Change { key, after, ..change.clone() };
                if change.op == Op::Insert { vec![change, invented] } else { vec![change] }
            })
        },
        scenario: "rollback_of_a_transaction",
        kinds: &[Phantom, WrongState],
    },
    Mutant {
        name: "positions_of_a_log_that_is_still_to_come",
        tamper: || Box::new(|change: Change| vec![Change { position: change.position.map(later), ..change }]),
        scenario: "several_tables_in_a_transaction",
        kinds: &[WrongPosition],
    },
    Mutant {
        name: "commit_times_in_milliseconds",
        tamper: || {
            Box::new(|change: Change| {
                vec![Change { commit_time_us: change.commit_time_us.map(|time_us| time_us / 1000), ..change }]
            })
        },
        scenario: "several_tables_in_a_transaction",
        kinds: &[WrongCommitTime],
    },
];

fn later(position: Position) -> Position {
    match position {
        Position::Lsn(Lsn(lsn)) => Position::Lsn(Lsn(lsn + (1 << 32))),
        Position::Gtid(gtid) => Position::Gtid(Gtid { number: gtid.number + 1000, ..gtid }),
        Position::DomainGtid(gtid) => Position::DomainGtid(DomainGtid { number: gtid.number + 1000, ..gtid }),
        Position::Log(place) => Position::Log(LogPlace { file: place.file + 1, ..place }),
        other => other,
    }
}

fn nothing_for_null(value: &Value) -> Value {
    if value.is_null() { Value::Int(0) } else { value.clone() }
}

async fn caught(catalogue: &Catalogue, mutated: &'static Mutated) -> Result<()> {
    let mutant = mutated.mutant;
    let missing = || Error::new("the test", "find the scenario", mutant.scenario);
    let scenario = catalogue.scenarios().into_iter().find(|scenario| scenario.name == mutant.scenario);
    let outcome = Scenario::examine(scenario.ok_or_else(missing)?, mutated).await?;
    let kinds: BTreeSet<FaultKind> = match &outcome.verdict {
        Verdict::Broken { faults } => faults.iter().map(|fault| fault.kind).collect(),
        _ => BTreeSet::new(),
    };
    if kinds == mutant.kinds.iter().copied().collect() {
        return Ok(());
    }
    Err(Error::new("the judge", format!("see just {:?}", mutant.kinds), outcome.page))
}

/// What is done to a stream on its way. The harness's own changes are left alone.
pub trait Tamper: Send {
    /// What becomes of a change.
    fn change(&mut self, change: Change) -> Vec<Change>;

    /// What is still held back comes now.
    fn rest(&mut self) -> Option<Change> {
        None
    }

    /// The capture has been stopped and goes on.
    fn resumed(&mut self) {}
}

impl<F: FnMut(Change) -> Vec<Change> + Send> Tamper for F {
    fn change(&mut self, change: Change) -> Vec<Change> {
        self(change)
    }
}

/// Holds a transaction's first change back until its second has come by.
struct Swap(Option<Change>);

impl Tamper for Swap {
    fn change(&mut self, change: Change) -> Vec<Change> {
        match self.0.take() {
            Some(first) if first.tx == change.tx => vec![change, first],
            first => {
                self.0 = Some(change);
                first.into_iter().collect()
            }
        }
    }

    fn rest(&mut self) -> Option<Change> {
        self.0.take()
    }
}

struct RepeatAfterResume(bool);

impl Tamper for RepeatAfterResume {
    fn change(&mut self, change: Change) -> Vec<Change> {
        if std::mem::take(&mut self.0) { vec![change.clone(), change] } else { vec![change] }
    }

    fn resumed(&mut self) {
        self.0 = true;
    }
}

/// A method with something wrong.
struct Mutated {
    method: &'static dyn Capture,
    mutant: &'static Mutant,
}

#[async_trait]
impl Capture for Mutated {
    fn name(&self) -> &'static str {
        "mutant"
    }

    fn summary(&self) -> &'static str {
        self.mutant.name
    }

    fn storage(&self) -> &'static dyn Storage {
        self.method.storage()
    }

    fn services(&self) -> &'static [Service] {
        self.method.services()
    }

    fn needs_own_server(&self) -> Option<&'static str> {
        self.method.needs_own_server()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        self.method.guarantees(options)
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        self.method.prepare(subject).await
    }

    async fn end_of_history(&self, source: &dyn Source) -> Result<Position> {
        self.method.end_of_history(source).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let inner = self.method.start(subject, options).await?;
        Ok(Box::new(Tampered { inner, tamper: (self.mutant.tamper)(), ready: VecDeque::new() }))
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        self.method.clean_up(subject).await
    }
}

struct Tampered {
    inner: Box<dyn Subscription>,
    tamper: Box<dyn Tamper>,
    ready: VecDeque<Change>,
}

#[async_trait]
impl Subscription for Tampered {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let change = self.inner.next().await?;
            if change.table.schema() == HARNESS_SCHEMA {
                self.ready.extend(self.tamper.rest());
                self.ready.push_back(change);
            } else {
                self.ready.extend(self.tamper.change(change));
            }
        }
    }

    fn waiting_for(&self) -> String {
        self.inner.waiting_for()
    }

    async fn stop(&mut self) -> Result<()> {
        self.inner.stop().await
    }

    async fn resume(&mut self) -> Result<()> {
        self.tamper.resumed();
        self.inner.resume().await
    }
}
