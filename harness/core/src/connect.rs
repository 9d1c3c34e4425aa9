//! Kafka Connect's REST interface (Kafka documentation, 8.3 "REST API").

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value as Json, json};
use tokio::time::Instant;

use crate::{
    error::{Context, Error, Result},
    http,
    stack::{Endpoint, Service, Stack, USER, docker},
};

const SERVICE: &str = "Kafka Connect";

/// How long Connect may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// How long a connector may take to become what it was told to be.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

/// A cluster of Connect.
#[derive(Clone)]
pub struct Connect {
    client: Client,
    url: String,
    password: Option<String>,
    container: Option<String>,
}

/// Without the password.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("container", &self.container).finish_non_exhaustive()
    }
}

impl Connect {
    /// The Connect of a stack.
    ///
    /// # Errors
    /// The stack is without Connect.
    pub fn of(stack: &Stack) -> Result<Self> {
        Ok(Self::by(stack.http(), stack.endpoint(Service::Connect)?))
    }

    fn by(client: Client, endpoint: &Endpoint) -> Self {
        let (url, password) = (format!("http://{}", endpoint.address()), Some(endpoint.password.clone()));
        Self { client, url, password, container: Some(endpoint.container.clone()) }
    }

    /// That of a running service.
    pub fn at_endpoint(endpoint: &Endpoint) -> Self {
        Self::by(http::plain_client(), endpoint)
    }

    /// The one whose REST interface is at `http://HOST:PORT`, or `http://USER:PASSWORD@HOST:PORT`.
    pub fn at(url: &str) -> Self {
        Self { client: http::client(), url: url.trim_end_matches('/').to_owned(), password: None, container: None }
    }

    /// A connector of a name, which need not be there; `what` it is, is whose error it will be if it fails.
    pub fn connector(&self, name: &str, what: &'static str) -> Connector {
        Connector { connect: self.clone(), name: name.to_owned(), what, passing: &[] }
    }

    /// The names of all connectors.
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn connectors(&self) -> Result<Vec<String>> {
        let doing = "list the connectors";
        let names = self.call(Method::GET, "/connectors", None, doing).await?.unwrap_or_default();
        serde_json::from_value(names).while_doing(SERVICE, doing)
    }

    /// Creates a connector that doesn't run until it is resumed (KIP-980).
    ///
    /// # Errors
    /// Connect refuses its configuration: in Connect's own words.
    pub async fn create_stopped(&self, name: &str, configuration: &Map<String, Json>) -> Result<()> {
        let body = json!({ "name": name, "config": configuration, "initial_state": "STOPPED" });
        let doing = format!("register the connector {name}");
        let created = self.call(Method::POST, "/connectors", Some(&body), &doing).await?;
        created.map(drop).ok_or_else(|| Error::new(SERVICE, doing, "404 Not Found"))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Json>, doing: &str) -> Result<Option<Json>> {
        let deadline = Instant::now() + CHANGE_WITHIN;
        loop {
            let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
            request = request.timeout(ANSWERS_WITHIN);
            if let Some(password) = &self.password {
                request = request.basic_auth(USER, Some(password));
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.while_doing(SERVICE, doing)?;
            let status = response.status();
            let text = response.text().await.while_doing(SERVICE, doing)?;
            match status {
                StatusCode::NOT_FOUND => return Ok(None),
                status if is_rebalancing(status, &text) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                status if status.is_success() => {
                    return Ok(Some(serde_json::from_str(&text).unwrap_or(Json::Null)));
                }
                StatusCode::UNAUTHORIZED if self.password.is_some() => {
                    let cause = format!("{}; {}", told(status, &text), self.told_of_credentials().await);
                    return Err(Error::new(SERVICE, doing, cause));
                }
                status => return Err(Error::new(SERVICE, doing, told(status, &text))),
            }
        }
    }

    /// Whether Connect takes the credentials that it has just refused for another request.
    async fn told_of_credentials(&self) -> String {
        let asked = self.client.get(format!("{}/", self.url)).basic_auth(USER, self.password.as_ref());
        match asked.timeout(ANSWERS_WITHIN).send().await {
            Ok(answer) => format!("with the same credentials it answers the next request with {}", answer.status()),
            Err(error) => format!("it doesn't answer the next request: {error}"),
        }
    }
}

/// A connector of the running Connect.
#[derive(Debug)]
pub struct Connector {
    connect: Connect,
    name: String,
    what: &'static str,
    passing: &'static [&'static str],
}

/// What Connect says of a connector and its task.
#[derive(Debug)]
pub struct Status {
    /// The connector's state, such as `RUNNING`.
    pub connector: String,
    /// Its task's, once there is one.
    pub task: Option<String>,
    trace: Option<String>,
}

impl Status {
    fn has_failed(&self) -> bool {
        self.connector == "FAILED" || self.task.as_deref() == Some("FAILED")
    }
}

impl Connector {
    /// The connector of a name; `what` it is, is whose error it will be if it fails.
    ///
    /// # Errors
    /// The stack is without Connect.
    pub fn new(stack: &Stack, name: &str, what: &'static str) -> Result<Self> {
        Ok(Connect::of(stack)?.connector(name, what))
    }

    /// Starts the connector again if it fails with this in its trace, as whoever runs it has to.
    #[must_use]
    pub fn restarting_after(self, passing: &'static [&'static str]) -> Self {
        Self { passing, ..self }
    }

    /// Whether Connect has written this to its log lately.
    ///
    /// # Errors
    /// The engine can't be reached.
    pub async fn has_logged(&self, text: &str) -> Result<bool> {
        match &self.connect.container {
            Some(container) => docker::has_written(container, text, Duration::from_secs(30)).await,
            None => Ok(false),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Json>, doing: &str) -> Result<Option<Json>> {
        let (path, doing) = (format!("/connectors/{}{path}", self.name), format!("{doing} {}", self.name));
        self.connect.call(method, &path, body, &doing).await
    }

    /// Creates the connector.
    ///
    /// # Errors
    /// Connect refuses its configuration: in Connect's own words.
    pub async fn create(&self, configuration: &Map<String, Json>) -> Result<()> {
        let doing = "register the connector";
        let configuration = Json::Object(configuration.clone());
        let created = self.call(Method::PUT, "/config", Some(&configuration), doing).await?;
        created.map(drop).ok_or_else(|| Error::new(SERVICE, doing, "404 Not Found"))
    }

    /// Its configuration; `None` if there is no such connector.
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn configuration(&self) -> Result<Option<Map<String, Json>>> {
        let told = self.call(Method::GET, "/config", None, "ask for the configuration of").await?;
        Ok(told.and_then(|told| told.as_object().cloned()))
    }

    /// The topics that it has written to or read from since it was made (KIP-558).
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn topics(&self) -> Result<Vec<String>> {
        let doing = "ask for the topics of";
        let told = self.call(Method::GET, "/topics", None, doing).await?.unwrap_or_default();
        let topics = told[&self.name]["topics"].clone();
        if topics.is_null() { Ok(Vec::new()) } else { serde_json::from_value(topics).while_doing(SERVICE, doing) }
    }

    /// Where it stands, as pairs of `partition` and `offset` in its own words (KIP-875).
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn offsets(&self) -> Result<Vec<Json>> {
        let told = self.call(Method::GET, "/offsets", None, "ask for the offsets of").await?.unwrap_or_default();
        Ok(told["offsets"].as_array().cloned().unwrap_or_default())
    }

    /// Makes a stopped connector stand there.
    ///
    /// # Errors
    /// It isn't stopped, or has no use for such offsets: in Connect's own words.
    pub async fn set_offsets(&self, offsets: &[Json]) -> Result<()> {
        let body = json!({ "offsets": offsets });
        self.call(Method::PATCH, "/offsets", Some(&body), "set the offsets of").await.map(drop)
    }

    /// What state the connector is in; `None` if there is no such connector yet.
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn status(&self) -> Result<Option<Status>> {
        let status = self.call(Method::GET, "/status", None, "ask for the status of").await?;
        Ok(status.map(|status| {
            let text = |json: &Json| json.as_str().map(str::to_owned);
            let task = &status["tasks"][0];
            Status {
                connector: text(&status["connector"]["state"]).unwrap_or_default(),
                task: text(&task["state"]),
                trace: text(&task["trace"]).or_else(|| text(&status["connector"]["trace"])),
            }
        }))
    }

    /// Fails if the connector or its task has failed, with the connector's own trace, unless that is a failure to start again after.
    ///
    /// # Errors
    /// It has failed, or Connect doesn't answer.
    pub async fn check(&self) -> Result<Option<Status>> {
        let status = self.status().await?;
        match &status {
            Some(failed) if failed.has_failed() => {
                let trace = failed.trace.as_deref().unwrap_or("it left no trace");
                if self.passing.iter().any(|passing| trace.contains(passing)) {
                    return self.restart_failed().await.map(|()| None);
                }
                Err(Error::new(self.what, format!("run the connector {}", self.name), reasons(trace))
                    .log(trace.lines().take(30).collect::<Vec<_>>().join("\n")))
            }
            _ => Ok(status),
        }
    }

    /// Starts the connector's task again if it has failed, which Connect leaves to whoever runs it. Returns whether it had.
    ///
    /// # Errors
    /// Connect doesn't answer.
    pub async fn restart_if_failed(&self) -> Result<bool> {
        let has_failed = self.status().await?.is_some_and(|status| status.has_failed());
        if has_failed {
            self.restart_failed().await?;
        }
        Ok(has_failed)
    }

    async fn restart_failed(&self) -> Result<()> {
        let path = "/restart?includeTasks=true&onlyFailed=true";
        self.call(Method::POST, path, None, "start again").await.map(drop)
    }

    /// Stops the connector, which keeps its configuration and offsets.
    ///
    /// # Errors
    /// It fails, or isn't stopped within a minute.
    pub async fn stop(&self) -> Result<()> {
        self.call(Method::PUT, "/stop", None, "stop the connector").await?;
        self.wait_until("STOPPED").await
    }

    /// Waits until a connector that was made stopped is.
    ///
    /// # Errors
    /// It fails, or isn't stopped within a minute.
    pub async fn wait_until_stopped(&self) -> Result<()> {
        self.wait_until("STOPPED").await
    }

    /// Starts the connector again.
    ///
    /// # Errors
    /// It fails, or doesn't run within a minute.
    pub async fn resume(&self) -> Result<()> {
        self.call(Method::PUT, "/resume", None, "resume the connector").await?;
        self.wait_until("RUNNING").await
    }

    /// Removes the connector, and waits until it and its task have ended; none is fine.
    ///
    /// # Errors
    /// Connect refuses, or they run on for a minute.
    pub async fn remove(&self) -> Result<()> {
        let doing = "remove the connector";
        if self.call(Method::DELETE, "", None, doing).await?.is_none() {
            return Ok(());
        }
        // Connect answers before its tasks have ended. One whose topics go meanwhile waits for them, and holds all others up.
        let deadline = Instant::now() + CHANGE_WITHIN;
        while self.status().await?.is_some() {
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, format!("{doing} {}", self.name), "it is still there"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn wait_until(&self, state: &str) -> Result<()> {
        let deadline = Instant::now() + CHANGE_WITHIN;
        loop {
            let status = self.check().await?;
            let is_there = status
                .as_ref()
                .is_some_and(|it| it.connector == state && it.task.as_deref().is_none_or(|task| task == state));
            if is_there {
                return Ok(());
            }
            if Instant::now() > deadline {
                let doing = format!("wait until {} is {state}", self.name);
                return Err(Error::new(SERVICE, doing, format!("it is {status:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether a worker refuses for a moment, since connectors are being dealt out anew: with 409, and with 500 where it is asked for a
/// configuration, whose handler lets the herder's exception through (`HerderRequestHandler.completeRequest`).
fn is_rebalancing(status: StatusCode, body: &str) -> bool {
    status == StatusCode::CONFLICT
        || status == StatusCode::INTERNAL_SERVER_ERROR && body.contains("because a rebalance is expected")
}

fn told(status: StatusCode, body: &str) -> String {
    let message = serde_json::from_str::<Json>(body).ok();
    let message = message.as_ref().and_then(|body| body["message"].as_str()).unwrap_or(body);
    format!("{status}: {}", message.trim())
}

/// The exceptions of a Java stack trace, outermost first, without their frames.
fn reasons(trace: &str) -> String {
    let reasons: Vec<_> = trace
        .lines()
        .filter(|line| !line.starts_with(char::is_whitespace))
        .map(|line| line.trim_start_matches("Caused by: ").trim())
        .filter(|line| !line.is_empty())
        .collect();
    reasons.join(" ← ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_trace_are_its_exceptions() {
        let trace = "org.apache.ConnectException: failed\n\tat a.b(C.java:1)\nCaused by: x.PSQLException: FATAL: no\n\t... 3 more";
        assert_eq!(reasons(trace), "org.apache.ConnectException: failed ← x.PSQLException: FATAL: no");
    }

    #[test]
    fn a_worker_that_rebalances_is_asked_again_and_one_that_failed_is_not() {
        let body = r#"{"error_code":500,"message":"Request cannot be completed because a rebalance is expected"}"#;
        assert!(is_rebalancing(StatusCode::INTERNAL_SERVER_ERROR, body) && is_rebalancing(StatusCode::CONFLICT, ""));
        assert!(!is_rebalancing(
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"error_code":500,"message":"Request timed out"}"#
        ));
        assert!(!is_rebalancing(StatusCode::BAD_REQUEST, body));
    }

    #[test]
    fn connects_message_is_taken_out_of_its_json() {
        let body = r#"{"error_code":400,"message":"Connector configuration is invalid"}"#;
        assert_eq!(told(StatusCode::BAD_REQUEST, body), "400 Bad Request: Connector configuration is invalid");
        assert_eq!(told(StatusCode::UNAUTHORIZED, "User cannot access"), "401 Unauthorized: User cannot access");
    }
}
