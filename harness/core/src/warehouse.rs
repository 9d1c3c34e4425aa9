//! Where the tables of a lakehouse are: in a folder, or in object storage.

use std::path::{Path, PathBuf};

use crate::{
    error::{Context, Error, Result},
    stack::{Endpoint, Stack},
};

/// The variable that says where the tables of scenarios are: `folder`, which is the default, or `s3`.
pub const WAREHOUSE: &str = "CHANGEPROOF_WAREHOUSE";

/// Access to object storage that speaks S3.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// Its address, if it isn't Amazon's own.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` if none is named.
    pub region: Option<String>,
    /// The access key, if the environment or the machine's role don't give one.
    pub access_key_id: Option<String>,
    /// The secret that belongs to it.
    pub secret_access_key: Option<String>,
    /// The session that a temporary key belongs to.
    pub session_token: Option<String>,
}

impl S3Settings {
    /// As the environment says by the variables that Amazon's own tools read: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    pub fn from_environment() -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        Self {
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            access_key_id: first(&["AWS_ACCESS_KEY_ID"]),
            secret_access_key: first(&["AWS_SECRET_ACCESS_KEY"]),
            session_token: first(&["AWS_SESSION_TOKEN"]),
        }
    }

    /// Those of a service.
    pub fn of(minio: &Endpoint) -> Self {
        Self {
            endpoint: Some(format!("http://{}", minio.address())),
            access_key_id: Some(minio.user().to_owned()),
            secret_access_key: Some(minio.password.clone()),
            ..Self::default()
        }
    }

    /// The region to name in requests.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }
}

/// Whether scenarios' tables are in object storage, as [`WAREHOUSE`] says.
///
/// # Errors
/// It says something else than what is known.
pub fn is_in_a_bucket() -> Result<bool> {
    match std::env::var(WAREHOUSE).as_deref() {
        Ok("s3") => Ok(true),
        Ok("folder") | Err(_) => Ok(false),
        Ok(other) => Err(Error::new("the harness", "find the place for tables", format!("{WAREHOUSE} is `{other}`"))
            .help("set it to `s3`, or to `folder`, or not at all")),
    }
}

/// Where a lease's tables of a format are, if in a folder.
pub fn folder(stack: &Stack, format: &str, lease: &str) -> PathBuf {
    stack.state().dir().join("warehouses").join(format).join(lease)
}

/// Removes a lease's folder; none is fine.
///
/// # Errors
/// It can't be removed.
pub fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.while_doing("the harness", format!("remove the tables in {}", folder.display())),
    }
}
