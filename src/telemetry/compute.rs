//! A bounded pool for work that would hold up the async runtime: closure in, result out.
//!
//! At most `threads` closures run and `queue` more wait; past that callers are told at once. A panic stays in its closure.

use std::{panic::AssertUnwindSafe, sync::Arc};

use tokio::sync::{Semaphore, oneshot};

/// Threads for computation, cheap to clone.
#[derive(Clone)]
pub struct Compute {
    pool: Arc<rayon::ThreadPool>,
    places: Arc<Semaphore>,
}

/// Why the work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Too much is waiting already; try again later.
    #[error("too much work is waiting")]
    Full,
    /// The work panicked; a bug, already logged.
    #[error("the work failed unexpectedly")]
    Panicked,
}

impl Compute {
    /// Starts `threads` threads called `name`; `queue` closures may wait for one.
    pub fn start(name: &'static str, threads: usize, queue: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(move |i| format!("{name}-{i}")).build()?;
        Ok(Self { pool: Arc::new(pool), places: Arc::new(Semaphore::new(threads + queue)) })
    }

    /// Runs `work` on the pool, inside the caller's span. Dropping the future does not stop work that has begun.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ComputeError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ComputeError::Full)?;
        let (reply, result) = oneshot::channel();
        let span = tracing::Span::current();
        // FIFO, or a burst would starve whoever came first.
        self.pool.spawn_fifo(move || {
            let _place = place;
            if reply.is_closed() {
                return; // the caller gave up: the work would be for nobody
            }
            match std::panic::catch_unwind(AssertUnwindSafe(|| span.in_scope(work))) {
                Ok(value) => drop(reply.send(value)),
                Err(_) => span.in_scope(|| tracing::error!("work on the compute pool panicked")),
            }
        });
        result.await.map_err(|_| ComputeError::Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_and_a_panic_stays_inside() {
        let compute = Compute::start("test", 1, 4).unwrap();

        assert_eq!(compute.run(|| 6 * 7).await, Ok(42));
        assert_eq!(compute.run(|| -> u8 { panic!("on purpose") }).await, Err(ComputeError::Panicked));
        assert_eq!(compute.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn past_its_bound_the_pool_says_so_at_once() {
        let compute = Compute::start("test", 1, 1).unwrap();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(move || gate.recv().is_ok()).await }
        });
        let waiting = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(|| true).await }
        });
        while compute.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }

        assert_eq!(compute.run(|| true).await, Err(ComputeError::Full));

        release.send(()).unwrap();
        assert_eq!(running.await.unwrap(), Ok(true));
        assert_eq!(waiting.await.unwrap(), Ok(true));
    }
}
