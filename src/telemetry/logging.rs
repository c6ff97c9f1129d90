//! Logs: structured lines on stderr, filtered by `log.level` (the syntax of `RUST_LOG`).

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// Such as `info` or `inkling=debug,warn`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// Logging could not start.
#[derive(Debug, thiserror::Error)]
#[error("log.level {level:?} is not a filter such as \"info\" or \"inkling=debug,warn\"")]
pub struct InvalidLogLevel {
    level: String,
}

/// Sends the process's log lines to stderr from now on. A second call changes nothing.
pub fn start_logging(settings: &LogSettings) -> Result<(), InvalidLogLevel> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|_| InvalidLogLevel { level: settings.level.clone() })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging had started already");
    }
    Ok(())
}
