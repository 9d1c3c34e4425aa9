//! A transaction whose end hasn't come yet.

use super::{seen::Id, told::Told};
use crate::{
    change::{Change, TxId},
    schema::TableName,
};

#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: Id,
    tx: TxId,
    commit_time_us: Option<i64>,
    /// The name of a transaction in two phases.
    pub(super) xid: Option<String>,
    pub(super) changes: Vec<Change>,
    /// Whether statements don't end it, as one that changes a definition does otherwise.
    pub(super) is_group: bool,
    /// Whether its statement only begins to change a definition, or gave up.
    pub(super) is_without_effect: bool,
    pub(super) prepared_before: Option<String>,
    /// What had been told of tables before it tells that they have another shape.
    pub(super) told_before: Vec<(TableName, Told)>,
    savepoints: Vec<Savepoint>,
}

/// How much there was of a transaction when it set a savepoint.
#[derive(Debug)]
struct Savepoint {
    name: String,
    changes: usize,
    told: usize,
}

impl Open {
    pub(super) fn new(id: Id, commit_time_us: Option<i64>) -> Self {
        Self {
            id,
            tx: TxId::new(id.to_string()),
            commit_time_us,
            xid: None,
            changes: Vec::new(),
            is_group: false,
            is_without_effect: false,
            prepared_before: None,
            told_before: Vec::new(),
            savepoints: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mut change: Change) {
        self.stamp(&mut change);
        self.changes.push(change);
    }

    /// Tells of a change that it belongs to this transaction.
    fn stamp(&self, change: &mut Change) {
        change.position = Some(self.id.position());
        change.tx = Some(self.tx.clone());
        change.commit_time_us = self.commit_time_us;
    }

    pub(super) fn set_savepoint(&mut self, name: String) {
        self.savepoints.push(Savepoint { name, changes: self.changes.len(), told: self.told_before.len() });
    }

    /// Drops what was changed since a savepoint. Returns what had been told before of tables whose shape was told since; nothing if there
    /// is no such savepoint.
    pub(super) fn roll_back_to(&mut self, name: &str) -> Option<Vec<(TableName, Told)>> {
        let at = self.savepoints.iter().rposition(|savepoint| savepoint.name.eq_ignore_ascii_case(name))?;
        self.savepoints.truncate(at + 1);
        let Savepoint { changes, told, .. } = &self.savepoints[at];
        self.changes.truncate(*changes);
        Some(self.told_before.split_off(*told))
    }
}
