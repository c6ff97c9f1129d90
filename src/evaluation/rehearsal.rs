//! Runs a replay through the real pipeline: fill, learn, then step by step ask every contender and feed what happened.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    domain::{Event, Filter, ItemId, ItemKey, Timestamp},
    features::Columns,
    ingest::{EventOutcome, Indexer, Ingest, ItemOutcome},
    measures::{average_precision_at, graded_ndcg_at, hit_rate_at, intra_list_diversity, recall_at, reciprocal_rank_at, surprise},
    recommend::{CategoryMaker, ModelSet, Models, Policy, Recommendation, RecommendationRequest, Recommender},
    store::Store,
    training::Trainer,
};

use super::{
    EvaluationError, Stage,
    policies::{Contender, contenders},
    replay::{Question, Replay},
    tally::{Answer, Asked, CUTS, DEPTH, MEASURES, SHOWN, Tally},
};

/// Rows that are fed at a time.
const CHUNK: usize = 1_000;
/// Offline nobody waits, and a late source would be another pipeline.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rooms of a whole pipeline on a folder of its own, built by `app`.
pub struct Pipeline {
    /// The truth; empty at the start.
    pub store: Store,
    /// The read path.
    pub recommender: Recommender,
    /// The write path.
    pub ingest: Ingest,
    /// The learn path.
    pub trainer: Trainer,
    /// The snapshot.
    pub models: Models,
    /// What is known of items.
    pub columns: Arc<Columns>,
    /// Fills the index.
    pub indexer: Indexer,
    /// Finds categories and languages.
    pub category_maker: CategoryMaker,
}

impl Pipeline {
    /// Fills the empty pipeline, learns, asks and feeds. `progress` is told the stage, how much of it is done, and of how much.
    pub(super) async fn rehearse(
        &self,
        replay: &Replay,
        baselines: &[Contender],
        now: Timestamp,
        progress: &mut (dyn FnMut(Stage, usize, usize) + Send),
    ) -> Result<(Tally, Vec<String>), EvaluationError> {
        self.fill(replay, now, progress).await?;
        progress(Stage::Learning, 0, 1);
        if !replay.events.is_empty() {
            self.trainer.train().await?;
        }
        let (contenders, notes) = contenders(&self.trainer, replay, baselines).await?;
        progress(Stage::Learning, 1, 1);
        let numbers: HashMap<&ItemId, u32> = (0..).zip(&replay.items).map(|(number, item)| (&item.item_id, number)).collect();
        let mut desk = Desk { pipeline: self, numbers: &numbers, surprises: surprises(replay, &numbers), languages: languages(replay) };
        let mut tally = Tally::new(contenders.iter().map(|(contender, _)| *contender).collect(), replay.items.len());
        let mut waiting: Vec<Event> = Vec::new();
        for (done, step) in replay.steps.iter().enumerate() {
            if let Some(question) = &step.question {
                self.feed(&mut waiting, now).await?;
                desk.ask(question, &contenders, &mut tally).await?;
            }
            waiting.extend(step.event.clone());
            if waiting.len() >= CHUNK {
                self.feed(&mut waiting, now).await?;
            }
            progress(Stage::Asking, done + 1, replay.steps.len());
        }
        Ok((tally, notes))
    }

    async fn fill(&self, replay: &Replay, now: Timestamp, progress: &mut (dyn FnMut(Stage, usize, usize) + Send)) -> Result<(), EvaluationError> {
        for chunk in replay.items.chunks(CHUNK) {
            for outcome in self.ingest.put_items(chunk.to_vec()).await? {
                if let ItemOutcome::Rejected(faults) = outcome {
                    return Err(EvaluationError::rejected("item", &faults));
                }
            }
        }
        let all = replay.items.len();
        self.indexer.catch_up(|done| progress(Stage::Indexing, done, all)).await?;
        // A server makes them in the background soon after the items are there.
        let set = self.models.snapshot();
        let categories = self.category_maker.clone().make_for(&set).await;
        self.models.publish_index(&ModelSet { categories, ..ModelSet::clone(&set) });
        replay.exposures.iter().for_each(|exposure| self.ingest.exposed(exposure));
        let mut fed = 0;
        for chunk in replay.events.chunks(CHUNK) {
            self.feed(&mut chunk.to_vec(), now).await?;
            fed += chunk.len();
            progress(Stage::Feeding, fed, replay.events.len());
        }
        Ok(())
    }

    async fn feed(&self, events: &mut Vec<Event>, now: Timestamp) -> Result<(), EvaluationError> {
        if events.is_empty() {
            return Ok(());
        }
        for outcome in self.ingest.events(std::mem::take(events), now).await? {
            if let EventOutcome::Rejected(faults) = outcome {
                return Err(EvaluationError::rejected("event", &faults));
            }
        }
        Ok(())
    }
}

/// How unexpected each item is, by its events before the cut.
fn surprises(replay: &Replay, numbers: &HashMap<&ItemId, u32>) -> Vec<f64> {
    let mut counts = vec![0u64; replay.items.len()];
    let known = replay.events.iter().filter_map(|event| numbers.get(event.item_id.as_ref()?));
    known.for_each(|number| counts[*number as usize] += 1);
    let all = counts.iter().sum();
    counts.iter().map(|count| surprise(*count, all, counts.len())).collect()
}

fn languages(replay: &Replay) -> HashMap<ItemId, String> {
    replay.items.iter().filter_map(|item| Some((item.item_id.clone(), item.language.clone()?))).collect()
}

/// Asks contenders and marks their answers.
struct Desk<'a> {
    pipeline: &'a Pipeline,
    /// An item's place in the catalogue.
    numbers: &'a HashMap<&'a ItemId, u32>,
    surprises: Vec<f64>,
    languages: HashMap<ItemId, String>,
}

impl Desk<'_> {
    async fn ask(&mut self, question: &Question, contenders: &[(Contender, Policy)], tally: &mut Tally) -> Result<(), EvaluationError> {
        let filter = match &question.filter {
            Some(filter) => {
                let typed = |name: &str| self.pipeline.recommender.attribute_type(name);
                Some(Filter::parse(filter, &typed).map_err(|fault| EvaluationError::rejected("filter", &[fault]))?)
            }
            None => None,
        };
        let mut language = question.relevant.keys().min().and_then(|item| self.languages.get(item)).cloned();
        let mut answers = Vec::with_capacity(contenders.len());
        for (_, policy) in contenders {
            let request = request(question, filter.clone());
            let answer = self.pipeline.recommender.rehearse(request, policy).await.map_err(|error| EvaluationError::Answer(error.to_string()))?;
            if !answer.degraded.is_empty() {
                let parts: Vec<&str> = answer.degraded.iter().map(|part| part.name()).collect();
                return Err(EvaluationError::Degraded(parts.join(" ")));
            }
            if let Some(intent) = &answer.intent {
                language = intent.language.map(str::to_owned);
            }
            answers.push(self.mark(question, &answer).await?);
        }
        let asked = Asked { unit: question.unit.clone(), history: question.history, language, scenario: question.scenario.clone() };
        tally.add(asked, answers);
        Ok(())
    }

    async fn mark(&self, question: &Question, answer: &Recommendation) -> Result<Answer, EvaluationError> {
        let ranked: Vec<&ItemId> = answer.items.iter().map(|item| &item.facts.item_id).collect();
        let gains: HashMap<&ItemId, f64> = question.relevant.iter().map(|(item, gain)| (item, *gain)).collect();
        let relevant: HashSet<&ItemId> = gains.iter().filter(|(_, gain)| **gain > 0.0).map(|(item, _)| *item).collect();
        let mut measures = [[0.0; CUTS.len()]; MEASURES.len()];
        for (place, k) in CUTS.into_iter().enumerate() {
            let at_k = [
                graded_ndcg_at(k, &ranked, &gains),
                recall_at(k, &ranked, &relevant),
                hit_rate_at(k, &ranked, &relevant),
                reciprocal_rank_at(k, &ranked, &relevant),
                average_precision_at(k, &ranked, &relevant),
            ];
            measures.iter_mut().zip(at_k).for_each(|(measure, value)| measure[place] = value);
        }
        let shown: Vec<u32> = ranked.iter().take(SHOWN).filter_map(|item| self.numbers.get(*item).copied()).collect();
        let surprises = shown.iter().map(|number| self.surprises[*number as usize]);
        let surprise = (!shown.is_empty()).then(|| surprises.sum::<f64>() / shown.len() as f64);
        let keys: Vec<ItemKey> = {
            let table = self.pipeline.columns.read();
            ranked.iter().take(SHOWN).filter_map(|item| table.key_of(item)).collect()
        };
        let index = Arc::clone(&self.pipeline.models.snapshot().index);
        let embeddings = index.embeddings(&keys).await?;
        let diversity = intra_list_diversity(embeddings.iter().map(|(_, embedding)| &**embedding));
        Ok(Answer { measures, shown, surprise, diversity, items: ranked.len() })
    }
}

fn request(question: &Question, filter: Option<Filter>) -> RecommendationRequest {
    RecommendationRequest {
        user_id: question.user_id.clone(),
        session_id: question.session_id.clone(),
        text: question.text.clone(),
        scenario: question.scenario.clone(),
        limit: DEPTH,
        filter,
        exclude_items: question.exclude_items.clone(),
        exclude_seen: question.exclude_seen,
        ..RecommendationRequest::warm_up(question.now, Instant::now() + PATIENCE)
    }
}
