//! Requests to services that speak HTTP.

use std::time::Duration;

use reqwest::{Client, ClientBuilder};

/// How long a service may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A client whose requests end in time: one that stays without an answer must not be waited for without end, and without a word.
pub fn client() -> Client {
    builder().build().unwrap_or_default()
}

/// Such a client for services of the harness's own, which speak no TLS: reading the certificates that the machine trusts takes
/// longer than most requests.
pub(crate) fn plain_client() -> Client {
    builder().tls_built_in_root_certs(false).build().unwrap_or_default()
}

fn builder() -> ClientBuilder {
    Client::builder().timeout(ANSWERS_WITHIN)
}
