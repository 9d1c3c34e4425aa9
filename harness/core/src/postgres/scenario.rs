//! What a scenario can do with PostgreSQL only.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{SERVICE, Source};
use crate::{
    error::{Context, Error, Result},
    publication::Publication,
    scenario::Scenario,
};

const GETS_THE_SLOT_WITHIN: Duration = Duration::from_secs(120);

impl Scenario {
    /// Publishes this instead of all tables, for methods that read a publication.
    ///
    /// # Errors
    /// The database refuses it.
    pub async fn publish(&mut self, publication: Publication) -> Result<()> {
        for statement in publication.statements() {
            let done = self.source::<Source>()?.admin().batch_execute(&statement).await;
            done.while_doing(SERVICE, format!("run `{statement}`"))?;
        }
        self.shown = Some(Box::new(publication));
        Ok(())
    }

    /// Starts a standby of the server, which must be the scenario's own (`own_server`).
    ///
    /// # Errors
    /// It can't be started, or doesn't follow.
    pub async fn start_standby(&mut self) -> Result<()> {
        self.source::<Source>()?.start_standby().await
    }

    /// Waits until the standby has the capture's slot.
    ///
    /// # Errors
    /// It doesn't get it, or the capture fails.
    pub async fn until_the_standby_has_the_slot(&mut self) -> Result<()> {
        let slot = self.capture_name();
        let deadline = Instant::now() + GETS_THE_SLOT_WITHIN;
        while !self.source::<Source>()?.has_on_standby(&slot).await? {
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, format!("see the slot {slot} on the standby"), "it isn't there"));
            }
            // The slot moves on with what the capture has confirmed.
            self.catch_up().await?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The server dies, and its standby takes its place, while changes may be on their way.
    ///
    /// # Errors
    /// There is no standby, or it can't take over.
    pub async fn fail_over(&mut self) -> Result<()> {
        self.source::<Source>()?.fail_over().await?;
        self.note_break();
        Ok(())
    }

    /// Asks the database a question that it must answer by true.
    ///
    /// # Errors
    /// It answers otherwise, or refuses.
    pub async fn must_hold(&mut self, question: &str) -> Result<()> {
        let answer = self.source::<Source>()?.admin().query_one(question, &[]).await;
        match answer.while_doing(SERVICE, format!("ask `{question}`"))?.get::<_, Option<bool>>(0) {
            Some(true) => Ok(()),
            _ => Err(Error::new(self.name, format!("see that `{question}`"), "it is not so")),
        }
    }
}
