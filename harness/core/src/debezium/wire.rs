//! Records whose schemas stand in a registry, as those of the JSON converter with their schemas.

use std::{collections::HashMap, sync::Arc};

use apache_avro::from_avro_datum;
use rdkafka::{Message, message::OwnedMessage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::avro::{connect_schema, payload, without_defaults};
use crate::{
    error::{Context, Error, Result},
    registry::{Registry, SERVICE},
};

/// How records are written whose schemas stand in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Avro in Confluent's wire format: a zero, the schema's number in four bytes, and the datum (Confluent's manual, "Wire format").
    Avro,
    /// JSON, as Apicurio's converter writes it: `{"schemaId": …, "payload": …}`, the schema being one of Connect's.
    Json,
}

/// Puts the schemas back into records.
pub(super) struct Wire {
    format: Format,
    registry: Registry,
    /// The schemas that have come so far, by their numbers in the registry.
    schemas: HashMap<u64, Arc<Known>>,
}

/// A schema of the registry.
struct Known {
    /// What Connect's JSON converter would write in its place.
    connect: String,
    /// By what a datum is read; none if it is JSON.
    avro: Option<apache_avro::Schema>,
}

#[derive(Deserialize)]
struct Referring<'a> {
    #[serde(rename = "schemaId")]
    schema: u64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Wire {
    pub(super) fn new(format: Format, registry: Registry) -> Self {
        Self { format, registry, schemas: HashMap::new() }
    }

    /// The record with its schemas, in key and value. Dropping the future loses nothing.
    pub(super) async fn with_schemas(&mut self, record: &OwnedMessage) -> Result<OwnedMessage> {
        let place = format!("{}, partition {}, offset {}", record.topic(), record.partition(), record.offset());
        let key = self.with_schema(record.key()).await.while_doing(SERVICE, format!("read the key at {place}"))?;
        let value =
            self.with_schema(record.payload()).await.while_doing(SERVICE, format!("read the value at {place}"))?;
        let (topic, timestamp) = (record.topic().to_owned(), record.timestamp());
        Ok(OwnedMessage::new(value, key, topic, timestamp, record.partition(), record.offset(), None))
    }

    async fn with_schema(&mut self, bytes: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = bytes else { return Ok(None) };
        let (known, payload) = match self.format {
            Format::Avro => self.avro(bytes).await?,
            Format::Json => self.json(bytes).await?,
        };
        Ok(Some(format!(r#"{{"schema":{},"payload":{payload}}}"#, known.connect).into_bytes()))
    }

    async fn avro(&mut self, bytes: &[u8]) -> Result<(Arc<Known>, String)> {
        let doing = "read a record in Avro";
        let Some(([0, id @ ..], mut datum)) = bytes.split_first_chunk::<5>() else {
            return Err(Error::new(
                SERVICE,
                doing,
                "it is not in Confluent's wire format: a zero, and four bytes of a schema's number",
            ));
        };
        let known = self.schema(u32::from_be_bytes(*id).into()).await?;
        let Some(schema) = &known.avro else { return Err(Error::new(SERVICE, doing, "its schema is none of Avro")) };
        let value = from_avro_datum(schema, &mut datum, None).while_doing(SERVICE, doing)?;
        Ok((known, payload(&value).to_string()))
    }

    async fn json(&mut self, bytes: &[u8]) -> Result<(Arc<Known>, String)> {
        let record: Referring<'_> = serde_json::from_slice(bytes).while_doing(SERVICE, "read a record in JSON")?;
        Ok((self.schema(record.schema).await?, record.payload.get().to_owned()))
    }

    async fn schema(&mut self, id: u64) -> Result<Arc<Known>> {
        if let Some(known) = self.schemas.get(&id) {
            return Ok(Arc::clone(known));
        }
        let known = Arc::new(match self.format {
            Format::Avro => Known::of_avro(&self.registry.schema(id).await?)?,
            Format::Json => Known { connect: self.registry.global(id).await?, avro: None },
        });
        self.schemas.insert(id, Arc::clone(&known));
        Ok(known)
    }
}

impl Known {
    /// Defaults are for readers that have another schema than the writer had; some that Connect's converters write are none of Avro's.
    fn of_avro(schema: &str) -> Result<Self> {
        let doing = "read a schema of Avro";
        let schema = serde_json::from_str(schema).while_doing(SERVICE, doing)?;
        let connect = connect_schema(&schema).to_string();
        let parsed = apache_avro::Schema::parse(&without_defaults(schema)).while_doing(SERVICE, doing)?;
        Ok(Self { connect, avro: Some(parsed) })
    }
}
