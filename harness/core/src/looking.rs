//! Looking again: how a capture that asks its source from time to time comes through an outage of it.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::error::Result;

/// How long a source may be away, and how often it is looked for.
pub(crate) const COMES_BACK_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const KNOCKS_EVERY: Duration = Duration::from_millis(100);

/// A look that fails so often, each time on a new connection, fails for another reason than an outage.
const FAILED_LOOKS: u32 = 3;

/// A capture that looks from time to time. A look takes effect at its end, so one that fails skips nothing.
#[async_trait]
pub(crate) trait Looking: Send {
    /// Makes its connection anew.
    async fn connect(&mut self) -> Result<()>;

    /// Takes what there is to be found.
    async fn look(&mut self) -> Result<()>;

    /// Looks, on a new connection if the one that it had broke: a server that was started again takes a while.
    async fn look_with_patience(&mut self) -> Result<()> {
        if self.look().await.is_ok() {
            return Ok(());
        }
        let until = Instant::now() + COMES_BACK_WITHIN;
        let mut failed_looks = 0;
        loop {
            let failure = match self.connect().await {
                Ok(()) => match self.look().await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        failed_looks += 1;
                        error
                    }
                },
                Err(error) => error,
            };
            if failed_looks == FAILED_LOOKS || Instant::now() >= until {
                return Err(failure);
            }
            sleep(KNOCKS_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::error::Error;

    /// A source that answers so.
    struct Source {
        connects: VecDeque<bool>,
        looks: VecDeque<bool>,
    }

    fn answer(answers: &mut VecDeque<bool>) -> Result<()> {
        match answers.pop_front() {
            Some(true) => Ok(()),
            _ => Err(Error::new("the test", "look", "it is away")),
        }
    }

    #[async_trait]
    impl Looking for Source {
        async fn connect(&mut self) -> Result<()> {
            answer(&mut self.connects)
        }

        async fn look(&mut self) -> Result<()> {
            answer(&mut self.looks)
        }
    }

    async fn looks(connects: &[bool], looks: &[bool]) -> bool {
        let mut source =
            Source { connects: connects.iter().copied().collect(), looks: looks.iter().copied().collect() };
        source.look_with_patience().await.is_ok()
    }

    #[tokio::test]
    async fn an_outage_is_waited_for_and_a_look_that_always_fails_is_not() {
        assert!(looks(&[], &[true]).await);
        assert!(looks(&[false, false, true], &[false, true]).await, "it was started again");
        assert!(looks(&[true, false, true], &[false, false, true]).await, "it took a connection just before it ended");
        assert!(
            !looks(&[true; 3], &[false, false, false, false, true]).await,
            "its fourth look would be the first right one"
        );
    }
}
