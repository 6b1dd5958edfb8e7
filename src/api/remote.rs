//! What a server does for a goflow that has no store: its calls, and its wait for new work.

use std::time::Duration;

use super::Client;
use crate::domain::RunId;
use crate::store::wire::{self, Call, HINTS_WAIT_MS, HintWish, Refusal, Right};

impl Client {
    /// Carries out a call of the store contract that came as bytes.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn serve(&self, call: Call, message: &[u8], may: Right) -> Result<Vec<u8>, Refusal> {
        let answer = wire::answer(&**self.store(), call, message, may).await?;
        if call == Call::Inform && may < Right::Admin {
            // Whoever is not trusted advances no run.
            let (told,): (Vec<(RunId, Vec<u8>)>,) = wire::decode(message).map_err(Refusal::Malformed)?;
            self.runs.take_in(told.into_iter().map(|(run, _)| run), self.now.now()).await;
        }
        Ok(answer)
    }

    /// Waits until new work may be there, or for as long as is wished: the number of hints so far. It
    /// means something only beside another one of this process.
    pub async fn next_hint(&self, wish: HintWish) -> u64 {
        let mut hints = self.store().hints();
        let now = *hints.borrow_and_update();
        if wish.seen != Some(now) {
            return now;
        }
        let wait = Duration::from_millis(wish.wait_ms.min(HINTS_WAIT_MS));
        match tokio::time::timeout(wait, hints.changed()).await {
            Ok(Ok(())) => *hints.borrow(),
            _ => now,
        }
    }
}
