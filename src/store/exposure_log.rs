//! The log of exposures: what answers showed. Written on the side, never waited for.

use sqlx::{Row, SqliteConnection};

use super::{
    Store, StoreError,
    sql::{Insert, ROWS},
};
use crate::domain::{Exposure, ItemId, RecommendationId, SessionId, Timestamp, UserId};

static INSERT: Insert =
    Insert::new("INSERT INTO exposures (recommendation_id, at, user_id, session_id, scenario, items)", 6, "ON CONFLICT (recommendation_id) DO NOTHING");

pub(super) async fn append(connection: &mut SqliteConnection, exposures: &[Exposure]) -> Result<(), StoreError> {
    for chunk in exposures.chunks(ROWS) {
        let mut query = sqlx::query(INSERT.rows(chunk.len()));
        for exposure in chunk {
            query = query
                .bind(exposure.recommendation_id.as_str())
                .bind(exposure.at.millis())
                .bind(exposure.user_id.as_ref().map(UserId::as_str))
                .bind(exposure.session_id.as_ref().map(SessionId::as_str))
                .bind(&exposure.scenario)
                .bind(serde_json::to_string(&exposure.items).expect("ids and numbers are JSON"));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
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
        let text = "SELECT at, user_id, session_id, scenario, items FROM exposures WHERE recommendation_id = $1";
        let Some(row) = sqlx::query(text).bind(id.as_str()).fetch_optional(self.readers()).await? else { return Ok(None) };
        // A feature that was added, or was not a number, reads as 0.
        let items: Vec<(ItemId, Vec<Option<f32>>)> = serde_json::from_str(row.try_get(4)?).map_err(|_| StoreError::corrupt("an exposure without items"))?;
        let vector = |features: Vec<Option<f32>>| std::array::from_fn(|i| features.get(i).copied().flatten().unwrap_or(0.0));
        Ok(Some(Exposure {
            recommendation_id: id.clone(),
            at: Timestamp::from_millis(row.try_get(0)?).map_err(StoreError::corrupt)?,
            user_id: row.try_get::<Option<&str>, _>(1)?.map(UserId::new).transpose().map_err(StoreError::corrupt)?,
            session_id: row.try_get::<Option<&str>, _>(2)?.map(SessionId::new).transpose().map_err(StoreError::corrupt)?,
            scenario: row.try_get(3)?,
            items: items.into_iter().map(|(id, features)| (id, vector(features))).collect(),
        }))
    }
}
