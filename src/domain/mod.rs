//! Floor 0: the vocabulary. Pure data, no I/O; everything here is checked at construction or says its [`FieldError`]s.

mod candidate;
mod event;
mod field;
mod filter;
mod id;
mod item;
mod rule;
mod score;
mod time;

pub use candidate::{Exposure, Feature, FeatureVector, ShownItem, Source};
pub use event::{Event, EventType, InvalidType, LoggedAct, LoggedEvent, MAX_TEXT_CHARS, ValueRule};
pub use field::{FieldError, pointer_step};
pub use filter::{Field, Filter, MAX_FILTER_DEPTH, MAX_FILTER_NODES, Range};
pub use id::{Actor, EventId, InvalidId, ItemId, ItemKey, MAX_ID_BYTES, RecommendationId, Revision, SessionId, UserId};
pub use item::{
    AttributeType, AttributeValue, Item, ItemFacts, MAX_ATTRIBUTES, MAX_ITEM_TEXT_CHARS, MAX_LABEL_BYTES, MAX_LIST, MAX_TITLE_CHARS, MAX_VECTOR_WIDTH,
    MAX_VECTORS, StoredItem,
};
pub use rule::{Action, Block, InvalidRuleName, MAX_NAME_BYTES, MAX_PIN_POSITION, MAX_PINS, NAME_RULE, Rule, RuleDocument, RuleName, When, is_name};
pub use score::{Embedding, InvalidEmbedding, NotFinite, Score};
pub use time::{DAY_MS, InvalidTimestamp, Timestamp};
