//! A schema registry by Confluent's interface (Confluent Platform's manual, "Schema Registry API Reference").

use std::{fmt, time::Duration};

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{
    error::{Context, Error, Result},
    stack::{CONFLUENT_PATH, Service, Stack},
};

pub(crate) const SERVICE: &str = "the schema registry";

/// Apicurio has left a request among thousands without any answer. All that is asked for here can be asked for again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;

/// The registry that runs in the stack.
#[derive(Clone, Debug)]
pub struct Registry {
    client: Client,
    url: String,
}

/// Which schemas may follow each other under a subject: who must be able to read whose records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// Any.
    None,
    /// Readers with the new schema read records of the one before.
    Backward,
    /// Readers with the schema before read records of the new one.
    Forward,
    /// Both.
    Full,
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::Forward => "FORWARD",
            Self::Full => "FULL",
        })
    }
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// Its number under the subject, from 1.
    pub version: u32,
    /// The number by which records refer to its schema.
    pub id: u32,
    /// The schema.
    pub schema: String,
}

impl Registry {
    /// That of the stack.
    ///
    /// # Errors
    /// The stack is without a registry.
    pub fn of(stack: &Stack) -> Result<Self> {
        let address = stack.endpoint(Service::Registry)?.address();
        Ok(Self { client: stack.http(), url: format!("http://{address}/{CONFLUENT_PATH}") })
    }

    /// The versions of a subject, oldest first; none if there is no such subject.
    ///
    /// # Errors
    /// The registry doesn't answer.
    pub async fn versions(&self, subject: &str) -> Result<Vec<Version>> {
        let path = format!("subjects/{subject}/versions");
        let numbers: Vec<u32> = self.ask(Method::GET, &path, None).await?.unwrap_or_default();
        let mut versions = Vec::new();
        for number in numbers {
            versions.extend(self.ask::<Version>(Method::GET, &format!("{path}/{number}"), None).await?);
        }
        Ok(versions)
    }

    /// The subjects that begin with this, sorted.
    ///
    /// # Errors
    /// The registry doesn't answer.
    pub async fn subjects(&self, prefix: &str) -> Result<Vec<String>> {
        let mut subjects: Vec<String> = self.ask(Method::GET, "subjects", None).await?.unwrap_or_default();
        subjects.retain(|subject| subject.starts_with(prefix));
        subjects.sort_unstable();
        Ok(subjects)
    }

    /// Says which schemas may come under a subject from now on.
    ///
    /// # Errors
    /// The registry refuses, or knows no such subject.
    pub async fn set_compatibility(&self, subject: &str, compatibility: Compatibility) -> Result<()> {
        let body = json!({ "compatibility": compatibility.to_string() });
        let told: Option<Json> = self.ask(Method::PUT, &format!("config/{subject}"), Some(&body)).await?;
        let doing = format!("set the compatibility of {subject}");
        told.map(drop).ok_or_else(|| Error::new(SERVICE, doing, "there is no such subject"))
    }

    /// Removes the subjects that begin with this, with all their versions.
    ///
    /// # Errors
    /// The registry refuses.
    pub async fn remove(&self, prefix: &str) -> Result<()> {
        for subject in self.subjects(prefix).await? {
            let _: Option<Json> = self.ask(Method::DELETE, &format!("subjects/{subject}"), None).await?;
        }
        Ok(())
    }

    /// The schema that records refer to by a number.
    ///
    /// # Errors
    /// There is none, or the registry doesn't answer.
    pub async fn schema(&self, id: u32) -> Result<String> {
        #[derive(Deserialize)]
        struct Told {
            schema: String,
        }
        let told: Option<Told> = self.ask(Method::GET, &format!("schemas/ids/{id}"), None).await?;
        told.map(|told| told.schema)
            .ok_or_else(|| Error::new(SERVICE, format!("get the schema {id}"), "there is none of this number"))
    }

    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Option<T>> {
        let doing = || format!("{method} /{path}");
        let ask = async || {
            let mut request =
                self.client.request(method.clone(), format!("{}/{path}", self.url)).timeout(ANSWERS_WITHIN);
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        };
        let mut answer = ask().await;
        for _ in 1..ATTEMPTS {
            if answer.as_ref().is_err_and(reqwest::Error::is_timeout) {
                answer = ask().await;
            }
        }
        let (status, text) = answer.while_doing(SERVICE, doing())?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => serde_json::from_str(&text).map(Some).while_doing(SERVICE, doing()),
            status => Err(Error::new(SERVICE, doing(), format!("{status}: {text}"))),
        }
    }
}
