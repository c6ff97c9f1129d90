//! What is particular to a server: who may come in, what is left alone there, and what happens when it is gone, slow, and back.

use std::{ops::Deref, sync::Arc};

use crate::{
    index::{
        Collections, IndexSettings, VectorIndex,
        contract::{WIDTH, home, settings},
    },
    telemetry::{Compute, Registry},
};

#[cfg(feature = "edge")]
#[expect(dead_code, reason = "the tests of whole processes use the rest")]
#[path = "../../../tests/support/qdrant.rs"]
pub(crate) mod fake;
#[cfg(feature = "edge")]
#[expect(clippy::duplicate_mod, reason = "the store's tests have it too, and rooms of one floor never meet")]
#[expect(dead_code, reason = "the tests of whole processes use the rest")]
#[path = "../../../tests/support/proxy.rs"]
mod proxy;

/// A collection that goes when it is dropped, or is left under a name of its own on a real server.
pub(in crate::index) struct Temporary {
    index: Arc<dyn VectorIndex>,
    #[cfg(feature = "edge")]
    _server: Option<fake::Server>,
}

impl Deref for Temporary {
    type Target = dyn VectorIndex;
    fn deref(&self) -> &Self::Target {
        &*self.index
    }
}

pub(in crate::index) fn collections(settings: &IndexSettings) -> Collections {
    let nowhere = std::path::Path::new("/nowhere");
    Collections::new(settings, home(nowhere), Compute::start("index-test", 1, 64).unwrap(), &Registry::new()).unwrap()
}

pub(in crate::index) fn at(url: &str) -> IndexSettings {
    IndexSettings { url: Some(url.parse().unwrap()), ..settings() }
}

#[cfg(feature = "edge")]
fn anywhere() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Temporary {
    #[cfg(feature = "edge")]
    pub(in crate::index) async fn over_the_wire() -> Self {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), None);
        let index = collections(&at(&server.url())).open("movies", WIDTH).await.unwrap().index;
        Self { index, _server: Some(server) }
    }

    pub(in crate::index) async fn on_a_real_server() -> Self {
        let url = std::env::var("INKLING_TEST_QDRANT_URL").expect("INKLING_TEST_QDRANT_URL names a server: http://host:6334");
        let mut settings = at(&url);
        settings.collection_prefix = format!("inkling_test_{}_", uuid::Uuid::now_v7());
        settings.api_key = std::env::var("INKLING_TEST_QDRANT_API_KEY").ok().map(|key| serde_json::from_value(key.into()).unwrap());
        let index = collections(&settings).open("movies", WIDTH).await.unwrap().index;
        Self {
            index,
            #[cfg(feature = "edge")]
            _server: None,
        }
    }
}

#[cfg(feature = "edge")]
mod over_the_wire {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::{
        domain::{ItemKey, Revision},
        index::{
            ApiKey, Home, IndexError,
            contract::{all, embedding, point},
        },
    };
    use proxy::{Network, Proxy};

    async fn filled(collections: &Collections) -> Arc<dyn VectorIndex> {
        let index = collections.open("movies", WIDTH).await.unwrap().index;
        index.upsert(vec![point(1, Some([1.0, 0.0, 0.0, 0.0]), json!({"item_id": "a", "title": "tent", "attributes": {"größe in cm": 5}}))]).await.unwrap();
        index
    }

    fn patient_for(ms: u64, url: &str) -> IndexSettings {
        IndexSettings { timeout_ms: ms, write_timeout_ms: ms, ..at(url) }
    }

    #[tokio::test]
    async fn who_does_not_show_the_key_is_not_let_in_and_the_key_stays_out_of_the_message() {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), Some("s3cret"));
        let key: ApiKey = serde_json::from_str(r#""s3cret""#).unwrap();
        let wrong: ApiKey = serde_json::from_str(r#""wr0ng""#).unwrap();

        let refused = collections(&IndexSettings { api_key: Some(wrong), ..at(&server.url()) }).open("movies", WIDTH).await.err().unwrap().to_string();

        assert!(refused.contains("API key") && !refused.contains("wr0ng"), "{refused}");
        assert!(collections(&IndexSettings { api_key: Some(key), ..at(&server.url()) }).open("movies", WIDTH).await.unwrap().is_new);
    }

    #[tokio::test]
    async fn a_replica_that_starts_sees_what_is_there_at_once() {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), None);
        filled(&collections(&at(&server.url()))).await;

        let opened = collections(&at(&server.url())).open("movies", WIDTH).await.unwrap();

        assert!(!opened.is_new);
        assert_eq!(opened.index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap().len(), 1);
        assert_eq!(opened.index.embeddings(&[ItemKey(1)]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn another_shape_is_named_and_what_is_anothers_is_left_alone() {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), None);
        let ours = collections(&at(&server.url()));
        filled(&ours).await;

        assert!(matches!(ours.open("movies", WIDTH + 1).await, Err(IndexError::OtherShape { .. })));
        let stranger = Home { catalogue: "another shop".to_owned(), ..home(std::path::Path::new("/nowhere")) };
        let theirs = Collections::new(&at(&server.url()), stranger, Compute::start("test", 1, 4).unwrap(), &Registry::new()).unwrap();
        let refused = theirs.open("movies", WIDTH).await.err().unwrap();
        assert!(matches!(refused, IndexError::Foreign { .. }) && refused.to_string().contains("index.collection_prefix"), "{refused}");
        assert!(theirs.discard("movies").await.is_err());
        assert!(theirs.names().await.unwrap().is_empty());
        assert_eq!(ours.names().await.unwrap(), ["movies"]);
        ours.discard("movies").await.unwrap();
        ours.discard("movies").await.unwrap();
        assert!(ours.names().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_mark_is_seen_by_every_process() {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), None);
        let (one, other) = (collections(&at(&server.url())), collections(&at(&server.url())));
        filled(&one).await;
        assert!(other.marks().await.unwrap().is_empty());

        one.mark("movies", "complete".to_owned()).await.unwrap();

        assert_eq!(other.marks().await.unwrap(), [("movies".to_owned(), "complete".to_owned())]);
        assert!(other.open("movies", WIDTH).await.is_ok(), "the shape still stands there");
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_not_waited_for_and_comes_back_by_itself() {
        let (storage, registry) = (fake::Storage::default(), Registry::new());
        let server = fake::Server::start_at(&storage, anywhere(), None);
        let (address, settings) = (server.address, patient_for(2_000, &server.url()));
        let home = home(std::path::Path::new("/nowhere"));
        let collections = Collections::new(&settings, home, Compute::start("test", 1, 4).unwrap(), &registry).unwrap();
        let index = filled(&collections).await;
        let is_open =
            |family: &prometheus::proto::MetricFamily| family.name() == "inkling_index_circuit_open" && family.get_metric()[0].get_gauge().get_value() > 0.5;
        let gauge = || registry.gather().iter().any(is_open);
        assert!(index.is_up().await && !gauge());

        drop(server);
        for _ in 0..6 {
            assert!(matches!(index.nearest(&embedding([1.0; WIDTH]), all(5)).await, Err(IndexError::Unavailable(_))));
        }

        assert!(gauge() && !index.is_up().await);
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(index.nearest(&embedding([1.0; WIDTH]), all(5)).await.is_err());
            assert!(index.delete(&[(ItemKey(1), Revision(9))]).await.is_err());
        }
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());

        let _server = fake::Server::start_at(&storage, address, None);
        let begun = Instant::now();
        while !index.is_up().await {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap().len(), 1);
        assert!(!gauge());
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_found_out_even_by_callers_with_less_patience() {
        let server = fake::Server::start_at(&fake::Storage::default(), anywhere(), None);
        let proxy = Proxy::to(server.address.port()).await;
        let index = filled(&collections(&patient_for(2_000, &format!("http://127.0.0.1:{}", proxy.port())))).await;
        let hurried = || async {
            let query = embedding([1.0; WIDTH]);
            tokio::time::timeout(Duration::from_millis(20), index.nearest(&query, all(5))).await
        };
        assert!(index.is_up().await);

        proxy.be(Network::Silent);
        for _ in 0..8 {
            drop(hurried().await); // gives up long before the index does
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;

        assert!(matches!(hurried().await, Ok(Err(IndexError::Unavailable(_)))), "refused at once");
        proxy.be(Network::Good);
        let begun = Instant::now();
        while !index.is_up().await {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy.be(Network::Slow(Duration::from_millis(30)));
        assert_eq!(index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap().len(), 1, "slow is not gone");
    }
}
