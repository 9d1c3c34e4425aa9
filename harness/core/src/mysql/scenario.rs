//! What a scenario can do with MySQL only.

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::Source;
use crate::{error::Result, scenario::Scenario, script::FIRST_SESSION};

impl Scenario {
    /// Has a file of this content at hand for the next `LOAD DATA LOCAL INFILE` of the first session, whatever its name.
    ///
    /// # Errors
    /// The session can't be opened.
    pub async fn have_file(&mut self, content: &'static str) -> Result<()> {
        let session = self.source::<Source>()?.session(FIRST_SESSION).await?;
        session.set_infile_handler(async move { Ok(stream::iter([Ok(Bytes::from(content))]).boxed()) });
        Ok(())
    }
}
