//! The store's clock as a worker sees it between two answers: the last answer, moved on by the time
//! that has passed here. Good for what people read and for how long to sleep, never for judging.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Ms;

#[derive(Clone, Copy, Debug)]
pub struct StoreTime {
    answered: Ms,
    at: Instant,
}

impl StoreTime {
    pub fn new(answered: Ms) -> Self {
        StoreTime { answered, at: Instant::now() }
    }

    pub fn now(&self) -> Ms {
        self.answered.after(self.at.elapsed())
    }

    /// The local moment at which the store's clock will show `due`. A millisecond late rather than
    /// early: an early look finds nothing.
    pub fn instant(&self, due: Ms) -> Instant {
        self.at + due.since(self.answered) + Duration::from_millis(1)
    }
}
