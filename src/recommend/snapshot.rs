//! The models of one moment: a request reads one set from start to end, publishing never waits for readers.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    domain::{Embedding, FeatureVector},
    encoder::Encoder,
    index::{Lexicon, VectorIndex},
    learned::{Calibration, Learned},
};

use super::{
    settings::Weights,
    understand::{Categories, CategoryProbability},
};

/// Encoder, index and weights that belong together.
#[derive(Clone)]
pub struct ModelSet {
    /// Text to embedding.
    pub encoder: Encoder,
    /// The collection that was filled with this encoder's embeddings.
    pub index: Arc<dyn VectorIndex>,
    /// What the collection's terms were made with.
    pub lexicon: Arc<Lexicon>,
    /// What was learned and its version, once something was.
    pub learned: Option<Published>,
    /// What texts can be about, once it was made with this encoder.
    pub categories: Option<Arc<Categories>>,
    /// The collections of items' own vectors, by name: no model has a part in them.
    pub own_vectors: Arc<OwnVectors>,
}

/// Collections by the names of the vectors in them.
pub type OwnVectors = BTreeMap<String, Arc<dyn VectorIndex>>;

impl ModelSet {
    /// Where a text is looked for: its meaning without this `share` of what tells the catalogue's languages apart, mapped as was learned with this encoder.
    pub(super) fn searched(&self, text: &Embedding, share: f32) -> Embedding {
        let neutral = self.across_languages(text, share);
        let adapter = self.learned.as_ref().and_then(|published| published.learned.adapter.as_ref());
        adapter.filter(|adapter| adapter.model_version() == self.encoder.version()).map_or(neutral.clone(), |adapter| adapter.adapt(&neutral))
    }

    /// How much each feature counts: as fitted, else as set. What is set to 0 is off, also where it was fitted before it was turned off.
    pub(super) fn weights(&self, has_text: bool, set: &Weights) -> FeatureVector {
        let fitted = self.learned.as_ref().and_then(|published| {
            let Learned { adapter, ranker, .. } = &*published.learned;
            // Weights that were fitted for texts through a map are wrong for texts without it.
            let fits = adapter.as_ref().is_none_or(|adapter| adapter.model_version() == self.encoder.version());
            if has_text { ranker.search.filter(|_| fits) } else { ranker.browse }
        });
        let set = set.vector();
        fitted.map_or(set, |fitted| std::array::from_fn(|i| if set[i] == 0.0 { 0.0 } else { fitted[i] }))
    }

    /// What a text is about, as far as that is known yet.
    pub(super) fn categories_of(&self, text: Option<&Embedding>) -> Vec<CategoryProbability> {
        text.zip(self.categories.as_ref()).map(|(text, categories)| categories.of(text)).unwrap_or_default()
    }

    /// What scores made with `weights` come to as chances, where that was learned.
    pub(super) fn chances(&self, has_text: bool, weights: &FeatureVector) -> Option<&Calibration> {
        let ranker = &self.learned.as_ref()?.learned.ranker;
        let chances = if has_text { &ranker.search_chances } else { &ranker.browse_chances };
        chances.as_ref().filter(|chances| chances.knows(weights))
    }

    /// A text's meaning without this `share` of what tells the catalogue's languages apart, as far as that is known yet.
    fn across_languages(&self, text: &Embedding, share: f32) -> Embedding {
        self.categories.as_ref().map_or_else(|| text.clone(), |categories| categories.across_languages(text, share))
    }
}

/// What was learned, as it was published.
#[derive(Clone)]
pub struct Published {
    /// The artefact's version.
    pub version: String,
    /// All of it.
    pub learned: Arc<Learned>,
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

    /// Swaps in what was learned beside the encoder and the index as they are.
    pub fn publish(&self, published: &Published) {
        self.0.rcu(|set| ModelSet { learned: Some(published.clone()), ..ModelSet::clone(set) });
    }

    /// Swaps in the encoder, collection, lexicon and categories of `next`, beside what was learned and the own vectors as they are. Where it has no categories the old ones
    /// stay if the encoder does.
    pub fn publish_index(&self, next: &ModelSet) {
        self.0.rcu(|set| {
            let fits = set.encoder.version() == next.encoder.version();
            let categories = next.categories.clone().or_else(|| set.categories.clone().filter(|_| fits));
            ModelSet { categories, learned: set.learned.clone(), own_vectors: Arc::clone(&set.own_vectors), ..ModelSet::clone(next) }
        });
    }

    /// Adds the collection of an own vector.
    pub fn publish_own_vectors(&self, name: &str, index: &Arc<dyn VectorIndex>) {
        self.0.rcu(|set| {
            let mut own_vectors = OwnVectors::clone(&set.own_vectors);
            own_vectors.insert(name.to_owned(), Arc::clone(index));
            ModelSet { own_vectors: Arc::new(own_vectors), ..ModelSet::clone(set) }
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
