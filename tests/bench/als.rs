//! Implicit ALS against PyPI `implicit`: `cargo bench --bench als -- FOLDER [THREADS]`, a folder with `interactions.csv` as `inkling evaluate` reads it.
//!
//! `INKLING_BENCH_PYTHON` names a Python that has `implicit`; without one only our own figures are printed. Same likes, threads, factors, iterations
//! and dials; rounds take turns, each with a seed of its own, and NDCG@10 is computed here for both, from the factors of both sides.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed measurement")]

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use inkling::{
    domain::ItemKey,
    measures::ndcg_at,
    training::{Als, Factorised},
};

const ALS: Als = Als { rank: 64, alpha: 2.0, lambda: 20.0, sweeps: 15, steps: 3 };
const ROUNDS: u64 = 20;
/// Ratings from here on are likes.
const LIKED: f32 = 3.5;

#[derive(Default)]
struct Likes {
    by_actor: Vec<Vec<u32>>,
    items: usize,
    /// Held out, by actor.
    wanted: Vec<HashSet<ItemKey>>,
}

fn read(folder: &Path) -> Likes {
    let mut reader = csv::Reader::from_path(folder.join("interactions.csv")).unwrap();
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let (user, item, split, rating) = (column("user_id").unwrap(), column("item_id").unwrap(), column("split").unwrap(), column("rating"));
    let (mut users, mut items, mut likes) = (HashMap::new(), HashMap::new(), Likes::default());
    for row in reader.records().map(Result::unwrap).filter(|row| rating.is_none_or(|rating| row[rating].parse::<f32>().unwrap() >= LIKED)) {
        let next = users.len();
        let actor: usize = *users.entry(row[user].to_owned()).or_insert(next);
        let next = items.len() as u32;
        let item = *items.entry(row[item].to_owned()).or_insert(next);
        likes.by_actor.resize(users.len(), Vec::new());
        likes.wanted.resize(users.len(), HashSet::new());
        if &row[split] == "test" {
            likes.wanted[actor].insert(ItemKey(item));
        } else if !likes.by_actor[actor].contains(&item) {
            likes.by_actor[actor].push(item);
        }
    }
    likes.items = items.len();
    likes
}

impl Likes {
    fn by_item(&self) -> Vec<Vec<u32>> {
        let mut by_item = vec![Vec::new(); self.items];
        for (actor, items) in self.by_actor.iter().enumerate() {
            items.iter().for_each(|item| by_item[*item as usize].push(actor as u32));
        }
        by_item
    }

    fn ndcg(&self, solved: &Factorised) -> f64 {
        let asked = self.wanted.iter().enumerate().filter(|(actor, wanted)| !wanted.is_empty() && !self.by_actor[*actor].is_empty());
        let marks: Vec<f64> = asked
            .map(|(actor, wanted)| {
                let user = &solved.actors[actor * ALS.rank..(actor + 1) * ALS.rank];
                let score = |item: u32| solved.items[item as usize * ALS.rank..].iter().zip(user).map(|(y, x)| x * y).sum::<f32>();
                let mut scores: Vec<(f32, u32)> =
                    (0..self.items as u32).filter(|item| !self.by_actor[actor].contains(item)).map(|item| (score(item), item)).collect();
                scores.sort_by(|a, b| b.0.total_cmp(&a.0));
                ndcg_at(10, &scores.iter().take(10).map(|(_, item)| ItemKey(*item)).collect::<Vec<_>>(), wanted)
            })
            .collect();
        marks.iter().sum::<f64>() / marks.len() as f64
    }
}

/// `implicit` in a process of its own, which waits between rounds.
struct Python {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    factors: PathBuf,
}

impl Python {
    fn start(interpreter: &str, likes: &Likes, threads: usize, folder: &Path) -> Option<Self> {
        let (pairs, factors) = (folder.join("pairs.bin"), folder.join("factors.bin"));
        let written = likes.by_actor.iter().enumerate().flat_map(|(actor, items)| items.iter().flat_map(move |item| [actor as u32, *item]));
        std::fs::write(&pairs, written.flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        let numbers = [likes.by_actor.len(), likes.items, ALS.rank, ALS.sweeps].map(|number| number.to_string());
        let mut child = Command::new(interpreter)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/als.py"))
            .arg(&pairs)
            .args(numbers)
            .args([(1.0 + ALS.alpha).to_string(), ALS.lambda.to_string(), threads.to_string()])
            .arg(&factors)
            .env("OPENBLAS_NUM_THREADS", "1") // as `implicit` asks for: its own threads are the better ones
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut answers = BufReader::new(child.stdout.take()?);
        let mut line = String::new();
        answers.read_line(&mut line).ok()?;
        (line.trim() == "ready").then_some(Self { child, answers, factors })
    }

    fn round(&mut self, seed: u64, actors: usize) -> (f64, Factorised) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{seed}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let numbers: Vec<f32> = std::fs::read(&self.factors).unwrap().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let (actors, items) = numbers.split_at(actors * ALS.rank);
        (line.trim().parse().unwrap(), Factorised { actors: actors.to_vec(), items: items.to_vec() })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(folder) = arguments.first() else {
        println!("left out: name a folder with interactions.csv, as in `cargo bench --bench als -- FOLDER`");
        return;
    };
    let threads = arguments.get(1).map_or(1, |threads| threads.parse().unwrap());
    let likes = read(Path::new(folder));
    println!(
        "{} actors, {} items, {} likes, {threads} thread(s), {ALS:?}",
        likes.by_actor.len(),
        likes.items,
        likes.by_actor.iter().map(Vec::len).sum::<usize>()
    );

    let place = tempfile::tempdir().unwrap();
    let mut python = std::env::var("INKLING_BENCH_PYTHON").ok().and_then(|interpreter| Python::start(&interpreter, &likes, threads, place.path()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (mut ours, mut theirs) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for seed in 0..ROUNDS {
        let begun = Instant::now();
        let solved = pool.install(|| ALS.fit(&likes.by_actor, &likes.by_item(), seed));
        ours.0.push(begun.elapsed().as_secs_f64());
        ours.1.push(likes.ndcg(&solved));
        if let Some(python) = &mut python {
            let (seconds, solved) = python.round(seed, likes.by_actor.len());
            theirs.0.push(seconds);
            theirs.1.push(likes.ndcg(&solved));
        }
    }
    println!("ours: {:.0} ms, NDCG@10 {:.4}", 1e3 * median(&mut ours.0), mean(&ours.1));
    if theirs.0.is_empty() {
        println!("implicit is left out: INKLING_BENCH_PYTHON names no Python that has it");
        return;
    }
    println!("implicit: {:.0} ms, NDCG@10 {:.4}", 1e3 * median(&mut theirs.0), mean(&theirs.1));
    println!("{:.2} x its speed, {:.3} x its NDCG@10", median(&mut theirs.0) / median(&mut ours.0), mean(&ours.1) / mean(&theirs.1));
}
