//! The circuit breaker (Nygard 2007, "Release It!"): after failures in a row calls fail at once for a while, so that nobody waits for a dead
//! server; then one call at a time tries it, and the first that succeeds lets all others pass again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::IntGauge;

/// Failures in a row after which calls fail at once: one or two may be a restart of a node behind a load balancer.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Breaker {
    state: Mutex<State>,
    /// 1 while calls fail at once.
    open: IntGauge,
}

struct State {
    failures: u32,
    pause: Duration,
    /// Until then nobody calls; `None` while all may.
    closed_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(open: IntGauge) -> Self {
        open.set(0);
        Self { state: Mutex::new(State { failures: 0, pause: FIRST_PAUSE, closed_until: None }), open }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made at `now`.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.closed_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // This call tries; the others wait for its outcome, or for another pause in case it has none.
                state.closed_until = Some(now + state.pause);
                true
            }
        }
    }

    /// Notes how a call went that ended at `now`; true when this opened or closed the circuit.
    pub(super) fn note(&self, answered: bool, now: Instant) -> bool {
        let mut state = self.state();
        let was_open = state.closed_until.is_some();
        if answered {
            *state = State { failures: 0, pause: FIRST_PAUSE, closed_until: None };
        } else {
            state.failures = state.failures.saturating_add(1);
            if was_open {
                state.pause = (state.pause * 2).min(LONGEST_PAUSE);
            }
            if state.failures >= FAILURES {
                state.closed_until = Some(now + state.pause);
            }
        }
        let is_open = state.closed_until.is_some();
        self.open.set(i64::from(is_open));
        is_open != was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(IntGauge::new("open", "open").unwrap())
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_call_at_a_time_tries_again() {
        let (breaker, start) = (breaker(), Instant::now());
        for _ in 0..FAILURES - 1 {
            assert!(!breaker.note(false, start) && breaker.admits(start));
        }

        assert!(breaker.note(false, start));

        assert!(!breaker.admits(start) && breaker.open.get() == 1);
        let later = start + FIRST_PAUSE;
        assert!(breaker.admits(later), "the one that tries");
        assert!(!breaker.admits(later), "the others");
        assert!(!breaker.note(false, later));
        assert!(!breaker.admits(later + FIRST_PAUSE), "the pause grows");
        assert!(breaker.admits(later + 2 * FIRST_PAUSE));
        assert!(breaker.note(true, later + 2 * FIRST_PAUSE));
        assert!(breaker.admits(later + 2 * FIRST_PAUSE) && breaker.open.get() == 0);
    }

    #[test]
    fn a_success_in_between_forgets_the_failures() {
        let (breaker, start) = (breaker(), Instant::now());
        for _ in 0..3 * FAILURES {
            breaker.note(false, start);
            breaker.note(true, start);
        }
        assert!(breaker.admits(start));
    }

    #[test]
    fn a_trial_that_never_ends_does_not_bar_the_way_for_ever() {
        let (breaker, start) = (breaker(), Instant::now());
        for _ in 0..FAILURES {
            breaker.note(false, start);
        }
        assert!(breaker.admits(start + FIRST_PAUSE));
        assert!(breaker.admits(start + 2 * FIRST_PAUSE));
    }
}
