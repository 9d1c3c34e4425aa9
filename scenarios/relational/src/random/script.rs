//! Random scripts: several sessions that write, roll back, and change definitions, in any order that a database lets pass
//! without one of them having to wait for another.

use changeproof::{
    Row, Value,
    model::Model,
    row,
    scenario::Event,
    schema::{Column, TableName, Type},
    script::{Action, Alter, Selector, Step, TableBuilder, TableRef, begin, commit, rollback, rollback_to, savepoint},
};
use proptest::{collection::vec, prelude::*};

const SESSIONS: [&str; 3] = ["a", "b", "c"];
const TABLES: [&str; 2] = ["left", "right"];

/// One decision of a script: who, what, on which table, which row, with which number.
pub(super) type Op = (u8, u8, u8, u16, i32);

/// Decisions for a script. Leaving some out leaves a script.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec((0_u8..3, 0_u8..32, 0_u8..2, any::<u16>(), -1000..1000_i32), 1..60)
}

/// The script that decisions make: what can't be done as things stand is left out, and so is a definition that changes within a
/// transaction where that would commit it.
pub(super) fn of(ops: &[Op], definitions_commit: bool) -> Vec<Event> {
    let (model, script) = (Model::default(), Vec::new());
    let mut maker = Maker { model, script, open: [None; 3], alone: None, next_id: 0, definitions_commit };
    for name in TABLES {
        let table = TableBuilder::new(name).key("id", Type::Int).column("n", Type::Int).column("t", Type::Text);
        let table = if name == "right" { table.identity_full() } else { table };
        maker.step(Action::CreateTable(table.build()).into());
    }
    maker.script.push(Event::Start);
    for op in ops {
        maker.decide(*op);
    }
    for session in 0..SESSIONS.len() {
        maker.end(session, session % 2 == 0);
    }
    maker.script
}

/// A script in words, which are PostgreSQL's whatever the database.
pub(super) fn told(script: &[Event]) -> String {
    let line = |event: &Event| match event {
        Event::Do(step) => format!("  {}: {}", step.session, changeproof::postgres::statement(&step.action)),
        other => format!("  {other:?}"),
    };
    script.iter().map(line).collect::<Vec<_>>().join("\n")
}

struct Maker {
    model: Model,
    script: Vec<Event>,
    /// Whether each session has a transaction open, and whether that has a savepoint.
    open: [Option<bool>; 3],
    /// The session whose open transaction has locked a table: all others wait until it ends.
    alone: Option<usize>,
    next_id: i32,
    definitions_commit: bool,
}

impl Maker {
    fn step(&mut self, step: Step) -> bool {
        let follows = self.model.apply(&step).is_ok();
        if follows {
            self.script.push(Event::Do(Box::new(step)));
        }
        follows
    }

    fn end(&mut self, session: usize, commits: bool) {
        if self.open[session].is_some() {
            self.step(if commits { commit() } else { rollback() }.on(SESSIONS[session]));
            self.open[session] = None;
            if self.alone == Some(session) {
                self.alone = None;
            }
        }
    }

    fn decide(&mut self, (session, what, table, pick, number): Op) {
        let session = usize::from(session);
        if self.alone.is_some_and(|alone| alone != session) {
            return;
        }
        let name = TableName::from(TABLES[usize::from(table)]);
        match what {
            0..=8 => self.insert(session, &name, number),
            9..=14 => self.update(session, &name, pick, number),
            15..=17 => self.delete(session, &name, pick),
            18 | 19 => self.move_key(session, &name, pick),
            20..=22 if self.open[session].is_none() => {
                self.step(begin().on(SESSIONS[session]));
                self.open[session] = Some(false);
            }
            20..=22 => self.end(session, true),
            23 => self.end(session, false),
            24 if self.open[session].is_some() => {
                self.step(savepoint("s").on(SESSIONS[session]));
                self.open[session] = Some(true);
            }
            25 if self.open[session] == Some(true) => {
                self.step(rollback_to("s").on(SESSIONS[session]));
            }
            26 | 27 if self.alone.is_none() => self.script.push(Event::CatchUp),
            28 => self.locking(session, Action::Truncate(vec![name])),
            29..=31 => self.alter(session, &name, what, number),
            _ => {}
        }
    }

    /// The rows of a session: sessions never touch each other's.
    fn pick(&self, session: usize, table: &TableName, pick: u16) -> Option<Row> {
        let rows = &self.model.tables().0.get(table)?.rows;
        let is_own = |row: &&Row| matches!(row.get("id"), Some(Value::Int(id)) if id % 3 == session as i128);
        let own: Vec<_> = rows.iter().filter(is_own).collect();
        (!own.is_empty()).then(|| own[usize::from(pick) % own.len()].project(["id"]))
    }

    fn new_id(&mut self, session: usize) -> i32 {
        self.next_id += 1;
        self.next_id * 3 + i32::try_from(session).unwrap_or_default()
    }

    fn columns(&self, table: &TableName) -> Vec<Column> {
        let state = self.model.tables().0.get(table);
        let columns = state.into_iter().flat_map(|state| state.table.columns.iter().cloned());
        columns.filter(|column| column.name != "id").collect()
    }

    fn values(&self, table: &TableName, number: i32) -> Row {
        let value = |column: &Column, at: i32| match (&column.ty, (number + at) % 5) {
            (_, 0) if column.nullable => Value::Null,
            (Type::Text, _) => Value::from(format!("{number} ünï 𝄞 '\\{at}\"")),
            (Type::Numeric(_), _) => Value::Decimal(format!("{}.{:02}", number / 7, number.rem_euclid(100))),
            _ => Value::from(number + at),
        };
        let columns = self.columns(table);
        columns.iter().zip(0..).map(|(column, at)| (column.name.clone(), value(column, at))).collect()
    }

    fn handle(&self, table: &TableName) -> Option<TableRef> {
        Some(TableRef::new(&self.model.tables().0.get(table)?.table))
    }

    fn insert(&mut self, session: usize, table: &TableName, number: i32) {
        let Some(handle) = self.handle(table) else { return };
        let mut row = row! { id: self.new_id(session) };
        self.values(table, number).iter().for_each(|(name, value)| row.set(name, value.clone()));
        self.step(handle.insert(row).on(SESSIONS[session]));
    }

    fn update(&mut self, session: usize, table: &TableName, pick: u16, number: i32) {
        let (Some(handle), Some(at)) = (self.handle(table), self.pick(session, table, pick)) else { return };
        let values = self.values(table, number);
        let set: Row = values.iter().take(1 + usize::from(pick % 2)).map(|(n, v)| (n.to_owned(), v.clone())).collect();
        if !set.is_empty() {
            self.step(handle.update(Selector::Columns(at), set).on(SESSIONS[session]));
        }
    }

    fn delete(&mut self, session: usize, table: &TableName, pick: u16) {
        let (Some(handle), Some(at)) = (self.handle(table), self.pick(session, table, pick)) else { return };
        self.step(handle.delete(Selector::Columns(at)).on(SESSIONS[session]));
    }

    fn move_key(&mut self, session: usize, table: &TableName, pick: u16) {
        let (Some(handle), Some(at)) = (self.handle(table), self.pick(session, table, pick)) else { return };
        let id = self.new_id(session);
        self.step(handle.update(Selector::Columns(at), row! { id: id }).on(SESSIONS[session]));
    }

    /// What locks a whole table can only be done while no other session has a transaction open.
    fn locking(&mut self, session: usize, action: Action) {
        let is_open = |other: usize| self.open[other].is_some() && (other != session || self.definitions_commit);
        if !(0..SESSIONS.len()).any(is_open)
            && self.step(Step { session: SESSIONS[session].to_owned(), action })
            && self.open[session].is_some()
        {
            self.alone = Some(session);
        }
    }

    fn alter(&mut self, session: usize, table: &TableName, what: u8, number: i32) {
        let columns = self.columns(table);
        let free = || (0..6).map(|n| format!("c{n}")).find(|name| !columns.iter().any(|column| column.name == *name));
        let at = usize::try_from(number.unsigned_abs()).unwrap_or_default();
        let chosen = columns.get(at % columns.len().max(1));
        let change = match (what, chosen, free()) {
            (29, _, Some(name)) => {
                let types = [Type::Int, Type::Text, Type::Numeric(Some((12, 2)))];
                let ty = types[at % types.len()].clone();
                let default = (number % 2 == 0).then(|| Value::from(7).cast(&ty));
                // What Debezium makes up for a column that doesn't take NULL depends on the catalogue of the moment in which it
                // reads the log: a scenario of its own shows that.
                Alter::AddColumn(Column { name, ty, nullable: true, default, external: false, generated: None })
            }
            (30, Some(column), _) if columns.len() > 1 => Alter::DropColumn(column.name.clone()),
            (31, Some(column), Some(to)) if number % 2 == 0 => Alter::RenameColumn { from: column.name.clone(), to },
            (31, Some(column), _) if column.ty == Type::Int => {
                Alter::ChangeType { column: column.name.clone(), ty: Type::BigInt, using: None }
            }
            _ => return,
        };
        self.locking(session, Action::Alter { table: table.clone(), change });
    }
}
