//! Floor 3: the learn path.

mod ease;
mod fit;
mod interactions;
mod item_knn;
mod selection;
mod settings;

pub use ease::Form;
pub use fit::{Fitted, Progress, Report, TooLittle, Tried, fit};
pub use interactions::Interaction;
pub use item_knn::ItemKnn;
pub use settings::TrainingSettings;
