//! How fast and how faithful forward passes are here, in ratios of one run: what `inkling model bench` and the benchmarks print.
//!
//! Several models, precisions of one mostly, take turns, so that a busy machine slows all of them alike, and medians over the rounds count. Time is
//! processor time of the one thread that runs a pass (where the system tells it; else that of the clock). Beside them matrix products alone, the
//! limit of what a pass could reach.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    BareModel, BareProduct, PrepareError, PreparedModel,
    forward::{Forward, Weights},
    products::Products,
};

/// Texts x tokens of the passes that are timed: what one person types, what many do, and indexing.
pub const SHAPES: [(usize, usize); 5] = [(1, 8), (1, 16), (1, 128), (8, 16), (32, 32)];

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// How often everyone has a turn.
    pub rounds: usize,
    /// How long each turn is, one pass at least.
    pub turn: Duration,
}

/// What passes of one shape took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShapeTime {
    /// Texts in a pass.
    pub texts: usize,
    /// Tokens of each text.
    pub tokens: usize,
    /// Milliseconds of one pass, in the order of the models.
    pub ms: Vec<f64>,
}

/// What all shapes took, and the limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Times {
    /// In the order of [`SHAPES`].
    pub shapes: Vec<ShapeTime>,
    /// Operations a second of matrix products alone, in the order of the products.
    pub peaks: Vec<f64>,
}

/// Times passes of every shape. `done` is told how many of how many turns are over. Fails as a pass does.
pub fn times(models: &mut [BareModel], products: &mut [BareProduct], turns: Turns, done: &mut dyn FnMut(usize, usize)) -> Result<Times, PrepareError> {
    let all = SHAPES.len() * turns.rounds;
    let mut peaks = vec![Vec::new(); products.len()];
    let mut shapes = Vec::new();
    for (texts, tokens) in SHAPES {
        let rows = ids(texts, tokens);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let mut ms = vec![Vec::new(); models.len()];
        for round in 0..turns.rounds {
            for (model, ms) in models.iter_mut().zip(&mut ms) {
                ms.push(turn(turns.turn, || model.forward(&rows).map(drop))? * 1e3);
            }
            for (product, peaks) in products.iter_mut().zip(&mut peaks) {
                let seconds = turn(turns.turn, || product.run())?;
                peaks.push(product.operations() / seconds);
            }
            done(shapes.len() * turns.rounds + round + 1, all);
        }
        shapes.push(ShapeTime { texts, tokens, ms: ms.into_iter().map(median).collect() });
    }
    Ok(Times { shapes, peaks: peaks.into_iter().map(median).collect() })
}

/// Token ids without meaning: time does not depend on them.
fn ids(texts: usize, tokens: usize) -> Vec<Vec<u32>> {
    (0..texts).map(|row| (0..tokens).map(|at| 1000 + ((row * 7919 + at * 104_729) % 20_000) as u32).collect()).collect()
}

/// Seconds of one `work`, repeated for a turn.
fn turn(length: Duration, mut work: impl FnMut() -> Result<(), PrepareError>) -> Result<f64, PrepareError> {
    let clock = Clock::start();
    let mut count = 0.0;
    loop {
        work()?;
        count += 1.0;
        let spent = clock.seconds();
        if spent >= length.as_secs_f64() {
            return Ok(spent / count);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time of the thread that reads it.
struct Clock {
    wall: Instant,
    thread: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { thread: Self::thread_seconds(), wall: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        match (self.thread, Self::thread_seconds()) {
            (Some(start), Some(now)) => now - start,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }

    /// As Linux' scheduler tells it, in nanoseconds.
    fn thread_seconds() -> Option<f64> {
        // The scheduler brings the figure up to date where a thread gives way, else every 4 ms.
        std::thread::yield_now();
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        told.split_whitespace().next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
    }
}

/// How near two models' embeddings of the same texts are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Nearness {
    /// Texts compared.
    pub texts: usize,
    /// Mean cosine.
    pub mean: f64,
    /// The least one.
    pub least: f64,
}

impl Nearness {
    /// Of embeddings in the same order; 1 where there are none.
    pub fn between(a: &[Vec<f32>], b: &[Vec<f32>]) -> Self {
        let cosines: Vec<f64> = a.iter().zip(b).map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect();
        let texts = cosines.len();
        let mean = if texts == 0 { 1.0 } else { cosines.iter().sum::<f64>() / texts as f64 };
        Self { texts, mean, least: cosines.into_iter().fold(1.0, f64::min) }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// What one way to share out the cores gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayoutSpeed {
    /// Forward passes side by side: the setting `encoder.sessions`.
    pub sessions: usize,
    /// Threads in each: the setting `encoder.threads`.
    pub threads: usize,
    /// Milliseconds by the clock of one text of 16 tokens while nothing else waits, median.
    pub alone_ms: f64,
    /// Tokens a second while every session is busy with 8 texts of 16 tokens.
    pub tokens_per_second: f64,
    /// Whether int8 runs on products that this processor is slow with, because it has no VNNI.
    pub slow_products: bool,
}

/// The ways to use all of `cores`: one thread a session, two, four … up to one session with all, or the 16 that a session can use well.
pub fn layouts(cores: usize) -> Vec<(usize, usize)> {
    let threads = std::iter::successors(Some(1), |threads| Some(threads * 2)).take_while(|threads| *threads <= cores.clamp(1, 16));
    threads.map(|threads| ((cores / threads).clamp(1, 16), threads)).collect()
}

/// Measures all `layouts` (sessions, threads) by the clock: in turns, each for `time` alone and as long again with every session busy, the best of
/// `rounds`. Other work on the machine still counts, so only a quiet one gives figures that can be compared with those of another run.
pub fn layout_speeds(model: &PreparedModel, layouts: &[(usize, usize)], rounds: usize, time: Duration) -> Result<Vec<LayoutSpeed>, PrepareError> {
    let weights = Weights::load(model)?;
    let slow_products = weights.products == Some(Products::Unsigned);
    let mut passes = Vec::new();
    let mut speeds = Vec::new();
    for (sessions, threads) in layouts.iter().copied() {
        passes.push((0..sessions).map(|_| Forward::load(model, &weights, threads)).collect::<Result<Vec<_>, _>>()?);
        speeds.push(LayoutSpeed { sessions, threads, alone_ms: f64::INFINITY, tokens_per_second: 0.0, slow_products });
    }
    let (person, batch) = (ids(1, 16), ids(8, 16));
    let (person, batch): (Vec<&[u32]>, Vec<&[u32]>) = (person.iter().map(Vec::as_slice).collect(), batch.iter().map(Vec::as_slice).collect());
    for pass in passes.iter_mut().flatten() {
        pass.run(&batch).map_err(PrepareError::Start)?; // the first pass allocates
    }
    for _ in 0..rounds {
        for (passes, speed) in passes.iter_mut().zip(&mut speeds) {
            let Some(first) = passes.first_mut() else { continue };
            let (begun, mut alone) = (Instant::now(), Vec::new());
            while alone.is_empty() || begun.elapsed() < time {
                let started = Instant::now();
                first.run(&person).map_err(PrepareError::Start)?;
                alone.push(started.elapsed().as_secs_f64() * 1e3);
            }
            speed.alone_ms = speed.alone_ms.min(median(alone));
            speed.tokens_per_second = speed.tokens_per_second.max(busy(passes, &batch, time).map_err(PrepareError::Start)?);
        }
    }
    Ok(speeds)
}

/// Tokens a second of all passes side by side.
fn busy(passes: &mut [Forward], rows: &[&[u32]], time: Duration) -> Result<f64, String> {
    let tokens = rows.iter().map(|row| row.len()).sum::<usize>() as f64;
    let begun = Instant::now();
    let work = |pass: &mut Forward| {
        let mut count = 0.0;
        while begun.elapsed() < time {
            pass.run(rows)?;
            count += tokens;
        }
        Ok::<f64, String>(count / begun.elapsed().as_secs_f64())
    };
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = passes.iter_mut().map(|pass| scope.spawn(move || work(pass))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".to_owned()))).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_use_all_cores_in_every_way_there_is() {
        assert_eq!(layouts(1), [(1, 1)]);
        assert_eq!(layouts(2), [(2, 1), (1, 2)]);
        assert_eq!(layouts(8), [(8, 1), (4, 2), (2, 4), (1, 8)]);
        assert_eq!(layouts(64), [(16, 1), (16, 2), (16, 4), (8, 8), (4, 16)]);
        assert_eq!(layouts(0), [(1, 1)]);
    }

    #[test]
    fn nearness_is_the_mean_and_the_least_cosine() {
        let near = Nearness::between(&[vec![1.0, 0.0], vec![0.0, 2.0]], &[vec![1.0, 0.0], vec![3.0, 4.0]]);

        assert_eq!(near.texts, 2);
        assert!((near.mean - 0.9).abs() < 1e-9 && (near.least - 0.8).abs() < 1e-9, "{near:?}");
        assert_eq!(Nearness::between(&[], &[]).texts, 0);
    }

    #[test]
    fn a_turn_is_as_long_as_it_should_be_and_gives_the_time_of_one_work() {
        let mut runs = 0;

        let seconds = turn(Duration::from_millis(20), || {
            let begun = Clock::start();
            while begun.seconds() < 0.004 {}
            runs += 1;
            Ok(())
        })
        .unwrap();

        assert!((0.003..0.02).contains(&seconds) && (1..=6).contains(&runs), "{seconds} s, {runs} runs");
    }
}
