//! How far each lane of the line has been consumed. Rows taken from the head of an index stay there,
//! dead, until the server cleans up; without a floor every claim would walk past all of them.
//!
//! A floor is only a shortcut and must never hide a job. A turn below it could still appear: by an
//! enqueue that drew its turn and has not committed, or by a claim that is rolled back. So a floor
//! is proposed from what one snapshot shows, and holds only when a later snapshot proves that every
//! transaction of that time has ended, and shows nothing below it either.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A probe is made after so many claims: a few pages of an index.
const PROBE_EVERY: usize = 2_048;

/// Queue and lane.
pub(super) type Lane = (i32, i16);

#[derive(Default)]
pub(super) struct Floors(Mutex<State>);

#[derive(Default)]
struct State {
    lanes: BTreeMap<Lane, Floor>,
    since_probe: usize,
}

#[derive(Default)]
struct Floor {
    /// No turn below this one will ever be seen again.
    turn: i64,
    /// Claimed up to here by this process.
    taken: i64,
    /// A turn, and the transaction number below which all must have ended for it to hold.
    proposed: Option<(i64, i64)>,
}

/// What a snapshot shows of a lane: its lowest turn at or above the floor, or for an empty lane the
/// turn after the last one that was claimed *before* the snapshot was taken.
pub(super) struct Sight {
    pub lane: Lane,
    pub lowest: i64,
    /// All transactions below this number have ended.
    pub ended: i64,
    /// All transactions that had begun are below this number.
    pub begun: i64,
}

impl Floors {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The floors of these queues, as columns.
    pub fn of(&self, queues: &[i32]) -> (Vec<i32>, Vec<i16>, Vec<i64>) {
        let state = self.state();
        let lanes = state.lanes.iter().filter(|((queue, _), floor)| floor.turn > 0 && queues.contains(queue));
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for ((queue, lane), floor) in lanes {
            columns.0.push(*queue);
            columns.1.push(*lane);
            columns.2.push(floor.turn);
        }
        columns
    }

    /// Notes what was claimed; `true` when it is time for a probe.
    pub fn taken(&self, claimed: usize, lanes: impl Iterator<Item = (Lane, i64)>) -> bool {
        let mut state = self.state();
        for (lane, turn) in lanes {
            // The front lanes have falling turns and few jobs: no floor for them.
            if lane.1 & 1 == 1 {
                let floor = state.lanes.entry(lane).or_default();
                floor.taken = floor.taken.max(turn);
            }
        }
        state.since_probe += claimed;
        if state.since_probe < PROBE_EVERY {
            return false;
        }
        state.since_probe = 0;
        true
    }

    /// The lanes worth a probe: queues, lanes, floors, and the turns after the last ones claimed.
    pub fn known(&self) -> (Vec<i32>, Vec<i16>, Vec<i64>, Vec<i64>) {
        let state = self.state();
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((queue, lane), floor) in &state.lanes {
            columns.0.push(*queue);
            columns.1.push(*lane);
            columns.2.push(floor.turn);
            columns.3.push(floor.taken + 1);
        }
        columns
    }

    pub fn seen(&self, sight: &Sight) {
        let mut state = self.state();
        let Some(floor) = state.lanes.get_mut(&sight.lane) else { return };
        match floor.proposed {
            Some((turn, begun)) if sight.ended >= begun => {
                floor.turn = floor.turn.max(turn.min(sight.lowest));
                floor.proposed = Some((sight.lowest, sight.begun));
            }
            Some(_) => {}
            None => floor.proposed = Some((sight.lowest, sight.begun)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(lowest: i64, ended: i64, begun: i64) -> Sight {
        Sight { lane: (1, 1), lowest, ended, begun }
    }

    fn floor(floors: &Floors) -> i64 {
        floors.of(&[1]).2.first().copied().unwrap_or(0)
    }

    #[test]
    fn a_floor_waits_for_everybody_who_might_come_below_it() {
        let floors = Floors::default();
        assert!(!floors.taken(1, [((1, 1), 99)].into_iter()));
        floors.seen(&sight(100, 7, 20));
        assert_eq!(floor(&floors), 0, "proposed only");
        floors.seen(&sight(300, 19, 30));
        assert_eq!(floor(&floors), 0, "transaction 19 may still bring a turn below 100");
        floors.seen(&sight(50, 20, 40));
        assert_eq!(floor(&floors), 50, "it did");
        floors.seen(&sight(400, 40, 60));
        assert_eq!(floor(&floors), 50, "what was proposed was 50");
        floors.seen(&sight(500, 60, 80));
        assert_eq!(floor(&floors), 400);
    }

    #[test]
    fn a_front_lane_has_no_floor() {
        let floors = Floors::default();
        assert!(floors.taken(PROBE_EVERY, [((1, 0), -5)].into_iter()), "time for a probe");
        assert!(floors.known().0.is_empty());
    }
}
