//! Tables in object storage that speaks S3.
//!
//! delta-rs has a crate for it that brings all of Amazon's own SDK. A commit only has to be put if there is none of its version
//! yet, and S3 has had conditional writes since (S3 User Guide, "Conditional writes"), so the log that folders have does.

use std::sync::Arc;

use changeproof::warehouse::S3Settings;
use deltalake::{
    DeltaResult, DeltaTableError,
    logstore::{
        LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore,
        logstore_factories, object_store_factories,
    },
};
use object_store::{aws::AmazonS3Builder, path::Path};
use url::Url;

/// Lets tables at `s3://BUCKET/…` be opened in this process with this access; the last call counts. What the settings leave out
/// is taken from the environment, as Amazon's own tools do.
pub fn use_s3(settings: &S3Settings) {
    let factory = Arc::new(S3(settings.clone()));
    for scheme in ["s3://", "s3a://"].iter().filter_map(|scheme| Url::parse(scheme).ok()) {
        object_store_factories().insert(scheme.clone(), factory.clone());
        logstore_factories().insert(scheme, factory.clone());
    }
}

struct S3(S3Settings);

impl ObjectStoreFactory for S3 {
    fn parse_url_opts(&self, url: &Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let S3Settings { endpoint, access_key_id, secret_access_key, session_token, .. } = &self.0;
        let mut builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_region(self.0.region());
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let (Some(id), Some(secret)) = (access_key_id, secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = session_token {
            builder = builder.with_token(token);
        }
        let failed = |source| DeltaTableError::ObjectStore { source };
        let path = Path::from_url_path(url.path()).map_err(|error| failed(error.into()))?;
        Ok((Arc::new(builder.build().map_err(failed)?), path))
    }
}

impl LogStoreFactory for S3 {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}
