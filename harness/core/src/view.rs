//! What a reader is shown of what happens, where it isn't all: for such a reader it is what happens, and both oracles judge by that.

use std::collections::BTreeSet;

use crate::{
    guarantees::Loss,
    judge::Contents,
    model::{IdealChange, IdealTransaction, Model},
};

/// What stands between the database and a reader, and shows a part or something else.
pub(crate) trait View: Send + Sync {
    /// A change as it is shown, if it is; what it doesn't show is a loss.
    fn change(&self, change: &IdealChange, losses: &mut BTreeSet<Loss>) -> Option<IdealChange>;

    /// What the database holds as it is shown.
    fn contents(&self, contents: Contents) -> Contents;

    /// The Model as it would be if nothing else existed than what is shown, and what isn't shown of what happened.
    fn of(&self, model: &Model) -> (Model, BTreeSet<Loss>) {
        let mut losses = BTreeSet::new();
        let mut created = BTreeSet::new();
        let transactions = model.committed().iter().map(|transaction| {
            let changes = transaction.changes.iter().zip(&transaction.statements);
            let changes =
                changes.filter_map(|(change, statement)| Some((self.change(change, &mut losses)?, *statement)));
            // What is shown as one table is created once, whatever the number of tables behind it.
            let changes = changes.filter(|(change, _)| match change {
                IdealChange::Created(table) => created.insert(table.name.clone()),
                _ => true,
            });
            let (changes, statements) = changes.unzip();
            let IdealTransaction { began, committed_before, .. } = *transaction;
            IdealTransaction { changes, statements, began, committed_before }
        });
        let view = Model::of_committed(transactions.collect());
        (view, losses)
    }
}
