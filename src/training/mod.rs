//! Floor 3, the learn path: log → examples → fit → judge → gate → publish.
//!
//! [`Trainer`] reads the log through the store and publishes. What learns is pure: `fit` makes item-item weights and item factors of interactions,
//! `adapter` the map of texts, `weights` the ranker's weights, `chances` what its scores come to; `rehearsal` puts the questions to the whole pipeline.

mod adapter;
mod alone;
mod als;
mod chances;
mod ease;
mod examples;
mod fit;
mod interactions;
mod item_knn;
mod low_rank;
mod metrics;
mod rehearsal;
mod selection;
mod settings;
mod trainer;
mod weights;

pub use alone::Learner;
pub use als::{Als, Factorised};
pub use ease::Form;
pub use fit::{Progress, Report, TooLittle, Tried};
pub use interactions::Interaction;
pub use item_knn::ItemKnn;
pub use low_rank::{LowRank, Used};
pub use rehearsal::Rehearse;
pub use settings::TrainingSettings;
pub use trainer::{Publish, Rooms, TrainError, Trainer};
