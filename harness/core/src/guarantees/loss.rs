//! What a method leaves out of the truth, by name.

use std::fmt;

use serde::Serialize;

/// Something that truly happened and that a method, as it promises, does not tell or tells differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// A delete (or the delete half of a key change) carries the key only.
    BeforeImageKeyOnly,
    /// A before-image that carries the key only makes values up for columns that don't take NULL.
    BeforeImageFilled,
    /// An update or delete carries no old row at all.
    NoBeforeImage,
    /// An update of the key arrives as delete + insert.
    KeyChangeSplit,
    /// A change of a table's definition is seen only in the next row.
    SchemaChangeSilent,
    /// A large value that didn't change is not delivered.
    UnchangedToastOmitted,
    /// Rows that were there before the capture began were asked for and are not delivered.
    ExistingRowsMissed,
    /// A truncate is not delivered.
    TruncateMissed,
    /// Rows that a schema change rewrote in place are not delivered again.
    RewrittenRowsStale,
    /// A value is told in another form than the database prints.
    ValueInOtherForm,
    /// A value is told as NULL.
    ValueLost,
    /// A column is not told at all.
    ColumnMissing,
    /// A change of a table's definition is told only before the next change of a row.
    SchemaChangeLate,
    /// Insert and update are not told apart.
    InsertOrUpdate,
    /// Which changes were one transaction is not told.
    NoTransactions,
    /// Which of several transactions that ran side by side was committed first is not told.
    ConcurrentOrderUnknown,
    /// A delete is not delivered.
    DeleteMissed,
    /// An update of the key arrives as a new row, and nothing tells that the old one went.
    OldKeyMissed,
    /// Of several versions of a row between two looks only the last is delivered.
    VersionsCollapsed,
    /// A row is not delivered that bears an earlier time than one that was delivered before: its transaction began earlier
    /// and was committed later, a clock was behind, or the update left the time as it was.
    BehindTheMark,
    /// A change is not in the publication, because its table or its row isn't.
    NotPublished,
    /// A column is not in the publication.
    ColumnNotPublished,
    /// Which partition holds a row is not told: the publication is by the partitioned table.
    PartitionNotTold,
    /// After the connection to the source broke, changes may come again, out of their order and their transactions.
    MayComeAgain,
    /// A delete came without its tombstone: the method was stopped between the two.
    TombstoneLost,
    /// A truncate is told as a delete of each row.
    TruncateAsDeletes,
    /// An update that leaves its row as it was is not told.
    UnchangedUpdateMissed,
    /// An update is told as one row that went and another that came.
    UpdateSplit,
    /// What happened first in different tables is not told.
    OrderAcrossTables,
    /// Not rows are told but the files that hold them, and how many.
    RowsNotTold,
    /// A column that didn't change is left out of the new row, or any but those of the key out of the old one.
    ColumnsLeftOut,
    /// The old row of an update holds what the update changed, and nothing else.
    OldValuesOfChangesOnly,
    /// What is written while the initial snapshot is taken may be told twice.
    SnapshotOverlaps,
    /// What is told is what transforms have made of it.
    Transformed,
}

impl Loss {
    /// Every loss.
    pub const ALL: [Self; 34] = [
        Self::BeforeImageKeyOnly,
        Self::BeforeImageFilled,
        Self::NoBeforeImage,
        Self::KeyChangeSplit,
        Self::SchemaChangeSilent,
        Self::UnchangedToastOmitted,
        Self::ExistingRowsMissed,
        Self::TruncateMissed,
        Self::RewrittenRowsStale,
        Self::ValueInOtherForm,
        Self::ValueLost,
        Self::ColumnMissing,
        Self::SchemaChangeLate,
        Self::InsertOrUpdate,
        Self::NoTransactions,
        Self::ConcurrentOrderUnknown,
        Self::DeleteMissed,
        Self::OldKeyMissed,
        Self::VersionsCollapsed,
        Self::BehindTheMark,
        Self::NotPublished,
        Self::ColumnNotPublished,
        Self::PartitionNotTold,
        Self::MayComeAgain,
        Self::TombstoneLost,
        Self::TruncateAsDeletes,
        Self::UnchangedUpdateMissed,
        Self::UpdateSplit,
        Self::OrderAcrossTables,
        Self::RowsNotTold,
        Self::ColumnsLeftOut,
        Self::OldValuesOfChangesOnly,
        Self::SnapshotOverlaps,
        Self::Transformed,
    ];

    /// In a word or two, for tables.
    pub fn short(self) -> &'static str {
        match self {
            Self::BeforeImageKeyOnly => "old key only",
            Self::BeforeImageFilled => "made-up old values",
            Self::NoBeforeImage => "no old row",
            Self::KeyChangeSplit => "split",
            Self::SchemaChangeSilent => "silent DDL",
            Self::UnchangedToastOmitted => "no TOAST",
            Self::ExistingRowsMissed => "no snapshot",
            Self::TruncateMissed => "no truncate",
            Self::RewrittenRowsStale => "stale rows",
            Self::ValueInOtherForm => "other form",
            Self::ValueLost => "NULL for value",
            Self::ColumnMissing => "no column",
            Self::SchemaChangeLate => "late DDL",
            Self::InsertOrUpdate => "insert or update",
            Self::NoTransactions => "no transactions",
            Self::ConcurrentOrderUnknown => "order",
            Self::DeleteMissed => "no delete",
            Self::OldKeyMissed => "old key stays",
            Self::VersionsCollapsed => "collapsed",
            Self::BehindTheMark => "behind the mark",
            Self::NotPublished => "not published",
            Self::ColumnNotPublished => "column not published",
            Self::PartitionNotTold => "no partition",
            Self::MayComeAgain => "may come again",
            Self::TombstoneLost => "no tombstone",
            Self::TruncateAsDeletes => "deletes for truncate",
            Self::UnchangedUpdateMissed => "no empty update",
            Self::UpdateSplit => "update split",
            Self::OrderAcrossTables => "order of tables",
            Self::RowsNotTold => "files only",
            Self::ColumnsLeftOut => "partial rows",
            Self::OldValuesOfChangesOnly => "changed old values",
            Self::SnapshotOverlaps => "snapshot overlaps",
            Self::Transformed => "transformed",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeImageKeyOnly => "before-image holds the key only",
            Self::BeforeImageFilled => "before-image makes up values of NOT NULL columns",
            Self::NoBeforeImage => "no before-image",
            Self::KeyChangeSplit => "key change split into delete + insert",
            Self::SchemaChangeSilent => "schema change seen only in the next row",
            Self::UnchangedToastOmitted => "unchanged TOAST value not sent",
            Self::ExistingRowsMissed => "missed rows from before the capture began",
            Self::TruncateMissed => "missed truncate",
            Self::RewrittenRowsStale => "rows rewritten by a schema change not sent again",
            Self::ValueInOtherForm => "value told in another form",
            Self::ValueLost => "value told as NULL",
            Self::ColumnMissing => "column not told",
            Self::SchemaChangeLate => "schema change told only with the next row",
            Self::InsertOrUpdate => "insert and update not told apart",
            Self::NoTransactions => "transactions not told",
            Self::ConcurrentOrderUnknown => "order of concurrent transactions not told",
            Self::DeleteMissed => "missed delete",
            Self::OldKeyMissed => "key change told as a new row",
            Self::VersionsCollapsed => "versions between two looks collapsed",
            Self::BehindTheMark => "change behind the high-water mark missed",
            Self::NotPublished => "change outside the publication not sent",
            Self::ColumnNotPublished => "column outside the publication not sent",
            Self::PartitionNotTold => "partition not told, but the partitioned table",
            Self::MayComeAgain => "changes may come again after a broken connection",
            Self::TombstoneLost => "tombstone of a delete lost by a stop between the two",
            Self::TruncateAsDeletes => "truncate told as a delete of each row",
            Self::UnchangedUpdateMissed => "update that changes nothing not told",
            Self::UpdateSplit => "update told as delete + insert",
            Self::OrderAcrossTables => "order across tables not told",
            Self::RowsNotTold => "files and counts told, but no rows",
            Self::ColumnsLeftOut => "unchanged columns not sent",
            Self::OldValuesOfChangesOnly => "before-image of an update holds what changed only",
            Self::SnapshotOverlaps => "rows written during the initial snapshot told twice",
            Self::Transformed => "told as transforms have made it",
        })
    }
}
