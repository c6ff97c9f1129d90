//! The models of one moment: a request reads one set from start to end, publishing never waits for readers.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    domain::Embedding,
    encoder::Encoder,
    index::{Lexicon, VectorIndex},
    learned::ItemItem,
};

use super::understand::Categories;

/// Encoder, index and weights that belong together.
#[derive(Clone)]
pub struct ModelSet {
    /// Text to embedding.
    pub encoder: Encoder,
    /// The collection that was filled with this encoder's embeddings.
    pub index: Arc<dyn VectorIndex>,
    /// What the collection's terms were made with.
    pub lexicon: Arc<Lexicon>,
    /// Collaborative weights and their version, once something was learned.
    pub collaborative: Option<Collaborative>,
    /// What texts can be about, once it was made with this encoder.
    pub categories: Option<Arc<Categories>>,
}

impl ModelSet {
    /// A text's meaning without this `share` of what tells the catalogue's languages apart, as far as that is known yet.
    pub(super) fn across_languages(&self, text: &Embedding, share: f32) -> Embedding {
        self.categories.as_ref().map_or_else(|| text.clone(), |categories| categories.across_languages(text, share))
    }
}

/// Item-item weights as they were published.
#[derive(Clone)]
pub struct Collaborative {
    /// The artefact's version.
    pub version: String,
    /// The weights.
    pub weights: Arc<ItemItem>,
}

/// The current [`ModelSet`], shared by all who read and the few who publish.
#[derive(Clone)]
pub struct Models(Arc<ArcSwap<ModelSet>>);

impl Models {
    /// Starts with `set`.
    pub fn new(set: ModelSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(set)))
    }

    /// The set as it is now; it stays whole for as long as it is held.
    pub fn snapshot(&self) -> Arc<ModelSet> {
        self.0.load_full()
    }

    /// Swaps in new weights beside the encoder and the index as they are.
    pub fn publish_collaborative(&self, collaborative: &Collaborative) {
        self.0.rcu(|set| ModelSet { collaborative: Some(collaborative.clone()), ..ModelSet::clone(set) });
    }

    /// Swaps in the encoder, collection, lexicon and categories of `next`, beside the weights as they are. Where it has no categories the old ones
    /// stay if the encoder does.
    pub fn publish_index(&self, next: &ModelSet) {
        self.0.rcu(|set| {
            let fits = set.encoder.version() == next.encoder.version();
            let categories = next.categories.clone().or_else(|| set.categories.clone().filter(|_| fits));
            ModelSet { categories, collaborative: set.collaborative.clone(), ..ModelSet::clone(next) }
        });
    }

    /// Swaps in new categories, unless the encoder that they were made with has gone meanwhile.
    pub(super) fn publish_categories(&self, categories: &Arc<Categories>) {
        self.0.rcu(|set| {
            let fits = set.encoder.version() == categories.model_version();
            ModelSet { categories: if fits { Some(Arc::clone(categories)) } else { set.categories.clone() }, ..ModelSet::clone(set) }
        });
    }
}
