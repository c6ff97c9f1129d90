//! The log of exposures: what answers showed. Written on the side, never waited for.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    database::{Connection, Insert, Readers, Row, Value, query},
};
use crate::domain::{Exposure, ItemId, RecommendationId, SessionId, ShownItem, Timestamp, UserId};

static INSERT: Insert<6> =
    Insert::new("INSERT INTO exposures (recommendation_id, at, user_id, session_id, scenario, items)", "ON CONFLICT (recommendation_id) DO NOTHING");

/// An item as it is logged: `["sku-1", [0.5, …]]`, with how likely it was to stand there where that was not certain.
#[derive(Serialize, Deserialize)]
struct Logged<Id, Features>(Id, Features, #[serde(default = "certain", skip_serializing_if = "is_certain")] f32);

fn certain() -> f32 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_certain(propensity: &f32) -> bool {
    *propensity >= 1.0
}

impl<'a> From<&'a ShownItem> for Logged<&'a ItemId, &'a [f32]> {
    fn from(shown: &'a ShownItem) -> Self {
        Self(&shown.item_id, &shown.features, shown.propensity)
    }
}

pub(super) async fn append(connection: &mut Connection, exposures: &[Exposure]) -> Result<(), StoreError> {
    INSERT.execute(connection, exposures.iter().map(columns).collect()).await?;
    Ok(())
}

fn columns(exposure: &Exposure) -> [Value<'_>; 6] {
    [
        exposure.recommendation_id.as_str().into(),
        exposure.at.millis().into(),
        exposure.user_id.as_ref().map(UserId::as_str).into(),
        exposure.session_id.as_ref().map(SessionId::as_str).into(),
        exposure.scenario.as_str().into(),
        serde_json::to_string(&exposure.items.iter().map(Logged::from).collect::<Vec<_>>()).expect("ids and numbers are JSON").into(),
    ]
}

impl Store {
    /// Logs what an answer showed, soon: with the next commit, after 100 ms at the latest. Never waits;
    /// `false` when the queue is full or the store closed, and the exposure was dropped and counted.
    pub fn record_exposure(&self, exposure: Exposure) -> bool {
        let recorded = self.exposures().try_send(exposure).is_ok();
        if !recorded {
            self.metrics().exposures_dropped.inc();
        }
        recorded
    }

    /// What one answer showed.
    pub async fn exposure(&self, id: &RecommendationId) -> Result<Option<Exposure>, StoreError> {
        let text = "SELECT recommendation_id, at, user_id, session_id, scenario, items FROM exposures WHERE recommendation_id = $1";
        let row = query(text).bind(id.as_str()).fetch_optional(self.readers()).await?;
        row.as_ref().map(exposure).transpose()
    }

    /// Answers whose names come after `after`, oldest first: names that we give grow with time.
    pub async fn exposures_after(&self, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, StoreError> {
        let text = "SELECT recommendation_id, at, user_id, session_id, scenario, items FROM exposures WHERE recommendation_id > $1 \
                    ORDER BY recommendation_id LIMIT $2";
        let after = after.map_or("", RecommendationId::as_str);
        let rows = query(text).bind(after).bind(super::row_limit(limit)).fetch_all(self.readers()).await?;
        super::decode_rows(&rows, exposure).await
    }

    /// The name of the answer before the newest so many; `None` where there are not more.
    pub async fn exposure_before_newest(&self, count: usize) -> Result<Option<RecommendationId>, StoreError> {
        let text = "SELECT recommendation_id FROM exposures ORDER BY recommendation_id DESC LIMIT 1 OFFSET $1";
        let row = query(text).bind(super::row_limit(count)).fetch_optional(self.readers()).await?;
        row.map(|row| RecommendationId::new(row.get::<&str>(0)?).map_err(StoreError::corrupt)).transpose()
    }
}

/// The answers given to a user after one of that name, in the order of names.
pub(super) async fn exposures_of(readers: &Readers, user: &UserId, after: Option<&RecommendationId>, limit: usize) -> Result<Vec<Exposure>, StoreError> {
    let text = "SELECT recommendation_id, at, user_id, session_id, scenario, items FROM exposures WHERE user_id = $1 AND recommendation_id > $2 \
                ORDER BY recommendation_id LIMIT $3";
    let after = after.map_or("", RecommendationId::as_str);
    let rows = query(text).bind(user.as_str()).bind(after).bind(super::row_limit(limit)).fetch_all(readers).await?;
    super::decode_rows(&rows, exposure).await
}

fn exposure(row: &Row) -> Result<Exposure, StoreError> {
    // A feature that was added, or was not a number, reads as 0.
    let items: Vec<Logged<ItemId, Vec<Option<f32>>>> = serde_json::from_str(row.get(5)?).map_err(|_| StoreError::corrupt("an exposure without items"))?;
    let vector = |features: Vec<Option<f32>>| std::array::from_fn(|i| features.get(i).copied().flatten().unwrap_or(0.0));
    Ok(Exposure {
        recommendation_id: RecommendationId::new(row.get::<&str>(0)?).map_err(StoreError::corrupt)?,
        at: Timestamp::from_millis(row.get(1)?).map_err(StoreError::corrupt)?,
        user_id: row.get::<Option<&str>>(2)?.map(UserId::new).transpose().map_err(StoreError::corrupt)?,
        session_id: row.get::<Option<&str>>(3)?.map(SessionId::new).transpose().map_err(StoreError::corrupt)?,
        scenario: row.get(4)?,
        items: items.into_iter().map(|Logged(item_id, features, propensity)| ShownItem { item_id, features: vector(features), propensity }).collect(),
    })
}
