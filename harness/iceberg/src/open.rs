//! Tables that somebody else has written, opened by their files alone.

use std::path::{Path, PathBuf};

use changeproof::error::{Context, Error, Result};
use iceberg::{
    TableIdent,
    io::FileIO,
    table::{StaticTable, Table},
};

use crate::{SERVICE, guarded::guarded};

/// Opens a table by its folder, or as it was by one of its metadata files (`….metadata.json`). In a folder the file that
/// `version-hint.text` names is taken, or the one of the highest number.
///
/// # Errors
/// There is no metadata file, or it can't be read: with its name.
pub async fn open_table(path: &Path) -> Result<Table> {
    let file = metadata_file(path)?;
    let doing = || format!("read the metadata {}", file.display());
    let file_path = file.canonicalize().while_doing(SERVICE, doing())?;
    let name =
        file_path.ancestors().nth(2).and_then(Path::file_name).map_or("table".into(), |name| name.to_string_lossy());
    let ident = TableIdent::from_strs(["public", &name]).while_doing(SERVICE, doing())?;
    let location = format!("file://{}", file_path.display());
    let doing = doing();
    guarded(async move {
        let table = StaticTable::from_metadata_file(&location, ident, FileIO::new_with_fs()).await;
        Ok(table.while_doing(SERVICE, doing)?.into_table())
    })
    .await
}

const ENDING: &str = ".metadata.json";

fn metadata_file(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let folder = path.join("metadata");
    let doing = || format!("find the table in {}", path.display());
    if let Ok(hint) = std::fs::read_to_string(folder.join("version-hint.text")) {
        let hinted = folder.join(format!("v{}{ENDING}", hint.trim()));
        if hinted.exists() {
            return Ok(hinted);
        }
    }
    let files = std::fs::read_dir(&folder).map_err(|error| {
        let help = "name the folder that holds `metadata/` and `data/`, or a file `….metadata.json`";
        Error::new(SERVICE, doing(), format!("{}: {error}", folder.display())).help(help)
    })?;
    let mut newest: Option<(u64, PathBuf)> = None;
    for file in files {
        let file = file.while_doing(SERVICE, doing())?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number =
            name.strip_suffix(ENDING).map(|stem| stem.trim_start_matches('v').split('-').next().unwrap_or_default());
        if let Some(number) = number.and_then(|number| number.parse().ok())
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, file));
        }
    }
    let none = || Error::new(SERVICE, doing(), format!("there is no file `*{ENDING}` in {}", folder.display()));
    newest.map(|(_, file)| file).ok_or_else(none)
}
