//! What is particular to the embedded engine: folders and crashes.

use std::{ops::Deref, path::Path, sync::Arc};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    domain::{AttributeType, Filter},
    index::{
        Collections, Lexicon,
        contract::{WIDTH, all, embedding, home, keys, point, settings},
        lexical::tests::settings as lexical,
    },
    telemetry::Registry,
};

const NAME: &str = "movies";

/// An index in a folder that goes when it is dropped.
pub(in crate::index) struct Temporary {
    index: Arc<dyn VectorIndex>,
    _folder: TempDir,
}

impl Temporary {
    pub(in crate::index) async fn index(width: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = collections(folder.path()).open(NAME, width).await.unwrap().index;
        Self { index, _folder: folder }
    }
}

impl Deref for Temporary {
    type Target = dyn VectorIndex;
    fn deref(&self) -> &Self::Target {
        &*self.index
    }
}

fn collections(folder: &Path) -> Collections {
    Collections::new(&settings(), home(folder), Compute::start("index-test", 2, 64).unwrap(), &Registry::new()).unwrap()
}

fn tent() -> IndexPoint {
    point(1, Some([1.0, 0.0, 0.0, 0.0]), json!({"item_id": "a", "title": "tent", "price": 5, "attributes": {"size": 2}}))
}

#[tokio::test]
async fn what_was_flushed_is_found_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let index = collections(folder.path()).open(NAME, WIDTH).await.unwrap().index;
    index.upsert(vec![tent(), point(2, None, json!({"item_id": "b", "title": "rope"}))]).await.unwrap();
    index.flush().await.unwrap();
    drop(index);

    let index = collections(folder.path()).open(NAME, WIDTH).await.unwrap().index;

    let query = Lexicon::new(&lexical()).query_terms("tent rope");
    let filter = Filter::parse(&json!({"attributes.size": {"gt": 1}}), &|_| Some(AttributeType::Number)).unwrap();
    assert_eq!(index.count().await.unwrap(), 2);
    assert_eq!(keys(&index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap()), [1]);
    assert_eq!(index.matching(&query, all(5)).await.unwrap().len(), 2);
    assert_eq!(keys(&index.matching(&query, Search { limit: 5, filter: Some(&filter) }).await.unwrap()), [1]);
    assert_eq!(index.embeddings(&[ItemKey(1)]).await.unwrap().len(), 1);
    assert!(index.lexical_scores(&query, &[ItemKey(2)]).await.unwrap()[0].1 > 0.0);
}

#[tokio::test]
async fn another_width_or_analysis_names_the_way_out_and_leaves_the_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(collections(folder.path()).open(NAME, WIDTH).await.unwrap());

    let error = collections(folder.path()).open(NAME, WIDTH + 1).await.err().unwrap();

    assert!(matches!(error, IndexError::OtherShape { .. }) && error.to_string().contains("inkling reindex"), "{error}");
    let mut other = settings();
    other.lexical.average_length = 7.0;
    let other = Collections::new(&other, home(folder.path()), Compute::start("index-test", 1, 4).unwrap(), &Registry::new()).unwrap();
    assert!(matches!(other.open(NAME, WIDTH).await, Err(IndexError::OtherShape { .. })));
    assert!(collections(folder.path()).open(NAME, WIDTH).await.is_ok());
}

#[tokio::test]
async fn a_folder_in_use_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let _index = collections(folder.path()).open(NAME, WIDTH).await.unwrap().index;

    assert!(matches!(collections(folder.path()).open(NAME, WIDTH).await, Err(IndexError::Locked { .. })));
}

#[tokio::test]
async fn a_torn_folder_is_unusable_and_says_so() {
    for tear in ["segments", "shape.json", "*/segment.json", "*/mutable_id_tracker.mappings", "*/vector_storage-dense", "*/version.info"] {
        let folder = tempfile::tempdir().unwrap();
        let index = collections(folder.path()).open(NAME, WIDTH).await.unwrap().index;
        index.upsert(vec![tent()]).await.unwrap();
        index.flush().await.unwrap();
        drop(index);
        let path = match tear.strip_prefix("*/") {
            Some(part) => std::fs::read_dir(folder.path().join(NAME).join("segments")).unwrap().next().unwrap().unwrap().path().join(part),
            None => folder.path().join(NAME).join(tear),
        };
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::write(&path, b"torn").unwrap()
        }

        let opened = collections(folder.path()).open(NAME, WIDTH).await;

        match opened {
            Err(IndexError::Unusable { .. }) => {}
            Err(error) => panic!("{tear}: {error}"),
            Ok(opened) => panic!("{tear}: opened with {} points", opened.index.count().await.unwrap()),
        }
    }
}

#[tokio::test]
async fn optimisation_is_due_past_its_threshold_and_changes_no_answer() {
    let index = Temporary::index(WIDTH).await;
    let points = |range: std::ops::Range<u32>| -> Vec<_> {
        let vector = |i: u32| [(i as f32 * 0.37).sin(), (i as f32 * 0.11).cos(), (i as f32 * 0.05).sin(), 0.2];
        range.map(|i| point(i, Some(vector(i)), json!({"item_id": i.to_string(), "title": format!("word{} tent", i % 7), "price": i}))).collect()
    };
    index.upsert(points(0..1_500)).await.unwrap();
    assert!(!index.optimize_if_due().await.unwrap());
    index.upsert(points(1_500..3_000)).await.unwrap();
    let filter = Filter::parse(&json!({"price": {"gte": 100, "lt": 110}}), &|_| None).unwrap();
    let narrow = Search { limit: 20, filter: Some(&filter) };
    let query = Lexicon::new(&lexical()).query_terms("word3");
    let before = (index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap(), keys(&index.matching(&query, narrow).await.unwrap()));

    assert!(index.optimize_if_due().await.unwrap());

    let after = (index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap(), keys(&index.matching(&query, narrow).await.unwrap()));
    assert_eq!(keys(&before.0), keys(&after.0));
    assert_eq!(before.1, after.1);
    let widely = index.nearest(&embedding([1.0; WIDTH]), all(200)).await.unwrap();
    let exact = index.similarities(&embedding([1.0; WIDTH]), &widely.iter().map(|hit| hit.key).collect::<Vec<_>>()).await.unwrap();
    assert!(
        widely.len() == 200 && widely.iter().zip(&exact).all(|(hit, (_, cosine))| (hit.score.get() - cosine).abs() < 1e-6),
        "packed to bytes, scores are exact"
    );
    assert!(!index.optimize_if_due().await.unwrap());
    index.upsert(points(0..10)).await.unwrap();
    index.delete(&[(ItemKey(105), Revision(1))]).await.unwrap();
    index.flush().await.unwrap();
    assert_eq!(index.nearest(&embedding([1.0; WIDTH]), narrow).await.unwrap().len(), 9);
    assert_eq!(index.count().await.unwrap(), 2_999);
}

#[tokio::test]
async fn an_optimised_item_that_loses_its_embedding_or_its_words_is_found_by_what_is_left() {
    let index = Temporary::index(WIDTH).await;
    let vector = |i: u32| Some([1.0, (i as f32).sin(), (i as f32).cos(), 0.2]);
    index.upsert((0..3_000).map(|i| point(i, vector(i), json!({"item_id": i.to_string(), "title": "tent"}))).collect()).await.unwrap();
    assert!(index.optimize_if_due().await.unwrap());
    let filter = Filter::parse(&json!({"item_id": ["7", "8"]}), &|_| None).unwrap();
    let both = Search { limit: 5, filter: Some(&filter) };

    let (worded, embedded) = (point(7, None, json!({"item_id": "7", "title": "tent"})), point(8, vector(8), json!({"item_id": "8", "title": "!"})));
    index.upsert(vec![worded, embedded]).await.unwrap();

    assert_eq!(keys(&index.nearest(&embedding([1.0; WIDTH]), both).await.unwrap()), [8]);
    assert_eq!(keys(&index.matching(&Lexicon::new(&lexical()).query_terms("tent"), both).await.unwrap()), [7]);
}

#[tokio::test]
async fn writes_flushes_and_searches_may_come_at_once() {
    let index = Temporary::index(WIDTH).await;
    let work = (0..8_u32).map(|i| {
        let index = Arc::clone(&index.index);
        tokio::spawn(async move {
            for j in 0..10 {
                index.upsert(vec![point(i * 10 + j, Some([1.0, i as f32, j as f32, 0.0]), json!({"item_id": "a", "title": "tent"}))]).await.unwrap();
                index.nearest(&embedding([1.0; WIDTH]), all(5)).await.unwrap();
                index.flush().await.unwrap();
            }
        })
    });

    for work in work.collect::<Vec<_>>() {
        work.await.unwrap();
    }

    assert_eq!(index.count().await.unwrap(), 80);
}
