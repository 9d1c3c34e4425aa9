//! The file: lines of JSON, each an object whose `kind` says what it is.
//!
//! The first line is the `head`, with the format's version. Then come all lines of the kinds `connector`, `topic` and `group`, in any order;
//! then each `partition`, and behind it its `record`s by rising offset; and at last the `end`, which says how many records there are: a file
//! that was cut short lacks it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::SERVICE;
use crate::error::{Context, Error, Result};

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

const FORMAT: &str = "changeproof-pipeline-state";

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    Head { format: String, version: u32 },
    Connector(Connector),
    Topic(Topic),
    Group(Group),
    Partition(Partition),
    Record(Record),
    End { records: u64 },
}

/// A connector of Kafka Connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Connector {
    pub(super) name: String,
    /// Without the settings that are secret.
    pub(super) config: Map<String, Json>,
    /// The names of the settings that were left out.
    pub(super) secrets: Vec<String>,
    /// Where a connector of a source stands, in Connect's form (KIP-875). One of a sink stands where its group does.
    pub(super) offsets: Vec<Json>,
    /// Whether it ran.
    pub(super) ran: bool,
}

/// A topic, and what its configuration says otherwise than the broker's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) config: BTreeMap<String, String>,
}

/// How far the consumers of a group have read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) offsets: Vec<Committed>,
}

/// The number of the next record of a partition that a group is to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) metadata: String,
}

/// A partition: its first offset, and the next one that a record will get. Not all between them need be a record's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Partition {
    pub(super) topic: String,
    #[serde(rename = "partition")]
    pub(super) number: i32,
    pub(super) begin: i64,
    pub(super) end: i64,
}

/// A record of the partition named before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) offset: i64,
    /// In milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timestamp_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) headers: Vec<(String, Option<Bytes>)>,
}

/// Bytes: as text if they are UTF-8, or else as `{"base64": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Base64 { base64: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Written::Base64 { base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Base64 { base64 } => STANDARD.decode(base64).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// The file being written, by another name until it is whole. Only its owner may read it: it holds the rows of the source.
pub(super) struct Writer {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    records: u64,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let doing = || format!("write {}", path.display());
        if path.exists() {
            return Err(Error::new(SERVICE, doing(), "it is there already").help("give another name, or remove it"));
        }
        let part = PathBuf::from(format!("{}.part", path.display()));
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let out = BufWriter::new(options.open(&part).while_doing(SERVICE, doing())?);
        let mut writer = Self { path: path.to_owned(), part, out, records: 0 };
        writer.write(&Line::Head { format: FORMAT.to_owned(), version: VERSION })?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, line: &Line) -> Result<()> {
        let doing = || format!("write {}", self.part.display());
        self.records += u64::from(matches!(line, Line::Record(_)));
        serde_json::to_writer(&mut self.out, line).while_doing(SERVICE, doing())?;
        self.out.write_all(b"\n").while_doing(SERVICE, doing())
    }

    /// Ends the file and gives it its name. Returns how many records it has.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.write(&Line::End { records: self.records })?;
        let doing = || format!("write {}", self.path.display());
        let file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error).while_doing(SERVICE, doing())?;
        file.sync_all().while_doing(SERVICE, doing())?;
        std::fs::rename(&self.part, &self.path).while_doing(SERVICE, doing())?;
        Ok(self.records)
    }
}

/// What a file says before its records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) connectors: Vec<Connector>,
    pub(super) topics: Vec<Topic>,
    pub(super) groups: Vec<Group>,
    pub(super) records: u64,
}

/// Reads a whole file, so that nothing is made of one that is damaged.
pub(super) fn contents(path: &Path) -> Result<Contents> {
    let mut found = Contents::default();
    let (mut at, mut end): (Option<Partition>, _) = (None, None);
    for_each_line(path, |line| {
        if end.is_some() {
            return Err("there is something behind its end".to_owned());
        }
        match line {
            Line::Connector(connector) => found.connectors.push(connector),
            Line::Topic(topic) => found.topics.push(topic),
            Line::Group(group) => found.groups.push(group),
            Line::Partition(partition) => at = Some(partition),
            Line::Record(record) => {
                found.records += 1;
                let partition = at.as_mut().filter(|at| (at.begin..at.end).contains(&record.offset));
                let partition =
                    partition.ok_or_else(|| format!("no partition can have the offset {}", record.offset))?;
                partition.begin = record.offset + 1;
            }
            Line::End { records } => end = Some(records),
            Line::Head { .. } => {}
        }
        Ok(())
    })?;
    let doing = || format!("read {}", path.display());
    match end {
        Some(records) if records == found.records => Ok(found),
        Some(records) => {
            let cause = format!("it has {} records, and says that they are {records}", found.records);
            Err(Error::new(SERVICE, doing(), cause))
        }
        None => Err(Error::new(SERVICE, doing(), "it was cut short: its last line is missing")
            .help("write it again by `cdc state export`")),
    }
}

/// Reads a file line by line; `each` says what is wrong with one.
pub(super) fn for_each_line(path: &Path, mut each: impl FnMut(Line) -> std::result::Result<(), String>) -> Result<()> {
    let doing = || format!("read {}", path.display());
    let file = File::open(path).while_doing(SERVICE, doing())?;
    for (number, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.while_doing(SERVICE, doing())?;
        if number == 1 {
            check_head(&text).map_err(|error| Error::new(SERVICE, doing(), error))?;
        }
        let line = serde_json::from_str(&text).map_err(|error| error.to_string());
        line.and_then(&mut each).map_err(|wrong| Error::new(SERVICE, doing(), format!("line {number}: {wrong}")))?;
    }
    Ok(())
}

fn check_head(text: &str) -> std::result::Result<(), String> {
    let head: Json = serde_json::from_str(text).unwrap_or_default();
    if head["format"] != FORMAT {
        return Err("it is no state of pipelines: `cdc state export` writes such a file".to_owned());
    }
    match head["version"] == VERSION {
        true => Ok(()),
        false => Err(format!(
            "it is of version {} of the format, and this `cdc` reads version {VERSION}: import it by the `cdc` that wrote it",
            head["version"]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, lines: &[&str]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("changeproof-state-{}-{name}", std::process::id()));
        std::fs::write(&path, lines.join("\n")).expect("the folder for temporary files can be written");
        path
    }

    const HEAD: &str = r#"{"kind":"head","format":"changeproof-pipeline-state","version":1}"#;
    const PARTITION: &str = r#"{"kind":"partition","topic":"t","partition":0,"begin":5,"end":9}"#;

    #[test]
    fn what_is_no_whole_file_of_this_version_is_refused() {
        let other = HEAD.replace(":1}", ":2}");
        for (name, lines, told) in [
            ("else", &["{}"][..], "no state of pipelines"),
            ("version", &[&other], "version 2"),
            ("cut", &[HEAD, PARTITION], "cut short"),
            ("lost", &[HEAD, PARTITION, r#"{"kind":"end","records":1}"#], "0 records"),
            ("outside", &[HEAD, PARTITION, r#"{"kind":"record","offset":9}"#], "line 3"),
            (
                "twice",
                &[HEAD, PARTITION, r#"{"kind":"record","offset":6}"#, r#"{"kind":"record","offset":6}"#],
                "line 4",
            ),
            ("unknown", &[HEAD, r#"{"kind":"table"}"#], "line 2"),
        ] {
            let path = file(name, lines);
            let error = contents(&path).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{name}: {error}");
            let _ = std::fs::remove_file(path);
        }
    }

    #[test]
    fn bytes_are_text_where_they_can_be() -> Result<()> {
        let record = Record {
            offset: 7,
            timestamp_ms: Some(3),
            key: Some(Bytes(b"{\"id\":1}".to_vec())),
            value: Some(Bytes(vec![0, 255])),
            headers: vec![("h".to_owned(), None), ("i".to_owned(), Some(Bytes(Vec::new())))],
        };
        let line = Line::Record(record);
        let text = serde_json::to_string(&line).while_doing(SERVICE, "write a line")?;
        assert!(text.contains(r#""value":{"base64":"AP8="}"#) && text.contains(r#""key":"{\"id\":1}""#), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).while_doing(SERVICE, "read it")?, line);
        Ok(())
    }
}
