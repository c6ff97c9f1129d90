//! A session at work: takes waiting texts, tokenizes them, forms batches of similar length, answers each text as soon as it is done.
//!
//! Batches are sorted by length and bounded by padded tokens: 220 real texts in batches of 32 in order of arrival cost 4.3 times what they cost
//! one by one, sorted and bounded 0.9 times. An embedding does not depend on its company: padding takes no part (1e-5 is tested, 1e-7 is seen).

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    EncodeError, Encoded,
    cache::Cache,
    forward::Forward,
    metrics::Metrics,
    queue::{Job, Lane, Queue, TURNS},
    tokens::Tokens,
};
use crate::domain::Embedding;

/// Windows of a long item text that are averaged; what comes after them is not read. 8 of 256 tokens are about 1,500 English words.
const BULK_WINDOWS: usize = 8;

/// What all sessions share.
pub(super) struct Shared {
    pub queue: Queue,
    pub cache: Cache,
    pub metrics: Metrics,
    pub tokens: Tokens,
    pub batch_tokens: usize,
}

/// One session's thread.
pub(super) struct Worker {
    pub shared: Arc<Shared>,
    pub forward: Forward,
}

/// A text in work, and everybody who asked for it.
struct Text {
    text: String,
    replies: Vec<oneshot::Sender<Result<Encoded, EncodeError>>>,
    places: Vec<OwnedSemaphorePermit>,
    /// Sum of its windows' embeddings, each times its tokens.
    sum: Vec<f32>,
    windows_left: usize,
    truncated: bool,
}

/// One window of one text.
struct Row {
    text: usize,
    ids: Vec<u32>,
}

impl Worker {
    /// Works until the queue is closed.
    pub(super) fn work(mut self) {
        while let Some((lane, jobs)) = self.shared.queue.take() {
            self.shared.note_waiting();
            self.serve(lane, jobs);
        }
    }

    /// Answers `jobs`. A panic costs these texts only: their callers learn of it by the dropped reply.
    fn serve(&mut self, lane: Lane, jobs: Vec<Job>) {
        let count = jobs.len() as u64;
        if catch_unwind(AssertUnwindSafe(|| self.encode(lane, jobs))).is_err() {
            self.shared.metrics.failed.inc_by(count);
            tracing::error!("encoding a batch panicked");
        }
    }

    fn encode(&mut self, lane: Lane, jobs: Vec<Job>) {
        let mut texts = self.distinct(jobs);
        let mut rows = self.tokenized(lane, &mut texts);
        rows.sort_by_key(|row| row.ids.len());
        let mut rows = rows.as_slice();
        while !rows.is_empty() {
            if lane == Lane::Bulk {
                self.serve_people();
            }
            let (batch, rest) = rows.split_at(batch_size(rows, self.shared.batch_tokens));
            rows = rest;
            self.run(batch, &mut texts);
        }
    }

    /// People wait for one batch of bulk work at most, not for all of it.
    fn serve_people(&mut self) {
        for _ in 0..TURNS {
            let jobs = self.shared.queue.take_interactive();
            if jobs.is_empty() {
                break;
            }
            self.shared.note_waiting();
            self.serve(Lane::Interactive, jobs);
        }
    }

    /// Equal texts are computed once; callers that gave up are left out.
    fn distinct(&self, jobs: Vec<Job>) -> Vec<Text> {
        let mut texts: Vec<Text> = Vec::with_capacity(jobs.len());
        let mut known: HashMap<String, usize> = HashMap::with_capacity(jobs.len());
        for job in jobs {
            if job.reply.is_closed() {
                self.shared.metrics.abandoned.inc();
                continue; // nobody would read it: no forward pass
            }
            let at = *known.entry(job.text).or_insert_with_key(|text| {
                texts.push(Text { text: text.clone(), replies: Vec::new(), places: Vec::new(), sum: Vec::new(), windows_left: 0, truncated: false });
                texts.len() - 1
            });
            texts[at].replies.push(job.reply);
            texts[at].places.extend(job.place);
        }
        texts
    }

    fn tokenized(&self, lane: Lane, texts: &mut [Text]) -> Vec<Row> {
        let windows = if lane == Lane::Bulk { BULK_WINDOWS } else { 1 };
        let mut rows = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter_mut().enumerate() {
            match self.shared.tokens.windows(&text.text, windows) {
                Ok(read) if read.rows.is_empty() => self.shared.answer(text, &Err(EncodeError::Empty)),
                Ok(read) => {
                    text.truncated = read.truncated;
                    text.windows_left = read.rows.len();
                    rows.extend(read.rows.into_iter().map(|ids| Row { text: at, ids }));
                }
                Err(reason) => self.shared.answer(text, &Err(EncodeError::Failed(reason))),
            }
        }
        rows
    }

    fn run(&mut self, batch: &[Row], texts: &mut [Text]) {
        let metrics = &self.shared.metrics;
        // Between tokenizing and now callers may have given up.
        let batch: Vec<&Row> = batch.iter().filter(|row| texts[row.text].replies.iter().any(|reply| !reply.is_closed())).collect();
        let Some(longest) = batch.iter().map(|row| row.ids.len()).max() else { return };
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();

        let start = Instant::now();
        let outcome = self.forward.run(&rows);
        metrics.forward_seconds.observe(start.elapsed().as_secs_f64());
        metrics.batch_texts.observe(rows.len() as f64);
        metrics.tokens.inc_by(tokens as u64);
        metrics.padding.inc_by((rows.len() * longest - tokens) as u64);

        match outcome {
            Ok(vectors) => {
                for (row, vector) in batch.iter().zip(vectors) {
                    let text = &mut texts[row.text];
                    text.add(&vector, row.ids.len());
                    if text.windows_left == 0 {
                        let embedding = Embedding::new(std::mem::take(&mut text.sum));
                        let answer = embedding.map(|embedding| Encoded { embedding, truncated: text.truncated });
                        self.shared.answer(text, &answer.map_err(|error| EncodeError::Failed(format!("an embedding {error}"))));
                    }
                }
            }
            Err(reason) => {
                tracing::error!(reason, "a forward pass failed");
                for row in batch {
                    self.shared.answer(&mut texts[row.text], &Err(EncodeError::Failed(reason.clone())));
                }
            }
        }
    }
}

impl Text {
    fn add(&mut self, vector: &[f32], tokens: usize) {
        self.windows_left = self.windows_left.saturating_sub(1);
        self.sum.resize(vector.len(), 0.0);
        for (sum, x) in self.sum.iter_mut().zip(vector) {
            *sum += x * tokens as f32;
        }
    }
}

impl Shared {
    fn answer(&self, text: &mut Text, answer: &Result<Encoded, EncodeError>) {
        match answer {
            Ok(encoded) => {
                if encoded.truncated {
                    self.metrics.truncated.inc();
                }
                // Bulk texts, which hold places, are kept by the store and would only push people's texts out.
                if text.places.is_empty() {
                    self.cache.put(&text.text, encoded);
                }
            }
            Err(EncodeError::Failed(_)) => self.metrics.failed.inc(),
            Err(_) => {}
        }
        for reply in text.replies.drain(..) {
            let _ = reply.send(answer.clone()); // a caller that gave up meanwhile does not listen
        }
        text.places.clear();
    }

    pub(super) fn note_waiting(&self) {
        let (interactive, bulk) = self.queue.waiting();
        self.metrics.waiting_interactive.set(interactive as i64);
        self.metrics.waiting_bulk.set(bulk as i64);
    }
}

/// How many of `rows`, sorted from short to long, go together: within the budget of padded tokens, with at most a third of it padding.
fn batch_size(rows: &[Row], budget: usize) -> usize {
    let mut tokens = 0;
    for (count, row) in rows.iter().enumerate() {
        tokens += row.ids.len();
        let padded = (count + 1) * row.ids.len();
        if count > 0 && (padded > budget || 3 * tokens < 2 * padded) {
            return count;
        }
    }
    rows.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize]) -> Vec<Row> {
        lengths.iter().map(|length| Row { text: 0, ids: vec![0; *length] }).collect()
    }

    #[test]
    fn batches_keep_to_the_budget_and_mix_no_short_with_long() {
        assert_eq!(batch_size(&rows(&[4, 4, 4, 4]), 16), 4);
        assert_eq!(batch_size(&rows(&[4, 4, 4, 4]), 15), 3);
        assert_eq!(batch_size(&rows(&[5, 5, 5, 60]), 256), 3);
        assert_eq!(batch_size(&rows(&[300, 300]), 256), 1, "one text goes alone, however long");
    }
}
