//! `inkling model bench`: what the precisions of a model cost on this machine and how faithful they are, and which one to set.

use std::{collections::HashMap, fmt, process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{
    app::demo,
    config::Settings,
    encoder::{
        BareModel, BareProduct, EncoderSettings, LayoutSpeed, Manifest, Nearness, Precision, PrepareError, PreparedModel, ProviderSetting, ShapeTime, Turns,
        clean, layout_speeds, layouts, prepare_as, times,
    },
};

use super::progress::{show, turns};

/// What processors compute in; fp16 is for GPUs, which `cargo bench --bench gpu` measures.
const PRECISIONS: [Precision; 2] = [Precision::Fp32, Precision::Int8];
/// Half a minute for both precisions of the bilingual model.
const TURNS: Turns = Turns { rounds: 7, turn: Duration::from_millis(60) };
/// For each way to share out the cores, alone and busy, and how often.
const LAYOUT_TIME: Duration = Duration::from_millis(400);
const LAYOUT_ROUNDS: usize = 4;
/// Texts whose embeddings are compared with those of fp32.
const TEXTS: usize = 200;
/// What a precision must keep to be recommended, mean and least cosine to fp32: below, lists change visibly.
const FAITHFUL: (f64, f64) = (0.999, 0.998);
/// What it must take at most, as a share of fp32 at every shape, to be worth it.
const WORTH_IT: f64 = 0.85;

/// A load above this share of the cores took part in times by the clock.
const BUSY: f64 = 0.3;

#[derive(Args)]
pub(super) struct BenchFlags {
    /// Which; without it the model of the settings
    name: Option<String>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &BenchFlags, settings: &Settings) -> anyhow::Result<ExitCode> {
    let name = flags.name.as_ref().unwrap_or(&settings.encoder.model);
    let report = measured(name, settings)?;
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What was measured, and what follows.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    cores: usize,
    /// Processes that wanted to run when it began, a minute's mean.
    load: Option<f64>,
    /// fp32 first, where the model has it.
    precisions: Vec<Measured>,
    shapes: Vec<ShapeTime>,
    /// Whether int8 runs on products that this processor is slow with.
    slow_products: bool,
    recommended: Precision,
    /// The setting, and why.
    advice: String,
}

/// One precision.
#[derive(Debug, Serialize)]
struct Measured {
    precision: Precision,
    /// Operations a second of its matrix products alone.
    peak: f64,
    /// Its embeddings to those of fp32.
    nearness: Option<Nearness>,
    layouts: Vec<LayoutSpeed>,
    /// What `encoder.sessions` and `encoder.threads` = 0 stand for.
    usual_layout: (usize, usize),
}

fn measured(name: &str, settings: &Settings) -> anyhow::Result<Report> {
    let load = load();
    let models = settings.paths.models_dir();
    let manifest = Manifest::named(&models, name)?;
    let mut bars = HashMap::new();
    let mut prepared: Vec<PreparedModel> = Vec::new();
    for precision in PRECISIONS {
        match prepare_as(&models, name, Some(precision), &mut |progress| show(&mut bars, &progress)) {
            Ok(model) => prepared.push(model),
            // A graph that came with the model has one precision only.
            Err(PrepareError::Settings(_)) if precision != manifest.precision => {}
            Err(error) => return Err(error.into()),
        }
    }
    let one_thread = |model: &PreparedModel| EncoderSettings {
        model: name.to_owned(),
        precision: Some(model.manifest.precision),
        provider: ProviderSetting::Cpu,
        max_tokens: settings.encoder.max_tokens.min(model.manifest.max_tokens),
        sessions: 1,
        threads: 1,
        ..settings.encoder.clone()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let ways = layouts(cores);

    let bar = turns("timing passes");
    let mut bare = prepared.iter().map(|model| BareModel::load(model, &one_thread(model))).collect::<Result<Vec<_>, _>>()?;
    let mut products = prepared.iter().map(|model| BareProduct::load(model, model.manifest.precision)).collect::<Result<Vec<_>, _>>()?;
    let times = times(&mut bare, &mut products, TURNS, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();

    let texts: Vec<String> = demo::texts(&manifest.languages, TEXTS).iter().map(|text| clean(text)).collect();
    let bar = turns("comparing embeddings");
    bar.set_length((texts.len() * bare.len()) as u64);
    let mut embeddings = Vec::new();
    for model in &mut bare {
        let mut own = Vec::new();
        for text in &texts {
            let row = model.tokens(text)?;
            own.extend(model.forward(&[&row])?);
            bar.inc(1);
        }
        embeddings.push(own);
    }
    bar.finish_and_clear();
    drop((bare, products)); // or a machine of 1 GB holds the weights twice

    let bar = turns("sharing out the cores");
    bar.set_length(prepared.len() as u64);
    let mut precisions = Vec::new();
    for ((model, peak), own) in prepared.iter().zip(times.peaks).zip(&embeddings) {
        let measured = layout_speeds(model, &ways, LAYOUT_ROUNDS, LAYOUT_TIME)?;
        bar.inc(1);
        let precision = model.manifest.precision;
        precisions.push(Measured {
            precision,
            peak,
            nearness: (precision != Precision::Fp32).then(|| Nearness::between(&embeddings[0], own)),
            layouts: measured,
            usual_layout: EncoderSettings { sessions: 0, threads: 0, ..settings.encoder.clone() }.sessions_and_threads(precision),
        });
    }
    bar.finish_and_clear();
    let slow_products = precisions.iter().flat_map(|one| &one.layouts).any(|layout| layout.slow_products);
    let (recommended, advice) = advice(&precisions, &times.shapes, manifest.precision);
    Ok(Report { model: name.to_owned(), cores, load, precisions, shapes: times.shapes, slow_products, recommended, advice })
}

/// Which precision to set, in one line that says why.
fn advice(precisions: &[Measured], shapes: &[ShapeTime], manifest: Precision) -> (Precision, String) {
    let write = |precision: Precision, why: String| {
        let unset =
            if precision == manifest { ", which is what this model has where it is not set" } else { "; `inkling reindex` then builds the index for it" };
        (precision, format!("write encoder.precision = \"{}\"{unset}: {why}", precision.name()))
    };
    let [fp32, int8] = precisions else {
        return (manifest, format!("leave encoder.precision as it is: the model came with a graph of its own, in {}", manifest.name()));
    };
    let share = |shape: &ShapeTime| shape.ms[1] / shape.ms[0];
    let worst = shapes.iter().map(share).fold(0.0, f64::max);
    let near = int8.nearness.unwrap_or(Nearness { texts: 0, mean: 1.0, least: 1.0 });
    let kept = format!("cosine to fp32 {:.5} on average, {:.5} at least", near.mean, near.least);
    if near.mean < FAITHFUL.0 || near.least < FAITHFUL.1 {
        write(fp32.precision, format!("int8 is not faithful here ({kept})"))
    } else if worst > WORTH_IT {
        write(fp32.precision, format!("int8 takes up to {:.0} % of its time on this processor, too little gained for other embeddings", 100.0 * worst))
    } else {
        write(int8.precision, format!("at most {:.0} % of the time of fp32 at every shape, {kept}", 100.0 * worst))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.load.map_or(String::new(), |load| format!(", load {load:.1}"));
        writeln!(f, "{} on {} cores{load}\n", self.model, self.cores)?;
        writeln!(f, "one thread: processor time of a pass, its share of fp32, tokens in a second of it")?;
        write!(f, "{:<12}", "texts")?;
        for one in &self.precisions {
            write!(f, "{:>34}", one.precision.name())?;
        }
        for ShapeTime { texts, tokens, ms } in &self.shapes {
            write!(f, "\n{:<12}", format!("{texts} x {tokens}"))?;
            for own in ms {
                write!(f, "{own:>13.2} ms {:>6.0} % {:>9.0}", 100.0 * own / ms[0], (texts * tokens) as f64 / own * 1e3)?;
            }
        }
        write!(f, "\n{:<12}", "products")?;
        for one in &self.precisions {
            write!(f, "{:>13.0} G/s {:>5.0} % {:>9}", one.peak / 1e9, 100.0 * self.precisions[0].peak / one.peak, "")?;
        }
        writeln!(f, "  (matrix products alone: the limit)\n")?;
        for one in &self.precisions {
            if let Some(Nearness { texts, mean, least }) = one.nearness {
                writeln!(f, "{} to fp32 over {texts} texts: cosine {mean:.5} on average, {least:.5} at least\n", one.precision.name())?;
            }
        }
        writeln!(f, "sessions x threads: one text of 16 tokens alone, and tokens a second while all are busy; by the clock")?;
        for one in &self.precisions {
            for LayoutSpeed { sessions, threads, alone_ms, tokens_per_second, .. } in &one.layouts {
                let unset = if (*sessions, *threads) == one.usual_layout { "  (where encoder.sessions and encoder.threads are 0)" } else { "" };
                let layout = format!("{sessions} x {threads}");
                writeln!(f, "{:<6}{layout:<8}{alone_ms:>11.2} ms {tokens_per_second:>10.0}{unset}", one.precision.name())?;
            }
        }
        if self.slow_products {
            writeln!(f, "\nthis processor has no VNNI: int8 runs on slower products, with the same embeddings")?;
        }
        if self.load.is_some_and(|load| load > BUSY * self.cores as f64) {
            writeln!(f, "\nother work ran beside: shares and cosines hold, times by the clock do not")?;
        }
        writeln!(f, "\n{}", self.advice)
    }
}

/// The mean of the last minute, where the system tells it.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(precision: Precision, nearness: Option<(f64, f64)>) -> Measured {
        let layout = |sessions, threads| LayoutSpeed { sessions, threads, alone_ms: 3.0, tokens_per_second: 9_000.0, slow_products: false };
        Measured {
            precision,
            peak: if precision == Precision::Fp32 { 60e9 } else { 240e9 },
            nearness: nearness.map(|(mean, least)| Nearness { texts: 200, mean, least }),
            layouts: vec![layout(2, 1), layout(1, 2)],
            usual_layout: (2, 1),
        }
    }

    fn report(ms: [f64; 2], nearness: (f64, f64), slow_products: bool) -> Report {
        let precisions = vec![measured(Precision::Fp32, None), measured(Precision::Int8, Some(nearness))];
        let shapes = vec![ShapeTime { texts: 1, tokens: 16, ms: ms.to_vec() }];
        let (recommended, advice) = advice(&precisions, &shapes, Precision::Int8);
        Report { model: "m".to_owned(), cores: 2, load: None, precisions, shapes, slow_products, recommended, advice }
    }

    #[test]
    fn the_last_line_names_the_setting_that_is_faster_and_faithful() {
        for (ms, nearness, expected) in [
            ([10.0, 4.0], (0.9998, 0.9990), Precision::Int8),
            ([10.0, 4.0], (0.9998, 0.9970), Precision::Fp32),
            ([10.0, 4.0], (0.9980, 0.9980), Precision::Fp32),
            ([10.0, 9.0], (0.9998, 0.9990), Precision::Fp32),
        ] {
            let report = report(ms, nearness, false);

            let said = report.to_string();
            let last = said.lines().last().unwrap();
            assert_eq!(report.recommended, expected, "{said}");
            assert!(last.starts_with(&format!("write encoder.precision = \"{}\"", expected.name())), "{said}");
            assert_eq!(last.contains("reindex"), expected != Precision::Int8, "{said}");
        }
    }

    #[test]
    fn the_table_has_shares_of_fp32_and_the_limit_and_marks_the_usual_layout() {
        let said = report([10.0, 4.0], (0.9998, 0.9990), false).to_string();

        assert!(said.contains("1 x 16") && said.contains(" 40 % ") && said.contains(" 25 % "), "{said}");
        assert!(said.lines().any(|line| line.starts_with("int8  2 x 1") && line.contains("are 0")), "{said}");
        assert!(!said.contains("VNNI"), "{said}");
    }

    #[test]
    fn a_processor_without_vnni_is_told_so() {
        assert!(report([10.0, 8.0], (0.9998, 0.9990), true).to_string().contains("no VNNI"));
    }

    #[test]
    fn a_model_with_one_precision_is_left_as_it_is() {
        let (precision, advice) = advice(&[measured(Precision::Fp32, None)], &[], Precision::Fp32);

        assert_eq!(precision, Precision::Fp32);
        assert!(advice.contains("graph of its own"), "{advice}");
    }
}
