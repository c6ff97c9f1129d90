//! A session at work: takes waiting texts, runs them through the model, answers each text as soon as it is done.
//!
//! People's texts come as one batch each turn. Bulk texts are read whole: split into windows, sorted by length and run in batches bounded by padded
//! tokens (220 real texts in batches of 32 in order of arrival cost 4.3 times what they cost one by one, sorted and bounded 0.9 times); a text's
//! embedding is the mean of its windows', weighted by their tokens. An embedding does not depend on its company: padding takes no part (1e-5 is
//! tested, 1e-7 is seen).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    Answer, EncodeError, Encoded,
    cache::Cache,
    forward::Forward,
    gate,
    metrics::EncoderMetrics,
    queue::{Lane, Queue, Short, TURNS, Work},
    tokens::{Frame, Tokens},
};
use crate::domain::Embedding;

/// A session as the worker sees it; the tests put a broken one in its place.
pub(super) trait Pass: Send {
    /// Embeddings of `rows` (token ids of one text each, none empty), in their order.
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String>;
}

impl Pass for Forward {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        Forward::run(self, rows)
    }
}

/// What all sessions share.
pub(super) struct Shared {
    pub queue: Queue,
    /// Of this model's embeddings only: another model brings its own.
    pub cache: Cache,
    pub metrics: EncoderMetrics,
    pub tokens: Tokens,
    pub query: Frame,
    pub item: Frame,
    pub batch_tokens: usize,
    /// Sessions whose last pass failed.
    pub failing: AtomicUsize,
}

/// One session's thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    pass: Box<dyn Pass>,
    /// Whether the last pass failed.
    failing: bool,
}

/// A bulk text in work.
struct Reading {
    text: Arc<str>,
    ids: Vec<u32>,
    /// Sum of its windows' embeddings, each times its tokens.
    sum: Vec<f32>,
    windows_left: usize,
}

/// One window: tokens `from..to` of a reading.
#[derive(Debug, Clone, Copy)]
struct Window {
    reading: usize,
    from: usize,
    to: usize,
}

impl Window {
    fn tokens(self) -> usize {
        self.to - self.from
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, pass: Box<dyn Pass>) -> Self {
        Self { shared, pass, failing: false }
    }

    /// Works until the queue is closed.
    pub(super) fn work(mut self) {
        while let Some(work) = self.shared.queue.take() {
            match work {
                Work::People(texts) => self.serve(&texts),
                Work::Bulk(texts) => {
                    let names = texts.clone();
                    self.guarded(Lane::Bulk, names.iter(), |worker| worker.read(texts));
                }
            }
        }
        self.note(false);
        let _computing = gate::computing();
        drop(self.pass);
    }

    fn serve(&mut self, texts: &[Short]) {
        let names: Vec<Arc<str>> = texts.iter().map(|short| Arc::clone(&short.text)).collect();
        self.guarded(Lane::People, names.iter(), |worker| worker.encode(texts));
    }

    /// A panic costs these texts only.
    fn guarded<'a>(&mut self, lane: Lane, texts: impl Iterator<Item = &'a Arc<str>>, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!("encoding a batch panicked");
            let lost = Err(EncodeError::Failed("a batch was lost to a panic".to_owned()));
            for text in texts {
                self.land(lane, text, &lost);
            }
        }
    }

    fn encode(&mut self, texts: &[Short]) {
        let rows: Vec<&[u32]> = texts.iter().map(|short| short.ids.as_slice()).collect();
        let outcome = self.run(&rows);
        match outcome {
            Ok(vectors) => {
                for (short, vector) in texts.iter().zip(vectors) {
                    let answer = encoded(vector, short.truncated);
                    if let Ok(encoded) = &answer {
                        self.shared.metrics.truncated.inc_by(u64::from(encoded.truncated));
                        // Before anybody is told: whoever asks from now on finds it here or still waits with the others.
                        self.shared.cache.put(&short.text, encoded);
                    }
                    self.land(Lane::People, &short.text, &answer);
                }
            }
            Err(reason) => {
                let failed = Err(EncodeError::Failed(reason));
                for short in texts {
                    self.land(Lane::People, &short.text, &failed);
                }
            }
        }
    }

    fn read(&mut self, texts: Vec<Arc<str>>) {
        let shared = Arc::clone(&self.shared);
        let mut readings = Vec::with_capacity(texts.len());
        let mut windows = Vec::with_capacity(texts.len());
        for text in texts {
            match shared.tokens.all(&text, &mut || self.serve_people()) {
                Ok(ids) if ids.is_empty() => self.land(Lane::Bulk, &text, &Err(EncodeError::Empty)),
                Ok(ids) => {
                    let (size, reading, before) = (shared.item.window(ids.len()), readings.len(), windows.len());
                    windows.extend((0..ids.len()).step_by(size).map(|from| Window { reading, from, to: (from + size).min(ids.len()) }));
                    readings.push(Reading { text, ids, sum: Vec::new(), windows_left: windows.len() - before });
                }
                Err(reason) => self.land(Lane::Bulk, &text, &Err(EncodeError::Failed(reason))),
            }
        }
        windows.sort_by_key(|window| window.tokens());
        let mut windows = windows.as_slice();
        while !windows.is_empty() {
            self.serve_people();
            let (batch, rest) = windows.split_at(batch_size(windows, shared.item.len(), shared.batch_tokens));
            windows = rest;
            self.add_batch(batch, &mut readings);
        }
    }

    /// People wait for one batch of bulk work at most, not for all of it.
    fn serve_people(&mut self) {
        for _ in 0..TURNS {
            let texts = self.shared.queue.take_people();
            if texts.is_empty() {
                break;
            }
            self.serve(&texts);
        }
    }

    fn add_batch(&mut self, batch: &[Window], readings: &mut [Reading]) {
        let shared = Arc::clone(&self.shared);
        // Since they were taken callers may have given up: no forward pass for them.
        let wanted = |window: &&Window| readings[window.reading].windows_left > 0 && shared.queue.keep(Lane::Bulk, &readings[window.reading].text);
        let batch: Vec<&Window> = batch.iter().filter(wanted).collect();
        if batch.is_empty() {
            return;
        }
        let rows: Vec<Vec<u32>> = batch.iter().map(|window| shared.item.around(&readings[window.reading].ids[window.from..window.to])).collect();
        match self.run(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
            Ok(vectors) => {
                for (window, vector) in batch.into_iter().zip(vectors) {
                    let reading = &mut readings[window.reading];
                    reading.add(&vector, window.tokens());
                    if reading.windows_left == 0 {
                        let answer = encoded(std::mem::take(&mut reading.sum), false);
                        self.land(Lane::Bulk, &reading.text, &answer);
                    }
                }
            }
            Err(reason) => {
                let failed = Err(EncodeError::Failed(reason));
                for window in batch {
                    readings[window.reading].windows_left = 0; // its other windows are of no use now
                    self.land(Lane::Bulk, &readings[window.reading].text, &failed);
                }
            }
        }
    }

    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, String> {
        let start = Instant::now();
        let outcome = {
            let _computing = gate::computing();
            self.pass.run(rows)
        };
        let metrics = &self.shared.metrics;
        metrics.forward_seconds.observe(start.elapsed().as_secs_f64());
        metrics.batch_texts.observe(rows.len() as f64);
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        metrics.tokens.inc_by(tokens as u64);
        metrics.padding.inc_by((rows.len() * longest - tokens) as u64);
        match &outcome {
            // Once: a device that is gone fails every pass from now on.
            Err(reason) if !self.failing => tracing::error!(reason, "a forward pass failed"),
            Ok(_) if self.failing => tracing::info!("forward passes succeed again"),
            _ => {}
        }
        self.note(outcome.is_err());
        outcome
    }

    fn note(&mut self, failing: bool) {
        if failing != std::mem::replace(&mut self.failing, failing) {
            if failing {
                self.shared.failing.fetch_add(1, Ordering::Relaxed);
                self.shared.metrics.failing.inc();
            } else {
                self.shared.failing.fetch_sub(1, Ordering::Relaxed);
                self.shared.metrics.failing.dec();
            }
        }
    }

    fn land(&self, lane: Lane, text: &str, answer: &Answer) {
        if matches!(answer, Err(EncodeError::Failed(_))) {
            self.shared.metrics.failed.inc();
        }
        self.shared.queue.land(lane, text, answer);
    }
}

impl Reading {
    fn add(&mut self, vector: &[f32], tokens: usize) {
        self.windows_left -= 1;
        self.sum.resize(vector.len(), 0.0);
        for (sum, x) in self.sum.iter_mut().zip(vector) {
            *sum += x * tokens as f32;
        }
    }
}

fn encoded(vector: Vec<f32>, truncated: bool) -> Answer {
    let embedding = Embedding::new(vector).map_err(|error| EncodeError::Failed(format!("an embedding {error}")))?;
    Ok(Encoded { embedding, truncated })
}

/// How many of `windows`, sorted from short to long, go together, each with `frame` tokens around it: within the budget of padded tokens, with at
/// most a third of it padding.
fn batch_size(windows: &[Window], frame: usize, budget: usize) -> usize {
    let mut tokens = 0;
    for (count, window) in windows.iter().enumerate() {
        let length = window.tokens() + frame;
        tokens += length;
        let padded = (count + 1) * length;
        if count > 0 && (padded > budget || 3 * tokens < 2 * padded) {
            return count;
        }
    }
    windows.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(lengths: &[usize]) -> Vec<Window> {
        lengths.iter().map(|length| Window { reading: 0, from: 0, to: length - 2 }).collect()
    }

    #[test]
    fn batches_keep_to_the_budget_and_mix_no_short_with_long() {
        assert_eq!(batch_size(&windows(&[4, 4, 4, 4]), 2, 16), 4);
        assert_eq!(batch_size(&windows(&[4, 4, 4, 4]), 2, 15), 3);
        assert_eq!(batch_size(&windows(&[5, 5, 5, 60]), 2, 256), 3);
        assert_eq!(batch_size(&windows(&[300, 300]), 2, 256), 1, "one text goes alone, however long");
    }
}
