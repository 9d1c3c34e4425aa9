//! Catalogs behind Iceberg's REST protocol, and tables in object storage.

use std::{collections::HashMap, sync::Arc};

use changeproof::{
    error::{Context, Error, Result},
    http,
    warehouse::S3Settings,
};
use iceberg::{
    CatalogBuilder, TableIdent,
    io::{
        FileIO, FileIOBuilder, S3_ACCESS_KEY_ID, S3_ENDPOINT, S3_PATH_STYLE_ACCESS, S3_REGION, S3_SECRET_ACCESS_KEY,
        S3_SESSION_TOKEN, StorageFactory,
    },
    spec::TableMetadata,
};
use iceberg_catalog_rest::{CommitTableRequest, CommitTableResponse, RestCatalog, RestCatalogBuilder};
use iceberg_storage_opendal::OpenDalStorageFactory;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::{SERVICE, warehouse::Commit};

/// How to reach a REST catalog, and the storage of its tables.
#[derive(Clone, Debug, Default)]
pub struct RestSettings {
    /// The catalog's address, such as `http://127.0.0.1:8181`.
    pub uri: String,
    /// Which of the catalog's warehouses, if it has several.
    pub warehouse: Option<String>,
    /// The token it asks for, if it does.
    pub token: Option<String>,
    /// Access to the tables' files.
    pub s3: S3Settings,
}

/// The properties by which Iceberg's readers and writers know it.
fn properties(s3: &S3Settings) -> HashMap<String, String> {
    let path_style = s3.endpoint.as_ref().map(|_| "true".to_owned());
    let region = s3.region().to_owned();
    let given = [
        (S3_ENDPOINT, s3.endpoint.clone()),
        (S3_PATH_STYLE_ACCESS, path_style),
        (S3_REGION, Some(region)),
        (S3_ACCESS_KEY_ID, s3.access_key_id.clone()),
        (S3_SECRET_ACCESS_KEY, s3.secret_access_key.clone()),
        (S3_SESSION_TOKEN, s3.session_token.clone()),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Reads and writes files by their `s3://` names.
pub(crate) fn file_io(settings: &S3Settings) -> FileIO {
    FileIOBuilder::new(s3()).with_props(properties(settings)).build()
}

fn s3() -> Arc<dyn StorageFactory> {
    Arc::new(OpenDalStorageFactory::S3 { customized_credential_load: None })
}

impl RestSettings {
    pub(crate) async fn catalog(&self) -> Result<RestCatalog> {
        let mut properties = properties(&self.s3);
        let given = [("uri", Some(&self.uri)), ("warehouse", self.warehouse.as_ref()), ("token", self.token.as_ref())];
        properties.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))));
        let catalog = RestCatalogBuilder::default()
            .with_client(http::client())
            .with_storage_factory(s3())
            .load("rest", properties)
            .await;
        catalog.while_doing(SERVICE, format!("reach the REST catalog {}", self.uri))
    }
}

/// Commits as requests of the REST protocol (its OpenAPI, `updateTable`).
#[derive(Clone, Debug)]
pub(crate) struct RestCommits {
    client: reqwest::Client,
    base: Url,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    defaults: HashMap<String, String>,
    #[serde(default)]
    overrides: HashMap<String, String>,
}

impl RestCommits {
    /// Asks the catalog where its tables are (`getConfig`).
    pub(crate) async fn connect(settings: &RestSettings) -> Result<Self> {
        let doing = || format!("reach the REST catalog {}", settings.uri);
        let root = Url::parse(&format!("{}/v1/", settings.uri.trim_end_matches('/'))).while_doing(SERVICE, doing())?;
        let mut commits = Self { client: http::client(), base: root, token: settings.token.clone() };
        let config = commits.base.join("config").while_doing(SERVICE, doing())?;
        let mut request = commits.client.get(config);
        if let Some(warehouse) = &settings.warehouse {
            request = request.query(&[("warehouse", warehouse)]);
        }
        let answer = commits.authorised(request).send().await.while_doing(SERVICE, doing())?;
        let config: Config =
            answer.error_for_status().while_doing(SERVICE, doing())?.json().await.while_doing(SERVICE, doing())?;
        if let Some(prefix) = config.overrides.get("prefix").or(config.defaults.get("prefix")) {
            commits.base = commits.base.join(&format!("{prefix}/")).while_doing(SERVICE, doing())?;
        }
        Ok(commits)
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        self.token.iter().fold(request, reqwest::RequestBuilder::bearer_auth)
    }

    /// Commits, and returns where the new metadata is and what it says; nothing if another writer was first.
    pub(crate) async fn commit(&self, ident: &TableIdent, commit: Commit) -> Result<Option<(String, TableMetadata)>> {
        let doing = || format!("commit to the table {ident}");
        let mut url = self.base.clone();
        let namespace = ident.namespace().to_url_string();
        url.path_segments_mut()
            .map_err(|()| Error::new(SERVICE, doing(), "the catalog's address can't hold a table's name"))?
            .pop_if_empty()
            .extend(["namespaces", &namespace, "tables", ident.name()]);
        let Commit { requirements, updates } = commit;
        let body = CommitTableRequest { identifier: Some(ident.clone()), requirements, updates };
        let answer = self.authorised(self.client.post(url).json(&body)).send().await.while_doing(SERVICE, doing())?;
        let status = answer.status();
        if status == StatusCode::CONFLICT {
            return Ok(None);
        }
        let text = answer.text().await.while_doing(SERVICE, doing())?;
        if !status.is_success() {
            return Err(Error::new(SERVICE, doing(), format!("the catalog answers {status}: {text}")));
        }
        let response: CommitTableResponse = serde_json::from_str(&text).while_doing(SERVICE, doing())?;
        Ok(Some((response.metadata_location, response.metadata)))
    }
}
