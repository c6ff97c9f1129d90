//! A process must not end while ONNX Runtime computes: what is static in it is taken down at exit, under the feet of threads that still work
//! (a SIGTERM during a move to another model once ended in SIGSEGV).

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Passes go through it, until it is shut for good.
struct Gate(RwLock<()>);

static GATE: Gate = Gate(RwLock::new(()));

impl Gate {
    fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what is inside; whoever comes later waits for ever.
    fn shut(&self) {
        std::mem::forget(self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// To be held by each thread while ONNX Runtime works for it: loading, a forward pass, taking a session down. Not twice by one thread.
pub(super) fn computing() -> RwLockReadGuard<'static, ()> {
    GATE.pass()
}

/// Waits until no forward pass is under way and lets none begin any more: the last thing that a process does.
pub fn end_computing() {
    GATE.shut();
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn shutting_waits_for_what_is_under_way_and_lets_nothing_in_after() {
        static GATE: Gate = Gate(RwLock::new(()));
        let (said, told) = mpsc::channel();
        let inside = GATE.pass();
        let shutting = said.clone();
        thread::spawn(move || {
            GATE.shut();
            shutting.send("shut").unwrap();
        });
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "somebody is inside");

        drop(inside);

        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("shut"));
        thread::spawn(move || {
            let _inside = GATE.pass();
            said.send("inside").unwrap();
        });
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
    }
}
