//! Recent histories: an actor in, its newest acts out; loaded from the store when needed, bounded in bytes.
//!
//! A write drops the cached history, the next request loads it again: the store stays the one truth, and a load that was
//! under way while an event arrived is not kept (its placeholder was dropped with the entry).

use std::{future::Future, sync::Arc};

use quick_cache::{Weighter, sync::Cache};

use crate::domain::{Actor, Timestamp};

use super::signals::Act;

/// What an actor did and wrote lately.
pub type History = Arc<Recollection>;

/// An actor's history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recollection {
    /// What was done to items, newest first.
    pub acts: Vec<Act>,
    /// What was written, newest first; empty where nothing reads it.
    pub texts: Vec<Written>,
}

/// Words of an actor that say what he likes.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The store's running number of the event.
    pub sequence: i64,
    /// Cut to what is read of it.
    pub text: Box<str>,
    /// How much they say, as the weight of an act.
    pub weight: f32,
    /// When.
    pub at: Timestamp,
}

/// What a loader found.
pub struct Loaded {
    /// The acts.
    pub history: History,
    /// Whether to keep them under the name that was asked for. Not where the name stands for somebody else: what they do later does not
    /// come under it, so nobody would say [`forget`](Histories::forget).
    pub keep: bool,
}

/// Cached histories, loaded by a loader that `app` hands over.
pub struct Histories {
    cache: Cache<Actor, History, HistoryWeight>,
}

#[derive(Clone)]
struct HistoryWeight;

impl Weighter<Actor, History> for HistoryWeight {
    fn weight(&self, _: &Actor, history: &History) -> u64 {
        // An act: 64 bytes and an id of some 40; an entry: the actor's name and the cache's own bookkeeping.
        256 + 104 * history.acts.len() as u64 + history.texts.iter().map(|written| 64 + written.text.len() as u64).sum::<u64>()
    }
}

impl Histories {
    /// Keeps histories of about `bytes` in memory.
    pub fn new(bytes: u64) -> Self {
        Self { cache: Cache::with_weighter((bytes / 2048).max(64) as usize, bytes, HistoryWeight) }
    }

    /// The actor's history, from memory or through `load`; concurrent requests for one actor load once.
    pub async fn of<E>(&self, actor: &Actor, load: impl Future<Output = Result<Loaded, E>>) -> Result<History, E> {
        match self.cache.get_value_or_guard_async(actor).await {
            Ok(history) => Ok(history),
            Err(guard) => {
                let Loaded { history, keep } = load.await?;
                if keep {
                    // Refused when a write dropped the placeholder meanwhile: what was loaded may lack that event.
                    drop(guard.insert(Arc::clone(&history)));
                }
                Ok(history)
            }
        }
    }

    /// Forgets what was cached of an actor, because something new happened.
    pub fn forget(&self, actor: &Actor) {
        self.cache.remove(actor);
    }

    /// Forgets what was cached of everybody, because somebody was erased and it is not known here who.
    pub fn forget_all(&self) {
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::domain::{EventType, ItemId, Timestamp, UserId};
    use crate::features::{FeatureSettings, Preset, Signals};

    fn history(n: i64) -> History {
        let kind = Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap().kind(EventType::Click).unwrap();
        let act = |sequence| Act { sequence, kind, item: ItemId::new("a").unwrap(), value: None, at: Timestamp::from_millis(sequence).unwrap() };
        Arc::new(Recollection { acts: (0..n).map(act).collect(), texts: Vec::new() })
    }

    async fn loads(histories: &Histories, actor: &Actor, n: i64) -> usize {
        histories.of(actor, async { Ok::<_, Infallible>(Loaded { history: history(n), keep: true }) }).await.unwrap().acts.len()
    }

    #[tokio::test]
    async fn a_history_is_loaded_once_and_again_after_a_write() {
        let histories = Histories::new(1 << 20);
        let ann = Actor::User(UserId::new("ann").unwrap());

        assert_eq!(loads(&histories, &ann, 1).await, 1);
        assert_eq!(loads(&histories, &ann, 2).await, 1);
        histories.forget(&ann);
        assert_eq!(loads(&histories, &ann, 2).await, 2);
    }

    #[tokio::test]
    async fn an_event_that_arrives_during_a_load_is_not_lost() {
        let histories = Arc::new(Histories::new(1 << 20));
        let ann = Actor::User(UserId::new("ann").unwrap());
        let (release, gate) = tokio::sync::oneshot::channel::<()>();
        let (started, start) = tokio::sync::oneshot::channel::<()>();
        let slow = tokio::spawn({
            let (histories, ann) = (Arc::clone(&histories), ann.clone());
            async move {
                let load = async {
                    started.send(()).unwrap();
                    gate.await.unwrap();
                    Ok::<_, Infallible>(Loaded { history: history(1), keep: true })
                };
                histories.of(&ann, load).await.unwrap().acts.len()
            }
        });
        start.await.unwrap();

        histories.forget(&ann); // the event was committed after the load had read
        release.send(()).unwrap();

        assert_eq!(slow.await.unwrap(), 1);
        assert_eq!(loads(&histories, &ann, 2).await, 2);
    }

    #[tokio::test]
    async fn a_history_under_another_name_is_not_kept() {
        let histories = Histories::new(1 << 20);
        let old = Actor::User(UserId::new("old").unwrap());
        let load = |n| async move { Ok::<_, Infallible>(Loaded { history: history(n), keep: false }) };

        assert_eq!(histories.of(&old, load(1)).await.unwrap().acts.len(), 1);
        assert_eq!(histories.of(&old, load(2)).await.unwrap().acts.len(), 2);
    }

    #[tokio::test]
    async fn forgetting_everybody_also_drops_what_is_being_loaded() {
        let histories = Histories::new(1 << 20);
        let ann = Actor::User(UserId::new("ann").unwrap());
        loads(&histories, &ann, 1).await;
        histories.forget_all();
        assert_eq!(loads(&histories, &ann, 2).await, 2);

        histories.forget(&ann);
        let load = async {
            histories.forget_all(); // somebody was erased after the load had read
            Ok::<_, Infallible>(Loaded { history: history(3), keep: true })
        };
        assert_eq!(histories.of(&ann, load).await.unwrap().acts.len(), 3);
        assert_eq!(loads(&histories, &ann, 4).await, 4);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let histories = Histories::new(100_000);
        for n in 0..1_000 {
            loads(&histories, &Actor::User(UserId::new(format!("u{n}")).unwrap()), 50).await;
        }

        assert!(histories.cache.weight() <= 100_000);
    }
}
