//! How a scenario ends: by the judge, or by a capture that rightly says that it can't go on.

use std::collections::BTreeSet;

use super::{Outcome, Scenario};
use crate::{
    capture::SnapshotMode,
    error::{Error, Result},
    evidence::{check_model, judge_by_both},
    guarantees::{Loss, Order},
    judge::{Contents, FaultKind, Verdict, judge_beginning, out_of_place, same_event},
    model::Model,
    text,
};

/// A flaw of a method, which its stream must show, or an end that it must come to.
#[derive(Clone, Copy, Debug)]
pub struct KnownFlaw<'a> {
    method: &'a str,
    on: Option<&'a str>,
    shown: Shown<'a>,
}

/// In what a flaw shows.
#[derive(Clone, Copy, Debug)]
enum Shown<'a> {
    Faults {
        reference: &'a str,
        kinds: &'a [FaultKind],
    },
    Stall {
        reference: &'a str,
        told: &'a str,
    },
    Refusal {
        told: &'a str,
    },
    /// What it has told before is wrong too.
    WrongUntilRefusal {
        told: &'a str,
        reference: &'a str,
        kinds: &'a [FaultKind],
    },
}

impl<'a> KnownFlaw<'a> {
    /// The flaw of a method: where it is described, and the faults that it makes, each as often as it is named.
    pub fn of(method: &'a str, reference: &'a str, kinds: &'a [FaultKind]) -> Self {
        Self { method, on: None, shown: Shown::Faults { reference, kinds } }
    }

    /// The flaw of a method that can't go on, and waits instead of saying so. The words are those of its capture in this harness,
    /// which tells what the method has written to its log.
    pub fn stalls(method: &'a str, reference: &'a str, told: &'a str) -> Self {
        Self { method, on: None, shown: Shown::Stall { reference, told } }
    }

    /// No flaw: a method that can't go on, and says so in these words.
    pub fn stops(method: &'a str, told: &'a str) -> Self {
        Self { method, on: None, shown: Shown::Refusal { told } }
    }

    /// The same, whose stream shows just these faults until then: each as often as it is named, in the order of [`FaultKind`].
    #[must_use]
    pub fn having_told(self, reference: &'a str, kinds: &'a [FaultKind]) -> Self {
        match self.shown {
            Shown::Refusal { told } => Self { shown: Shown::WrongUntilRefusal { told, reference, kinds }, ..self },
            _ => self,
        }
    }

    /// One that it has on the storage of this title only.
    #[must_use]
    pub fn on(self, storage: &'a str) -> Self {
        Self { on: Some(storage), ..self }
    }
}

impl Scenario {
    /// Starts the capture again where it can't go on without a gap: it must say so, in these words of its method.
    ///
    /// # Errors
    /// It goes on, or says something else.
    pub async fn must_refuse_to_resume(&mut self, words: &[(&str, &str)]) -> Result<()> {
        self.must_refuse(words, |told| Verdict::Refused { told: told.to_owned() }).await
    }

    /// As [`Scenario::must_refuse_to_resume`], but a method with a known flaw waits instead of saying so; the words are then
    /// those of its capture in this harness, which tells what the method has written to its log.
    ///
    /// # Errors
    /// It goes on, or says something else.
    pub async fn must_refuse_or_stall(&mut self, words: &[(&str, &str)], flawed: &str, reference: &str) -> Result<()> {
        let is_flawed = self.method.name() == flawed;
        let stalled = || Verdict::KnownFlaw { reference: reference.to_owned(), kinds: [FaultKind::Stalled].into() };
        let refused = |told: &str| Verdict::Refused { told: told.to_owned() };
        self.must_refuse(words, |told| if is_flawed { stalled() } else { refused(told) }).await
    }

    /// Starts the capture where it can't begin: it must say so, in these words of its method.
    ///
    /// # Errors
    /// It begins, or says something else.
    pub async fn must_refuse_to_start(&mut self, words: &[(&str, &str)]) -> Result<()> {
        let started = self.start_capture().await;
        self.must_have_refused(started, self.told(words), &[], |told| Verdict::Refused { told: told.to_owned() })
    }

    /// What is said for the method in a list.
    fn told<'a>(&self, words: &[(&str, &'a str)]) -> &'a str {
        words.iter().find(|(name, _)| *name == self.method.name()).map_or("", |(_, words)| *words)
    }

    async fn must_refuse(&mut self, words: &[(&str, &str)], verdict: impl FnOnce(&str) -> Verdict) -> Result<()> {
        let resumed = self.subscription()?.resume().await;
        let went_on = match resumed {
            Ok(()) => self.catch_up().await,
            refused => refused,
        };
        self.must_have_refused(went_on, self.told(words), &[], verdict)
    }

    fn must_have_refused(
        &mut self,
        went_on: Result<()>,
        told: &str,
        wrong: &[FaultKind],
        verdict: impl FnOnce(&str) -> Verdict,
    ) -> Result<()> {
        let method = self.method.name();
        match went_on {
            Err(error) if !told.is_empty() && error.to_string().contains(told) => {
                let guarantees = self.method.guarantees(&self.options);
                let shown = self.shown.as_ref().map(|shown| shown.of(&self.model).0);
                let model = shown.as_ref().unwrap_or(&self.model);
                let faults = judge_beginning(model, &guarantees, &self.watch, &self.stream);
                let mut kinds: Vec<_> = faults.iter().map(|fault| fault.kind).collect();
                kinds.sort_unstable();
                if kinds != wrong {
                    let broken = Verdict::Broken { faults };
                    let page = format!("{broken}\n{}", text::stream(&self.stream, |_| None));
                    return Err(Error::new(method, "tell what happened until it could not go on", page));
                }
                let verdict = verdict(told);
                let stream = if wrong.is_empty() { String::new() } else { text::stream(&self.stream, |_| None) };
                let page = format!("{method} · {} · {verdict}\n{stream}", self.name);
                self.outcome = Some(Outcome { verdict, page });
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                let seen = format!("it went on, with {} changes: a silent gap", self.stream.len());
                Err(Error::new(method, "refuse to go on", seen))
            }
        }
    }

    /// Waits until everything has been captured and judges it by both oracles.
    ///
    /// # Errors
    /// A promise is broken: the message has the faults and the stream.
    pub async fn judge(&mut self) -> Result<()> {
        self.judge_and(|verdict| verdict).await
    }

    /// Judges a stream that must show a known flaw if it is of this method: just these faults, each as often as it is named.
    /// The streams of all other methods must show none.
    ///
    /// # Errors
    /// The faults are others, or there are none because the flaw has been mended.
    pub async fn judge_known_flaw(&mut self, method: &str, reference: &str, kinds: &[FaultKind]) -> Result<()> {
        self.judge_known_flaws(&[KnownFlaw::of(method, reference, kinds)]).await
    }

    /// As [`Scenario::judge_known_flaw`], of several methods, or on the sources of one storage.
    ///
    /// # Errors
    /// The faults are others, or there are none because the flaw has been mended.
    pub async fn judge_known_flaws(&mut self, flaws: &[KnownFlaw<'_>]) -> Result<()> {
        let (method, storage) = (self.method.name(), self.method.storage().title());
        let is_here = |flaw: &&KnownFlaw<'_>| flaw.method == method && flaw.on.is_none_or(|on| on == storage);
        let Some(KnownFlaw { shown, .. }) = flaws.iter().find(is_here) else {
            return self.judge().await;
        };
        match shown {
            Shown::Faults { reference, kinds } => self.must_show(reference, kinds).await,
            Shown::Stall { told, reference } => {
                let went_on = self.catch_up().await;
                let (reference, kinds) = ((*reference).to_owned(), [FaultKind::Stalled].into());
                self.must_have_refused(went_on, told, &[], |_| Verdict::KnownFlaw { reference, kinds })
            }
            Shown::Refusal { told } | Shown::WrongUntilRefusal { told, .. } => {
                let mut went_on = self.catch_up().await;
                if went_on.is_err() {
                    // Who asks again is told again, and not given what stands after that; but perhaps what stands before it.
                    let told = self.stream.len();
                    went_on = self.catch_up().await;
                    let again = self.stream.split_off(told);
                    if let Some(new) =
                        again.iter().find(|change| !self.stream.iter().any(|told| same_event(told, change)))
                    {
                        let seen = format!("asked again, it told more: {}", text::line(new, None));
                        return Err(Error::new(self.method.name(), "refuse to go on", seen));
                    }
                }
                let (wrong, verdict) = match shown {
                    Shown::WrongUntilRefusal { reference, kinds, .. } => {
                        let (reference, all) = ((*reference).to_owned(), kinds.iter().copied().collect());
                        (*kinds, Verdict::KnownFlaw { reference, kinds: all })
                    }
                    _ => (&[][..], Verdict::Refused { told: (*told).to_owned() }),
                };
                self.must_have_refused(went_on, told, wrong, |_| verdict)
            }
        }
    }

    async fn must_show(&mut self, reference: &str, kinds: &[FaultKind]) -> Result<()> {
        self.judge_and(|verdict| verdict.explained_by(reference, kinds)).await?;
        match &self.outcome {
            Some(Outcome { verdict: Verdict::KnownFlaw { .. }, .. }) => Ok(()),
            _ => Err(Error::new(self.name, "see a known flaw", "the stream doesn't show it")
                .help(format!("if {reference} has been mended, end the scenario with s.judge()"))),
        }
    }

    async fn judge_and(&mut self, explain: impl FnOnce(Verdict) -> Verdict) -> Result<()> {
        self.catch_up().await?;
        let contents = self.workspace.source.contents().await?;
        check_model(self.model.tables(), &contents)?;
        let verdict = match &self.shown {
            None => self.verdict(&self.model, &contents, BTreeSet::new(), explain),
            Some(shown) => {
                let (view, losses) = shown.of(&self.model);
                self.verdict(&view, &shown.contents(contents), losses, explain)
            }
        };
        let outcome = self.outcome.insert(verdict);
        match outcome.verdict.is_broken() {
            true => Err(Error::new(self.method.name(), "keep its promises", &outcome.page)),
            false => Ok(()),
        }
    }

    fn verdict(
        &self,
        model: &Model,
        contents: &Contents,
        hidden: BTreeSet<Loss>,
        explain: impl FnOnce(Verdict) -> Verdict,
    ) -> Outcome {
        let stream = &self.stream;
        let guarantees = self.method.guarantees(&self.options);
        let judgement = judge_by_both(model, &guarantees, &self.watch, stream, contents);
        let may_come_again = self.watch.may_come_again(&guarantees);
        let mut losses = hidden;
        if self.options.snapshot == SnapshotMode::Initial && !guarantees.initial_snapshot {
            losses.insert(Loss::ExistingRowsMissed);
        }
        let out_of_place = out_of_place(stream, &self.watch, may_come_again);
        let verdict = explain(judgement.verdict.and(out_of_place, losses));
        let is_same_each_run = self.watch.began.0 == self.watch.began.1 || verdict.is_broken();
        let body = if may_come_again && !verdict.is_broken() {
            text::repeated(stream)
        } else if is_same_each_run {
            let mut told: Vec<_> = stream.iter().cloned().zip(judgement.matched).collect();
            if guarantees.order != Order::Commit && !verdict.is_broken() {
                // What comes first where no order is promised differs from run to run, and means nothing.
                told.sort_by_key(|(_, matched)| matched.as_ref().map(|(at, _)| *at));
            }
            let (stream, matched): (Vec<_>, Vec<_>) = told.into_iter().unzip();
            text::stream(&stream, |at| {
                let before = matched.get(at)?.as_ref()?.1.before.as_ref();
                Some(before.map(|b| b.columns().map(str::to_owned).collect()).unwrap_or_default())
            })
        } else if self.watch.overlaps(&guarantees) || guarantees.snapshot_amid_changes {
            text::overlapping(stream)
        } else {
            text::handover(stream)
        };
        let page = format!("{} · {} · {verdict}\n{body}", self.method.name(), self.name);
        Outcome { verdict, page }
    }
}
