//! `inkling model`.

use std::{collections::HashMap, path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::{Args, Subcommand};

use crate::{
    config::Settings,
    encoder::{Choices, Manifest, Pooling, Precision, add, remove},
};

use super::{
    model_bench::{self, BenchFlags},
    progress::{fetched_gpu, prepared_model, show},
};

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Name the models that can be used
    List,
    /// Fetch, verify and export a model ahead of time
    Fetch {
        /// Which; without it the model of the settings (or --model)
        name: Option<String>,
        /// Export it for fp32, int8 or fp16; without it as encoder.precision says, else as its manifest does
        #[arg(long)]
        precision: Option<Precision>,
        /// Fetch ONNX Runtime for CUDA and the CUDA libraries it needs as well (1.1 GB)
        #[arg(long)]
        gpu: bool,
    },
    /// Say how a model reads texts and what it is made of
    Inspect {
        /// Which; without it the model of the settings
        name: Option<String>,
    },
    /// Measure the precisions of a model on this machine and say which one to set; a minute or two
    ///
    /// Time of passes in one run, as shares of fp32; matrix products alone, as the limit; how near the embeddings stay; ways to share out the
    /// cores. On the processor. Nothing is changed.
    Bench(BenchFlags),
    /// Add a model from a sentence-transformers or Hugging Face folder
    ///
    /// The folder holds config.json, tokenizer.json and model.safetensors (BERT, RoBERTa, XLM-RoBERTa, DistilBERT) or model.onnx (as Optimum
    /// exports it). It is copied; `--model NAME` uses it.
    Add(AddFlags),
    /// Delete a model's files; one that inkling brings along is fetched again when it is used next
    Remove {
        /// Which
        name: String,
    },
}

#[derive(Args)]
pub(super) struct AddFlags {
    /// The model's folder
    dir: PathBuf,
    /// What it is called from now on; without it as the folder
    #[arg(long)]
    name: Option<String>,
    /// How tokens become one vector: mean, cls or max; needed where 1_Pooling/config.json is missing
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Tokens that it reads of a text, special ones included; needed where no file says it
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// What stands before what a user types, such as "query: "; needed where config_sentence_transformers.json is missing
    #[arg(long, value_name = "TEXT")]
    query_prefix: Option<String>,
    /// What stands before what describes an item, such as "passage: "
    #[arg(long, value_name = "TEXT")]
    item_prefix: Option<String>,
    /// Compare by direction although the model was made for dot products
    #[arg(long)]
    cosine: bool,
}

pub(super) fn run(command: &ModelCommand, settings: &Settings) -> anyhow::Result<ExitCode> {
    let models = settings.paths.models_dir();
    match command {
        ModelCommand::List => {
            for manifest in Manifest::all(&models)? {
                let origin = if manifest.is_built_in() { "" } else { "  (added)" };
                let used = if manifest.name == settings.encoder.model { "  (in use)" } else { "" };
                let languages = manifest.languages.join(" ");
                println!("{:28} {languages}{origin}{used}", manifest.name);
            }
        }
        ModelCommand::Fetch { name, precision, gpu } => {
            let mut settings = settings.clone();
            settings.encoder.model = name.clone().unwrap_or(settings.encoder.model);
            settings.encoder.precision = precision.or(settings.encoder.precision);
            let model = prepared_model(&settings)?;
            if *gpu {
                let folder = fetched_gpu(&settings)?;
                println!("what a GPU takes is in {}; set encoder.provider = \"cuda\" or \"auto\"", folder.display());
            }
            println!("{} is ready in {}", model.version, models.display());
        }
        ModelCommand::Inspect { name } => print!("{}", described(&Manifest::named(&models, name.as_ref().unwrap_or(&settings.encoder.model))?)?),
        ModelCommand::Bench(flags) => return model_bench::run(flags, settings),
        ModelCommand::Add(AddFlags { dir, name, pooling, max_tokens, query_prefix, item_prefix, cosine }) => {
            let choices = Choices {
                name: name.clone(),
                pooling: *pooling,
                max_tokens: *max_tokens,
                query_prefix: query_prefix.clone(),
                item_prefix: item_prefix.clone(),
                cosine: *cosine,
            };
            let mut bars = HashMap::new();
            let model = add(&models, dir, &choices, &mut |progress| show(&mut bars, &progress))?;
            print!("{}", described(&model.manifest)?);
            let Manifest { name, max_tokens, .. } = &model.manifest;
            if *max_tokens < settings.encoder.max_tokens {
                println!("it reads {max_tokens} tokens of a text at most; encoder.max_tokens, now {}, does not change that", settings.encoder.max_tokens);
            }
            println!("use it with --model {name} (setting encoder.model); `inkling reindex --model {name}` builds the index for it");
        }
        ModelCommand::Remove { name } => {
            ensure!(*name != settings.encoder.model, "{name} is the model of the settings: choose another one first (encoder.model or --model)");
            remove(&models, name)?;
            println!("removed {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn described(manifest: &Manifest) -> anyhow::Result<String> {
    let Manifest { name, architecture, languages, pooling, precision, max_tokens, query_prefix, item_prefix, .. } = manifest;
    let languages = if languages.is_empty() { "not said".to_owned() } else { languages.join(" ") };
    let origin = manifest.origin();
    let mut text = format!(
        "name          {name}\narchitecture  {architecture:?}\nlanguages     {languages}\npooling       {pooling:?}\nprecision     {}\n\
         max tokens    {max_tokens}\nquery prefix  {query_prefix:?}\nitem prefix   {item_prefix:?}\norigin        {origin}\n",
        precision.name()
    );
    for (name, bytes, sha256) in manifest.files()? {
        text.push_str(&format!("file          {name}, {bytes} bytes, sha256 {sha256}\n"));
    }
    Ok(text)
}
