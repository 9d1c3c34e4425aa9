//! What a scenario can do with PostgreSQL only.

use super::{SERVICE, Source};
use crate::{
    error::{Context, Error, Result},
    publication::Publication,
    scenario::Scenario,
};

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
