//! Floor 5: the settings of all rooms. `default.toml` ← preset (for `features` and `recommend.weights`) ← file ← `INKLING_SECTION__KEY` variables
//! ← flags; unknown keys are errors.
//!
//! The only place that reads the environment. Each section's struct lives in the room that it configures.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::RuleDocument,
    encoder::EncoderSettings,
    features::{FeatureSettings, Preset, Signals, check_rules},
    http::HttpSettings,
    index::IndexSettings,
    ingest::IngestSettings,
    recommend::{RecommendSettings, weights_of},
    store::StoreSettings,
    telemetry::LogSettings,
    training::TrainingSettings,
};

/// Every setting with its default and its reason.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The settings of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the rooms say what their sections mean")]
pub struct Settings {
    pub rules: Vec<RuleDocument>,
    pub paths: Paths,
    pub log: LogSettings,
    pub http: HttpSettings,
    pub store: StoreSettings,
    pub encoder: EncoderSettings,
    pub index: IndexSettings,
    pub features: FeatureSettings,
    pub ingest: IngestSettings,
    pub training: TrainingSettings,
    pub recommend: RecommendSettings,
}

/// `[paths]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Database, index and learned models.
    pub data: PathBuf,
    /// Language models and libraries; empty for the place that [`Paths::models_dir`] chooses.
    pub models: PathBuf,
}

impl Paths {
    /// Where language models lie: as set, else `models/` of the checkout that this runs in, else the user's cache folder.
    pub fn models_dir(&self) -> PathBuf {
        if !self.models.as_os_str().is_empty() {
            return self.models.clone();
        }
        let checkout = Path::new("models");
        if checkout.join("all-minilm-l6-v2.toml").is_file() {
            return checkout.to_owned();
        }
        directories::ProjectDirs::from("", "", "inkling").map_or_else(|| checkout.to_owned(), |dirs| dirs.cache_dir().join("models"))
    }
}

/// What flags say; absent ones say nothing.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "they are the flags of the command line")]
pub struct Overrides {
    pub file: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub models: Option<PathBuf>,
    pub listen: Option<String>,
    pub model: Option<String>,
}

/// Settings that cannot be used; the message names the key and where it stands.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("the settings file {0} cannot be read")]
    NoFile(PathBuf),
    /// An unknown key, a wrong type.
    #[error("{0}")]
    Invalid(String),
}

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Dotted, as `http.listen`.
    pub key: String,
    /// As TOML would write it; keys are not shown whole.
    pub value: String,
    /// Where it comes from.
    pub source: String,
}

impl Settings {
    /// Reads all sources.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let figment = figment(overrides)?;
        let settings: Self = figment.extract().map_err(|error| ConfigError::Invalid(one_line(&error)))?;
        let refused = |key: &str, error: &dyn std::error::Error| {
            let source = figment.find_metadata(key).map(|metadata| format!(" (from {})", described(metadata)));
            ConfigError::Invalid(format!("{error}{}", source.unwrap_or_default()))
        };
        Signals::new(&settings.features).map_err(|error| refused(&format!("features.{}", error.key), &error))?;
        settings.recommend.check().map_err(|error| refused(&error.key, &error))?;
        check_rules(&settings.rules).map_err(|error| refused("rules", &error))?;
        Ok(settings)
    }

    /// The same for a catalogue of its own: database and index in the data folder, whatever servers a shop's are on.
    pub fn on_its_own(mut self) -> Self {
        (self.store.url, self.index.url) = (None, None);
        self
    }
}

/// An API key that this process shows to a server, from the variable `INKLING_ADMIN_KEY`: a command line can be read by others. It cannot print
/// itself.
pub struct AdminKey(String);

impl AdminKey {
    /// The variable's value, where there is one.
    pub fn from_environment() -> Option<Self> {
        std::env::var("INKLING_ADMIN_KEY").ok().filter(|key| !key.is_empty()).map(Self)
    }

    /// The key, for a request's header.
    pub fn shown(&self) -> &str {
        &self.0
    }
}

/// Every setting with its source; fails as [`Settings::load`] does.
pub fn show(overrides: &Overrides) -> Result<Vec<Shown>, ConfigError> {
    Settings::load(overrides)?;
    let figment = figment(overrides)?;
    let all: Dict = figment.extract().map_err(|error| ConfigError::Invalid(one_line(&error)))?;
    let mut shown = Vec::new();
    flatten("", &Value::from(all), &mut |key, value| {
        let source = figment.find_metadata(key).map_or_else(String::new, described);
        let value = if key.starts_with("http.keys.") || ["store.url", "index.api_key"].contains(&key) { redacted(value) } else { plain(value) };
        shown.push(Shown { key: key.to_owned(), value, source });
    });
    Ok(shown)
}

fn figment(overrides: &Overrides) -> Result<Figment, ConfigError> {
    let mut own = Figment::new();
    if let Some(file) = &overrides.file {
        if !file.is_file() {
            return Err(ConfigError::NoFile(file.clone()));
        }
        own = own.merge(Toml::file_exact(file));
    }
    // Other INKLING_ names belong to tests, or to Kubernetes, which makes variables for every service.
    own = own.merge(Env::prefixed("INKLING_").filter(|name| name.as_str().contains("__")).split("__"));
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let flags = [
        ("paths.data", "--data", overrides.data.as_ref().map(path)),
        ("paths.models", "--models", overrides.models.as_ref().map(path)),
        ("http.listen", "--listen", overrides.listen.clone()),
        ("encoder.model", "--model", overrides.model.clone()),
    ];
    for (key, flag, value) in flags {
        if let Some(value) = value {
            own = own.merge(Named { inner: Serialized::default(key, value), name: flag });
        }
    }
    let mut figment = Figment::from(Named { inner: Toml::string(DEFAULTS), name: "default" });
    // Over the defaults: what the preset says, whoever chose it. An unknown one is refused when the settings are read.
    let chosen = figment.clone().merge(&own).extract_inner::<String>("features.preset").ok();
    if let Some(preset) = chosen.and_then(|name| Preset::from_name(&name)) {
        let name = preset_source(preset);
        figment = figment.merge(Named { inner: Serialized::default("features", preset.values()), name });
        for (feature, weight) in weights_of(preset) {
            figment = figment.merge(Named { inner: Serialized::default(&format!("recommend.weights.{feature}"), weight), name });
        }
    }
    Ok(figment.merge(own))
}

fn preset_source(preset: Preset) -> &'static str {
    match preset {
        Preset::Shop => "preset shop",
        Preset::News => "preset news",
        Preset::Video => "preset video",
        Preset::Music => "preset music",
        Preset::Support => "preset support",
    }
}

/// A provider under a name that says where its values come from.
struct Named<P> {
    inner: P,
    name: &'static str,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

fn described(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(source) => source.to_string(),
        None => metadata.name.clone().into_owned(),
    }
}

/// The first fault, with its key and its source.
fn one_line(error: &figment::Error) -> String {
    let Some(first) = error.clone().into_iter().next() else { return error.to_string() };
    let mut key = first.path.join(".");
    let kind = match &first.kind {
        figment::error::Kind::UnknownField(name, known) => {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(name);
            format!("there is no such setting; {} there are {}", if first.path.is_empty() { "sections" } else { "in this section" }, known.join(", "))
        }
        kind => kind.to_string(),
    };
    let source = first.metadata.as_ref().map(|metadata| format!(" (from {})", described(metadata))).unwrap_or_default();
    if key.is_empty() { format!("{kind}{source}") } else { format!("setting {key}: {kind}{source}") }
}

fn flatten(prefix: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Dict(_, entries) => {
            for (name, value) in entries {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, visit);
            }
        }
        value => visit(prefix, value),
    }
}

fn plain(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "?".to_owned())
}

fn redacted(value: &Value) -> String {
    match value {
        Value::Array(_, keys) => format!("({} set)", keys.len()),
        _ => "(set)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inkling.toml");
        std::fs::write(&file, toml).unwrap();
        Settings::load(&Overrides { file: Some(file), ..Overrides::default() })
    }

    #[test]
    fn the_defaults_are_complete_and_a_file_overrides_them() {
        let settings = with("[http]\nlisten = \"127.0.0.1:9\"\n").unwrap();

        assert_eq!(settings.http.listen, "127.0.0.1:9");
        assert_eq!(settings.encoder.model, "multilingual-e5-small");
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let error = with("[http]\nlissten = \"x\"\n").unwrap_err().to_string();
        assert!(error.contains("http.lissten") && error.contains("inkling.toml"), "{error}");

        let error = with("[htp]\n").unwrap_err().to_string();
        assert!(error.contains("htp"), "{error}");

        let error = with("[http]\nmax_in_flight = \"many\"\n").unwrap_err().to_string();
        assert!(error.contains("http.max_in_flight"), "{error}");
    }

    #[test]
    fn flags_win_and_every_setting_is_shown_with_its_source() {
        let overrides = Overrides { listen: Some("127.0.0.1:1".into()), ..Overrides::default() };

        let shown = show(&overrides).unwrap();

        let of = |key: &str| shown.iter().find(|one| one.key == key).unwrap();
        assert_eq!((of("http.listen").value.as_str(), of("http.listen").source.as_str()), ("\"127.0.0.1:1\"", "--listen"));
        assert_eq!(of("store.readers").source, "default");
    }

    #[test]
    fn a_preset_gives_what_nothing_else_says_and_is_shown_as_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inkling.toml");
        std::fs::write(&file, "[features]\npreset = \"news\"\n[features.events.click]\nweight = 0.5\n[features.events.wishlist]\nweight = 0.7\n").unwrap();
        let overrides = Overrides { file: Some(file), ..Overrides::default() };

        let features = Settings::load(&overrides).unwrap().features;
        let shown = show(&overrides).unwrap();

        let click = &features.events["click"];
        assert!((click.weight - 0.5).abs() < 1e-9 && click.seen, "{click:?}");
        assert!((features.popularity_half_life_days - 1.0).abs() < 1e-6 && features.events["wishlist"].weight > 0.6);
        let source = |key: &str| shown.iter().find(|one| one.key == key).unwrap().source.clone();
        assert!(source("features.events.click.weight").ends_with("inkling.toml"));
        assert_eq!(source("features.events.click.seen"), "preset news");
        assert_eq!(source("features.popularity_half_life_days"), "preset news");
    }

    #[test]
    fn a_preset_lets_features_count_otherwise_and_what_is_set_counts_more() {
        let support = with("[features]\npreset = \"support\"\n[recommend.weights]\npopularity = 0.0").unwrap().recommend.weights;
        let shop = Settings::load(&Overrides::default()).unwrap().recommend.weights;

        assert!((support.collaborative - 0.3).abs() < 1e-6 && support.popularity.abs() < 1e-6 && (support.semantic - shop.semantic).abs() < 1e-6);
        for preset in Preset::ALL {
            let settings = with(&format!("[features]\npreset = \"{}\"", preset.name())).unwrap();
            let found: Dict = Figment::from(Serialized::defaults(&settings.recommend.weights)).extract().unwrap();
            for (feature, weight) in weights_of(preset) {
                assert!((found[*feature].to_f64().unwrap() - weight).abs() < 1e-6, "{} {feature}", preset.name());
            }
        }
    }

    #[test]
    fn what_an_event_cannot_say_stops_the_start_with_the_key_and_the_file() {
        for (toml, said) in [
            ("[features]\npreset = \"shopp\"", "features.preset"),
            ("[features.events.click]\nweight = 50", "setting features.events.click.weight: must be -2 to 2"),
            ("[features.events.click]\nwieght = 1", "features.events.click.wieght"),
            ("[features.events.clik]\nseen = true", "features.events.clik: missing field `weight`"),
            ("[features.events.click]\nrepeated = \"never\"", "features.events.click.repeated"),
        ] {
            let error = with(toml).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("inkling.toml") && error.lines().count() == 1, "{toml}: {error}");
        }
    }

    #[test]
    fn the_password_of_the_database_is_neither_shown_nor_told_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inkling.toml");
        std::fs::write(&file, "[store]\nurl = \"postgres://shop:s3cret@db.example/inkling\"\n").unwrap();
        let overrides = Overrides { file: Some(file), ..Overrides::default() };

        let shown = show(&overrides).unwrap();
        let settings = Settings::load(&overrides).unwrap();

        assert!(shown.iter().all(|one| !one.value.contains("s3cret")));
        assert!(shown.iter().any(|one| one.key == "store.url" && one.value == "(set)"));
        assert!(!format!("{settings:?}").contains("s3cret"));
        for wrong in ["\"postgre://shop:s3cret@db.example/inkling\"", "[\"s3cret\"]", "{s3cret = 1}"] {
            let error = with(&format!("[store]\nurl = {wrong}\n")).unwrap_err().to_string();
            assert!(error.contains("store.url") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inkling.toml");
        let hash = crate::http::hash_key("a long random key");
        std::fs::write(&file, format!("[http.keys]\nadmin = [\"{hash}\"]\n")).unwrap();

        let shown = show(&Overrides { file: Some(file), ..Overrides::default() }).unwrap();

        assert!(shown.iter().all(|one| !one.value.contains(&hash[10..])));
        assert!(shown.iter().any(|one| one.key == "http.keys.admin" && one.value == "(1 set)"));
    }
}
