//! Where PostgreSQL's programs are on this machine. For the build script, which marks the tests that need them, and for those tests.

use std::path::PathBuf;

/// The folder with `initdb` and `postgres`: of Debian's newest version, else on the `PATH`.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest = versions.filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path().join("bin")))).max();
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    newest.map(|(_, folder)| folder).into_iter().chain(on_path).find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}
