//! Where faketime's library is on this machine. For the build script, which marks the tests that need it, and for those tests.

use std::path::PathBuf;

/// The library that hands a program another time than the system's: of Debian's package `faketime`.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
