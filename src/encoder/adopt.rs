//! Adds a model of one's own: a sentence-transformers or Hugging Face folder in, a model of the models folder out.
//!
//! Pooling, prompts and length are read from the folder's files or given by the caller, never guessed: what is missing is an error that names the
//! file and the flag. Files are copied under a temporary name, the model encodes a text, and only then it gets its name.

use std::{
    fs::{self, File},
    path::{Component, Path, PathBuf},
};

use serde_json::Value as Json;

use super::{
    Architecture, Manifest, Pooling, Precision, PrepareError, PreparedModel, Progress,
    checkpoint::{self, CONFIG, TOKENIZER},
    files::Folder,
    forward::{Forward, Weights},
    manifest::{self, Source, WeightsFile, WheelFile},
    prepare::prepare_in,
    tokenizer::{Around, Tokenizer},
};

/// Where graphs keep weights past 2 GB, beside `model.onnx`.
const ONNX_DATA: &str = "model.onnx_data";

/// What the caller says of a model; what stays `None` must stand in its folder.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// What it is called from now on; `None` = as its folder.
    pub name: Option<String>,
    /// How a text's tokens become one vector.
    pub pooling: Option<Pooling>,
    /// Tokens it reads, special ones included.
    pub max_tokens: Option<usize>,
    /// Put before what a user types.
    pub query_prefix: Option<String>,
    /// Put before what describes an item.
    pub item_prefix: Option<String>,
    /// Compare by direction although the folder says that lengths count.
    pub cosine: bool,
}

/// Copies the model in `from` into the folder `models` and tries it. Blocks for seconds; `progress` hears of copying and exporting.
///
/// Fails where a file is missing or says what cannot be followed, where the name is taken, and where the model does not run.
pub fn add(models: &Path, from: &Path, choices: &Choices, progress: &mut dyn FnMut(Progress)) -> Result<PreparedModel, PrepareError> {
    let name = match &choices.name {
        Some(name) => name.clone(),
        None => from.canonicalize().ok().and_then(|from| from.file_name()?.to_str().map(str::to_owned)).unwrap_or_default(),
    };
    check_name(models, &name)?;
    let (mut manifest, sources) = read(from, name, choices)?;

    fs::create_dir_all(models).map_err(|error| PrepareError::files(models, error))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".adding-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask, as any folder
    let place = builder.tempdir_in(models).map_err(|error| PrepareError::files(models, error))?;
    let folder = Folder::new(place.path().to_owned());
    let files = sources.iter().map(|source| copy(source, &folder, &manifest.name, progress)).collect::<Result<_, _>>()?;
    manifest.source = Source::Folder { files };
    let text = toml::to_string(&manifest).map_err(|error| PrepareError::Manifest(error.to_string()))?;
    let model = prepare_in(models, place.path(), manifest, progress)?;
    try_out(&model)?;

    let written = folder.put(manifest::FILE, &mut text.as_bytes(), &|_| true, &mut |_| {});
    written.map_err(|error| PrepareError::files(&folder.file(manifest::FILE), error))?;
    let target = models.join(&model.manifest.name);
    fs::rename(place.path(), &target).map_err(|error| PrepareError::files(&target, error))?;
    let _ = place.keep(); // it has its name: nothing is left to clean up
    let _ = File::open(models).and_then(|folder| folder.sync_all()); // makes the name durable where folders can be flushed
    prepare_in(models, &target, model.manifest, progress)
}

/// Takes a model's files out of the folder `models`. One that inkling brings along is fetched again when it is used next.
pub fn remove(models: &Path, name: &str) -> Result<(), PrepareError> {
    let manifest = Manifest::named(models, name)?;
    let folder = models.join(&manifest.name);
    if !folder.exists() {
        return Err(PrepareError::Add(format!("{name} has no files in {}", models.display())));
    }
    fs::remove_dir_all(&folder).map_err(|error| PrepareError::files(&folder, error))
}

fn check_name(models: &Path, name: &str) -> Result<(), PrepareError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse(format!("{name:?} cannot be a model's name: give one of letters, digits, - _ and . with --name"));
    }
    match Manifest::named(models, name) {
        Ok(known) if known.is_built_in() => refuse(format!("{name} is a model that inkling brings along: give another name with --name")),
        Err(PrepareError::UnknownModel { .. }) if !models.join(name).exists() => Ok(()),
        _ => refuse(format!("there is a {name} already: take it away with `inkling model remove {name}`, or give another name with --name")),
    }
}

fn refuse<T>(why: String) -> Result<T, PrepareError> {
    Err(PrepareError::Add(why))
}

/// Everything that the folder says of the model, and the files to copy.
fn read(from: &Path, name: String, choices: &Choices) -> Result<(Manifest, Vec<PathBuf>), PrepareError> {
    if !from.is_dir() {
        return refuse(format!("{} is no folder", from.display()));
    }
    let modules = Modules::read(from)?;
    let root = from.join(&modules.transformer);
    let (weights, graph) = weights_of(&root)?;
    let config = needed(&root, CONFIG, "save the model with its configuration")?;
    let tokenizer = needed(&root, TOKENIZER, "load the model's tokenizer with transformers' AutoTokenizer and call save_pretrained")?;

    let text = fs::read(&config).map_err(|error| PrepareError::files(&config, error))?;
    let sizes = checkpoint::sizes(weights, &text).map_err(|error| PrepareError::Add(format!("{}: {error}", config.display())))?;
    let max_tokens = max_tokens(&root, choices)?;
    if let Some(positions) = sizes.positions.filter(|positions| max_tokens > *positions) {
        return refuse(format!("the model has {positions} positions, not {max_tokens}: give --max-tokens {positions} or fewer"));
    }
    check_lowercase(&root, &tokenizer)?;
    let prompts = Prompts::read(from, choices)?;
    if prompts.lengths_count && !modules.normalises && !choices.cosine {
        return refuse(format!(
            "{} compares by {}, where the lengths of embeddings count; inkling compares directions (cosine): give --cosine if that will do",
            from.join(PROMPTS).display(),
            prompts.similarity
        ));
    }
    let mut sources = vec![graph.clone(), config, tokenizer];
    sources.extend(Some(graph.with_file_name(ONNX_DATA)).filter(|data| weights == WeightsFile::Onnx && data.is_file()));
    let manifest = Manifest {
        name,
        architecture: if weights == WeightsFile::Onnx { Architecture::Graph } else { Architecture::Bert },
        weights,
        languages: Vec::new(),
        pooling: modules.pooling(from, choices)?,
        precision: Precision::Fp32,
        max_tokens,
        query_prefix: prompts.query,
        item_prefix: prompts.item,
        source: Source::Folder { files: Vec::new() },
    };
    Ok((manifest, sources))
}

fn needed(folder: &Path, name: &str, help: &str) -> Result<PathBuf, PrepareError> {
    let file = folder.join(name);
    if file.is_file() { Ok(file) } else { refuse(format!("{} is missing: {help}", file.display())) }
}

/// The weights if the exporter can have them, else a graph.
fn weights_of(root: &Path) -> Result<(WeightsFile, PathBuf), PrepareError> {
    for (weights, name) in [(WeightsFile::Safetensors, "model.safetensors"), (WeightsFile::Onnx, "model.onnx"), (WeightsFile::Onnx, "onnx/model.onnx")] {
        let file = root.join(name);
        if file.is_file() {
            return Ok((weights, file));
        }
    }
    if root.join("model.safetensors.index.json").is_file() {
        return refuse(format!("{} has its weights in several files: save it in one model.safetensors", root.display()));
    }
    refuse(format!(
        "{} has neither model.safetensors nor model.onnx: save the model with transformers' save_pretrained, or export it with Optimum",
        root.display()
    ))
}

fn json(file: &Path) -> Result<Option<Json>, PrepareError> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read(file).map_err(|error| PrepareError::files(file, error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| PrepareError::Add(format!("{}: {error}", file.display())))
}

/// What `modules.json` puts behind each other.
struct Modules {
    transformer: PathBuf,
    pooling: Option<PathBuf>,
    normalises: bool,
}

impl Modules {
    fn read(from: &Path) -> Result<Self, PrepareError> {
        let file = from.join("modules.json");
        let Some(modules) = json(&file)? else {
            let pooling = Some(PathBuf::from("1_Pooling")).filter(|pooling| from.join(pooling).is_dir());
            return Ok(Self { transformer: PathBuf::new(), pooling, normalises: false });
        };
        let mut read = Self { transformer: PathBuf::new(), pooling: None, normalises: false };
        for module in modules.as_array().into_iter().flatten() {
            let text = |key: &str| module.get(key).and_then(Json::as_str).unwrap_or_default();
            let path = PathBuf::from(text("path"));
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                return refuse(format!("{}: the path {:?} leaves the folder", file.display(), text("path")));
            }
            match text("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => read.transformer = path,
                "Pooling" => read.pooling = Some(path),
                "Normalize" => read.normalises = true,
                _ => return refuse(format!("{}: the module {:?} is not read: Transformer, Pooling and Normalize are", file.display(), text("type"))),
            }
        }
        Ok(read)
    }

    fn pooling(&self, from: &Path, choices: &Choices) -> Result<Pooling, PrepareError> {
        let file = from.join(self.pooling.as_deref().unwrap_or(Path::new("1_Pooling"))).join("config.json");
        let said = json(&file)?.map(|config| pooling_of(&config).map_err(|why| PrepareError::Add(format!("{}: {why}", file.display())))).transpose()?;
        match (said, choices.pooling) {
            (Some(said), Some(chosen)) if said != chosen => refuse(format!("{} says {said:?}, --pooling says {chosen:?}", file.display())),
            (Some(pooling), _) | (None, Some(pooling)) => Ok(pooling),
            (None, None) => refuse(format!("{} is missing: say with --pooling mean, cls or max how tokens become one vector", file.display())),
        }
    }
}

fn pooling_of(config: &Json) -> Result<Pooling, String> {
    if config.get("include_prompt") == Some(&Json::Bool(false)) {
        return Err("include_prompt = false is not read: prompts are part of the text here".to_owned());
    }
    if let Some(mode) = config.get("pooling_mode").and_then(Json::as_str) {
        return mode.parse();
    }
    let modes = config.as_object().into_iter().flatten().filter(|(_, on)| **on == Json::Bool(true));
    let modes: Vec<&str> = modes.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    match modes[..] {
        ["mean_tokens"] => Ok(Pooling::Mean),
        ["cls_token"] => Ok(Pooling::Cls),
        ["max_tokens"] => Ok(Pooling::Max),
        [] => Err("it says no pooling_mode".to_owned()),
        _ => Err(format!("pooling by {} is not read: mean_tokens, cls_token or max_tokens alone are", modes.join(" and "))),
    }
}

fn max_tokens(root: &Path, choices: &Choices) -> Result<usize, PrepareError> {
    let number = |file: &str, key: &str| Ok::<_, PrepareError>(json(&root.join(file))?.and_then(|config| config.get(key)?.as_u64()));
    // transformers writes 1e30 where it does not know: no limit.
    let known = |limit: &u64| (3..1_000_000).contains(limit);
    let chosen = choices.max_tokens.map(|limit| limit as u64);
    let said = match chosen {
        Some(limit) => Some(limit),
        None => match number("sentence_bert_config.json", "max_seq_length")?.filter(known) {
            Some(limit) => Some(limit),
            None => number("tokenizer_config.json", "model_max_length")?.filter(known),
        },
    };
    match said.filter(known).and_then(|limit| usize::try_from(limit).ok()) {
        Some(limit) => Ok(limit),
        None => refuse(format!(
            "neither sentence_bert_config.json (max_seq_length) nor tokenizer_config.json (model_max_length) in {} says how many tokens the model reads: \
             give --max-tokens",
            root.display()
        )),
    }
}

/// sentence-transformers can make letters small before the tokenizer; here only the tokenizer does.
fn check_lowercase(root: &Path, tokenizer: &Path) -> Result<(), PrepareError> {
    let file = root.join("sentence_bert_config.json");
    let asked = json(&file)?.is_some_and(|config| config.get("do_lower_case") == Some(&Json::Bool(true)));
    let done = || Ok::<_, PrepareError>(json(tokenizer)?.is_some_and(|json| lowers(json.get("normalizer").unwrap_or(&Json::Null))));
    if asked && !done()? {
        return refuse(format!("{} asks for small letters, which {TOKENIZER} does not make: add a Lowercase normalizer to it", file.display()));
    }
    Ok(())
}

fn lowers(normalizer: &Json) -> bool {
    let kind = normalizer.get("type").and_then(Json::as_str);
    let parts = normalizer.get("normalizers").and_then(Json::as_array);
    kind == Some("Lowercase") || normalizer.get("lowercase") == Some(&Json::Bool(true)) || parts.is_some_and(|parts| parts.iter().any(lowers))
}

const PROMPTS: &str = "config_sentence_transformers.json";

/// What stands before texts, and how embeddings are compared.
struct Prompts {
    query: String,
    item: String,
    similarity: String,
    lengths_count: bool,
}

impl Prompts {
    fn read(from: &Path, choices: &Choices) -> Result<Self, PrepareError> {
        let file = from.join(PROMPTS);
        let config = json(&file)?;
        let similarity = config.as_ref().and_then(|config| config.get("similarity_fn_name")?.as_str()).unwrap_or("cosine").to_owned();
        let lengths_count = similarity != "cosine";
        let prompts = config.as_ref().and_then(|config| config.get("prompts")?.as_object());
        let prompt = |name: &str| prompts.and_then(|prompts| prompts.get(name)?.as_str()).map(str::to_owned);
        let standard = config.as_ref().and_then(|config| config.get("default_prompt_name")?.as_str()).and_then(prompt);
        let is_empty = prompts.is_none_or(|prompts| prompts.values().all(|prompt| prompt.as_str() == Some("")));
        let said = |names: &[&str], chosen: &Option<String>, flag: &str| {
            let found = chosen.clone().or_else(|| names.iter().find_map(|name| prompt(name))).or_else(|| standard.clone());
            match found {
                Some(prefix) => Ok(prefix),
                // The file is there and has no prompts: the model wants none.
                None if config.is_some() && is_empty => Ok(String::new()),
                None if config.is_some() => {
                    refuse(format!("the prompts in {} have none called {}: say it with {flag} ('' for none)", file.display(), names.join(" or ")))
                }
                None => refuse(format!("{} is missing: say with {flag} what stands before texts ('' for nothing)", file.display())),
            }
        };
        let query = said(&["query"], &choices.query_prefix, "--query-prefix")?;
        let item = said(&["document", "passage", "corpus"], &choices.item_prefix, "--item-prefix")?;
        Ok(Self { query, item, similarity, lengths_count })
    }
}

fn copy(source: &Path, folder: &Folder, model: &str, progress: &mut dyn FnMut(Progress)) -> Result<WheelFile, PrepareError> {
    let wrong = |error| PrepareError::files(source, error);
    let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut content = File::open(source).map_err(wrong)?;
    let bytes = content.metadata().map_err(wrong)?.len();
    let label = format!("{model} ({name})");
    let sha256 = folder.put(&name, &mut content, &|_| true, &mut |written| progress(Progress::copying(&label, written, bytes))).map_err(wrong)?;
    Ok(WheelFile { path: name, bytes, sha256 })
}

/// The model gives an embedding, and has a vector for every token that its tokenizer knows.
fn try_out(model: &PreparedModel) -> Result<(), PrepareError> {
    let read = |path: &Path| fs::read(path).map_err(|error| PrepareError::files(path, error));
    let wrong = |error: tokenizers::Error| PrepareError::Add(format!("{TOKENIZER}: {error}"));
    let tokenizer = Tokenizer::read(&read(&model.tokenizer)?).map_err(wrong)?;
    let sizes = checkpoint::sizes(model.manifest.weights, &read(&model.onnx.with_file_name(CONFIG))?).map_err(|error| PrepareError::Add(error.to_string()))?;
    if let Some(words) = sizes.words.filter(|words| tokenizer.ids_end() > *words) {
        return refuse(format!("{TOKENIZER} has {} tokens, the model vectors for {words}: they do not belong together", tokenizer.ids_end()));
    }
    let Some(Around { before, after }) = tokenizer.around().map_err(wrong)? else {
        return refuse(format!("{TOKENIZER} makes no token of the letter a"));
    };
    let row = [&before[..], &tokenizer.ids("a").map_err(wrong)?, &after].concat();
    let mut forward = Forward::load(model, &Weights::load(model)?, 1)?;
    let vectors = forward.run(&[&row]).map_err(PrepareError::Start)?;
    match vectors.first() {
        Some(vector) if vector.iter().all(|x| x.is_finite()) && vector.iter().any(|x| *x != 0.0) => Ok(()),
        _ => refuse("the model gives no usable embedding for the letter a".to_owned()),
    }
}
