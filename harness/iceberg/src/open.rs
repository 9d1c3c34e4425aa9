//! Tables that somebody else has written, opened by their files alone.

use std::path::{Path, PathBuf};

use changeproof::{
    error::{Context, Error, Result},
    warehouse::S3Settings,
};
use iceberg::{
    TableIdent,
    io::FileIO,
    table::{StaticTable, Table},
};

use crate::{SERVICE, guarded::guarded, rest::file_io};

/// Opens a table in object storage by its address: `s3://BUCKET/…/….metadata.json`, or its folder if a file `version-hint.text`
/// there names the metadata.
///
/// # Errors
/// There is no such file, or it can't be read: with its name.
pub async fn open_in_bucket(address: &str, s3: &S3Settings) -> Result<Table> {
    let (files, address) = (file_io(s3), address.trim_end_matches('/'));
    let metadata =
        if address.ends_with(ENDING) { address.to_owned() } else { hinted_metadata(&files, address).await? };
    let name = metadata.rsplit('/').nth(2).unwrap_or("table").to_owned();
    static_table(metadata, &name, files).await
}

/// The metadata file that a folder's `version-hint.text` names.
async fn hinted_metadata(files: &FileIO, folder: &str) -> Result<String> {
    let doing = || format!("find the table in {folder}");
    let hint = files.new_input(format!("{folder}/metadata/version-hint.text")).while_doing(SERVICE, doing())?;
    let hint = hint.read().await.map_err(|error| {
        Error::new(SERVICE, doing(), error)
            .help("name its metadata file, …/metadata/….metadata.json, or ask its catalog with --catalog")
    })?;
    Ok(format!("{folder}/metadata/v{}{ENDING}", String::from_utf8_lossy(&hint).trim()))
}

async fn static_table(metadata: String, name: &str, files: FileIO) -> Result<Table> {
    let doing = format!("read the metadata {metadata}");
    let ident = TableIdent::from_strs(["public", name]).while_doing(SERVICE, &doing)?;
    guarded(async move {
        let table = StaticTable::from_metadata_file(&metadata, ident, files).await;
        Ok(table.while_doing(SERVICE, doing)?.into_table())
    })
    .await
}

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
    static_table(format!("file://{}", file_path.display()), &name, FileIO::new_with_fs()).await
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
