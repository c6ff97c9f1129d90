//! A folder of large files that are either whole or made again.
//!
//! Files appear under a temporary name in the same folder, are flushed to disk and renamed: after a crash a file is the old one, the new one
//! or absent, and two processes that write the same file at once both leave a whole one. `files.json` beside them remembers each file's
//! SHA-256 with the size and time of change it was taken at, so that a start looks at 90 MB of weights without reading them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const RECORD: &str = "files.json";
/// What the names of unfinished files begin with.
const UNFINISHED: &str = ".new-";
/// An unfinished file that nobody has written to for so long is what a killed process left.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// One folder.
pub(super) struct Folder {
    path: PathBuf,
}

/// What was true of a file when it was last read through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    modified_ns: u64,
    sha256: String,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether file `name` is whole: by size and time of change where its hash was taken before, else by reading it.
    pub(super) fn holds(&self, name: &str, sha256: &str) -> bool {
        let Ok((bytes, modified_ns)) = size_and_time(&self.file(name)) else { return false };
        if self.record().get(name).is_some_and(|seen| seen.sha256 == sha256 && seen.bytes == bytes && seen.modified_ns == modified_ns) {
            return true;
        }
        let whole = sha256_of(&self.file(name)).is_ok_and(|found| found == sha256);
        if whole && let Err(error) = self.remember(name, sha256) {
            tracing::debug!(%error, "could not record the hash of {name}: it will be taken again at the next start");
        }
        whole
    }

    /// Puts `content` in place as `name`, and gives its SHA-256. `accept` may refuse the content by its hash, before anything is replaced.
    pub(super) fn put(&self, name: &str, content: &mut dyn Read, accept: &dyn Fn(&str) -> bool, step: &mut dyn FnMut(u64)) -> io::Result<String> {
        fs::create_dir_all(&self.path)?;
        self.sweep();
        let mut file = self.new_file()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut written = 0;
        loop {
            let count = content.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
            hash.update(chunk);
            file.write_all(chunk)?;
            written += count as u64;
            step(written);
        }
        let sha256 = hex::encode(hash.finalize());
        if !accept(&sha256) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} has the SHA-256 {sha256}, which is not the pinned one")));
        }
        file.as_file().sync_all()?;
        file.persist(self.file(name)).map_err(|error| error.error)?;
        self.sync();
        self.remember(name, &sha256)?;
        Ok(sha256)
    }

    /// A file under a temporary name. As readable as the process's umask allows: a service may run as another user than the one who fetched.
    fn new_file(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&self.path)
    }

    /// Removes what killed processes left: a model has hundreds of megabytes, and each try would leave as many.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|modified| modified.elapsed().ok());
            if unfinished && age.is_some_and(|age| age > ABANDONED) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn record(&self) -> BTreeMap<String, Seen> {
        fs::read(self.file(RECORD)).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    fn remember(&self, name: &str, sha256: &str) -> io::Result<()> {
        let (bytes, modified_ns) = size_and_time(&self.file(name))?;
        let mut record = self.record();
        record.insert(name.to_owned(), Seen { bytes, modified_ns, sha256: sha256.to_owned() });
        let mut file = self.new_file()?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.as_file().sync_all()?;
        file.persist(self.file(RECORD)).map_err(|error| error.error)?;
        self.sync();
        Ok(())
    }

    /// Makes renames durable; where a folder cannot be opened as a file (not on Unix) there is nothing to do.
    fn sync(&self) {
        if let Err(error) = File::open(&self.path).and_then(|folder| folder.sync_all()) {
            tracing::debug!(%error, "could not flush a folder");
        }
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (BufReader::with_capacity(1 << 20, File::open(path)?), Sha256::new());
    loop {
        let read = file.fill_buf()?;
        if read.is_empty() {
            break;
        }
        hash.update(read);
        let read = read.len();
        file.consume(read);
    }
    Ok(hex::encode(hash.finalize()))
}

fn size_and_time(path: &Path) -> io::Result<(u64, u64)> {
    let about = fs::metadata(path)?;
    let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok((about.len(), u64::try_from(modified).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Folder, content: &str) -> String {
        folder.put("a", &mut content.as_bytes(), &|_| true, &mut |_| {}).unwrap()
    }

    #[test]
    fn a_file_is_whole_until_it_is_torn_and_then_after_it_is_put_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("deep/inside"));
        let hash = put(&folder, "all of it");
        assert!(folder.holds("a", &hash));

        fs::write(folder.file("a"), "all of").unwrap();
        assert!(!folder.holds("a", &hash));

        put(&folder, "all of it");
        assert!(folder.holds("a", &hash));
        assert!(!folder.holds("a", "another hash"));
    }

    #[test]
    fn a_file_of_the_right_size_with_other_content_is_found_out() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let hash = put(&folder, "all of it");

        fs::write(folder.file("a"), "ALL OF IT").unwrap();

        assert!(!folder.holds("a", &hash));
    }

    #[test]
    fn a_flipped_bit_a_missing_file_and_a_torn_record_are_found_out() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let hash = put(&folder, "all of it");
        let whole = fs::read(folder.file("a")).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(folder.file("a"), flipped).unwrap();
            assert!(!folder.holds("a", &hash), "byte {at}");
        }
        fs::remove_file(folder.file("a")).unwrap();
        assert!(!folder.holds("a", &hash));

        put(&folder, "all of it");
        fs::write(folder.file(RECORD), "{\"a\": {\"bytes\"").unwrap();
        assert!(folder.holds("a", &hash), "the file is read where the record cannot be");
        assert!(folder.record().contains_key("a"));
    }

    #[test]
    fn what_a_killed_process_left_goes_after_a_day_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let (old, young) = (place.path().join(".new-old"), place.path().join(".new-young"));
        fs::write(&old, "half").unwrap();
        fs::write(&young, "half").unwrap();
        File::options().append(true).open(&old).unwrap().set_modified(std::time::SystemTime::now() - 2 * ABANDONED).unwrap();

        put(&folder, "all of it");

        assert!(!old.exists() && young.exists());
    }

    #[test]
    fn content_that_is_refused_replaces_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let hash = put(&folder, "good");

        let refused = folder.put("a", &mut "bad".as_bytes(), &|found| found == hash, &mut |_| {});

        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(folder.file("a")).unwrap(), "good");
        assert!(folder.holds("a", &hash));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no temporary file stays");
    }
}
