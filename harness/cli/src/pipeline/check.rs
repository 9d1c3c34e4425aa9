//! `cdc check`.

use std::path::Path;

use changeproof_iceberg::Warehouse;
use changeproof_pipelines::{Layout, check};

use super::{CheckArguments, LayoutName};
use crate::exit::Failure;

/// Runs the command.
pub(super) async fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let ends = &arguments.ends;
    if !ends.to.contains("://") && !Warehouse::is_in(Path::new(&ends.to)) {
        return Err(Failure::input(format!(
            "there is no warehouse in {}: it holds no catalog\n  what to do: name the folder that `cdc replicate --to` was given",
            ends.to
        )));
    }
    let (address, sink) = (ends.address()?, ends.sink().await?);
    let layout = match arguments.layout {
        LayoutName::Rows => Layout::Rows,
        LayoutName::Merged => Layout::Merged,
        LayoutName::Changelog => Layout::Changelog,
    };
    let checked = check(&address, &ends.publication, &sink, layout, ends.misfit()).await?;
    if checked.is_empty() {
        return Err(Failure::input(format!("the publication {} has no table", ends.publication)));
    }
    for table in &checked {
        match table.is_equal() {
            true => anstream::println!("{}  equal, {} rows", table.table, table.source_rows),
            false => anstream::println!(
                "{}  DIFFERENT, {} rows at the source and {} in the sink",
                table.table,
                table.source_rows,
                table.sink_rows
            ),
        }
        for difference in &table.differences {
            anstream::println!("  {difference}");
        }
    }
    if checked.iter().all(changeproof_pipelines::Checked::is_equal) { Ok(()) } else { Err(Failure::BrokenPromise) }
}
