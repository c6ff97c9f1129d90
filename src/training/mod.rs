//! Floor 3, the learn path: log → examples → fit → judge → gate → publish.
//!
//! [`Trainer`] reads the log through the store and publishes; [`fit`] is pure: interactions in, item-item weights and a report out.

mod ease;
mod fit;
mod interactions;
mod item_knn;
mod metrics;
mod selection;
mod settings;
mod trainer;

pub use ease::Form;
pub use fit::{Fitted, Progress, Report, TooLittle, Tried, fit};
pub use interactions::Interaction;
pub use item_knn::ItemKnn;
pub use settings::TrainingSettings;
pub use trainer::{Publish, Rooms, TrainError, Trainer};
