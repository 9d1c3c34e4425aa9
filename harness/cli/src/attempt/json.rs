//! The outcome as one JSON object a line, as described in `harness/cli/README.md`.

use changeproof::{change::Change, judge::Verdict};
use serde_json::{Value as Json, json};

use super::outcome::Attempt;

pub(super) fn print(attempt: &Attempt) {
    for line in lines(attempt) {
        anstream::println!("{line}");
    }
}

fn lines(attempt: &Attempt) -> Vec<Json> {
    let methods: Vec<_> = attempt.methods.iter().map(|method| method.name).collect();
    let mut lines = vec![json!({
        "type": "run",
        "file": attempt.file,
        "storages": attempt.storages.iter().map(|(catalogue, version)| json!({
            "storage": catalogue.storage,
            "version": version,
        })).collect::<Vec<_>>(),
        "methods": methods,
    })];
    for (number, ran) in attempt.statements().iter().enumerate() {
        lines.push(json!({
            "type": "statement",
            "statement": number + 1,
            "line": ran.statement.line,
            "session": ran.statement.session,
            "sql": ran.statement.sql,
            "waited": ran.waited,
            "error": ran.failure.as_ref().map(|failure| json!({
                "message": failure.message,
                "line": failure.line,
                "column": failure.column,
            })),
        }));
    }
    for method in &attempt.methods {
        for attributed in &method.changes {
            let mut line = change(&attributed.change);
            line["method"] = json!(method.name);
            line["statement"] = json!(attributed.statement.map(|number| number + 1));
            line["transaction"] = json!(attributed.transaction);
            lines.push(line);
        }
    }
    for method in &attempt.methods {
        let (verdict, losses, faults) = match &method.verdict {
            Verdict::Exact => ("exact", vec![], vec![]),
            Verdict::AsGuaranteed { losses } => {
                let loss = |loss| json!({ "loss": loss, "count": method.counts.get(loss) });
                ("as_guaranteed", losses.iter().map(loss).collect(), vec![])
            }
            Verdict::KnownFlaw { .. } | Verdict::Refused { .. } => ("known_flaw", vec![], vec![]),
            Verdict::Broken { faults } => ("broken", vec![], faults.iter().map(|fault| json!(fault)).collect()),
        };
        lines.push(json!({
            "type": "verdict",
            "method": method.name,
            "verdict": verdict,
            "losses": losses,
            "faults": faults,
        }));
    }
    lines
}

fn change(change: &Change) -> Json {
    json!({
        "type": "change",
        "op": change.op,
        "table": change.table,
        "key": change.key,
        "before": change.before,
        "after": change.after,
        "position": change.position,
        "tx": change.tx,
        "commit_time_us": change.commit_time_us,
        "tombstone": change.tombstone,
        "renamed_from": change.renamed_from,
    })
}
