//! Records whose schemas stand in a registry, as those of the JSON converter with their schemas.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use apache_avro::from_avro_datum;
use rdkafka::{Message, message::OwnedMessage};

use super::{avro, json_schema};
use crate::{
    error::{Context, Error, Result},
    registry::{Registry, SERVICE},
};

/// How records are written whose schemas stand in a registry; both in Confluent's wire format: a zero, the schema's number in four bytes, and
/// the datum (Confluent's manual, "Wire format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Avro.
    Avro,
    /// JSON, its schema being a JSON Schema.
    JsonSchema,
}

/// Puts the schemas back into records.
pub(super) struct Wire {
    format: Format,
    registry: Registry,
    /// The schemas that have come so far, by their numbers in the registry.
    schemas: HashMap<u32, Arc<Known>>,
}

/// A schema of the registry.
struct Known {
    /// What Connect's JSON converter would write in its place.
    connect: String,
    /// By what a datum is read; none if it is JSON.
    avro: Option<apache_avro::Schema>,
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
        let Some(([0, number @ ..], datum)) = bytes.split_first_chunk::<5>() else {
            return Err(Error::new(
                SERVICE,
                "read a record",
                "it is not in Confluent's wire format: a zero, and four bytes of a schema's number",
            ));
        };
        let known = self.schema(u32::from_be_bytes(*number)).await?;
        let payload = known.payload(datum)?;
        Ok(Some(format!(r#"{{"schema":{},"payload":{payload}}}"#, known.connect).into_bytes()))
    }

    async fn schema(&mut self, number: u32) -> Result<Arc<Known>> {
        if let Some(known) = self.schemas.get(&number) {
            return Ok(Arc::clone(known));
        }
        let schema = self.registry.schema(number).await?;
        let known = Arc::new(Known::new(self.format, number, &schema)?);
        self.schemas.insert(number, Arc::clone(&known));
        Ok(known)
    }
}

impl Known {
    /// Defaults are for readers that have another schema than the writer had; some that Connect's converters write are none of Avro's.
    fn new(format: Format, number: u32, schema: &str) -> Result<Self> {
        let doing = || format!("read the schema {number}");
        let schema = serde_json::from_str(schema).while_doing(SERVICE, doing())?;
        Ok(match format {
            Format::Avro => {
                let connect = avro::connect_schema(&schema).to_string();
                let parsed =
                    apache_avro::Schema::parse(&avro::without_defaults(schema)).while_doing(SERVICE, doing())?;
                Self { connect, avro: Some(parsed) }
            }
            Format::JsonSchema => Self { connect: json_schema::connect_schema(&schema).to_string(), avro: None },
        })
    }

    /// A datum as the JSON converter would have written it.
    fn payload<'a>(&self, mut datum: &'a [u8]) -> Result<Cow<'a, str>> {
        let Some(schema) = &self.avro else {
            return std::str::from_utf8(datum).map(Cow::Borrowed).while_doing(SERVICE, "read a record in JSON");
        };
        let value = from_avro_datum(schema, &mut datum, None).while_doing(SERVICE, "read a record in Avro")?;
        Ok(Cow::Owned(avro::payload(&value).to_string()))
    }
}
