//! `inkling backup` and `inkling restore`: the truth and what was learned, in a folder or a zip file. The index is derived and left out.
//!
//! A backup holds `inkling.db`, `artefacts/…` and, written last, `backup.json` with the SHA-256 of each. It appears under its name when it is whole.
//! The artefacts are copied first: weights know items by their keys, and must not know keys that the database will give to other items.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{
    config::Settings,
    domain::Timestamp,
    store::{copy_database, newest_migration, restore_database},
};

use super::runtime;

const DATABASE: &str = "inkling.db";
const ARTEFACTS: &str = "artefacts";
const MANIFEST: &str = "backup.json";
/// The layout of a backup.
const FORMAT: u32 = 1;
/// Tries to copy the artefacts while training replaces them.
const TRIES: usize = 5;

#[derive(Args)]
pub(super) struct BackupFlags {
    /// A folder that is not there yet, or a file whose name ends in .zip
    to: PathBuf,
}

#[derive(Args)]
pub(super) struct RestoreFlags {
    /// What `inkling backup` made
    from: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    program: String,
    made_at: Timestamp,
    catalogue_id: String,
    migration: i64,
    items: u64,
    events: u64,
    /// SHA-256 in hexadecimal, by the path inside the backup.
    files: BTreeMap<String, String>,
}

pub(super) fn backup(flags: &BackupFlags, settings: &Settings) -> anyhow::Result<ExitCode> {
    let to = &flags.to;
    if let Some(url) = &settings.store.url {
        bail!("the truth is in {url}: `pg_dump` backs it up; what was learned is in {}", settings.paths.data.join(ARTEFACTS).display());
    }
    ensure!(!to.exists(), "{} is there already", to.display());
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside the backup, so that the last step is a rename; gone when something fails.
    let work = tempfile::Builder::new().prefix(".inkling-backup-").tempdir_in(parent).with_context(|| format!("{} cannot be written", parent.display()))?;
    let folder = work.path().join("backup");
    fs::create_dir(&folder)?;
    let manifest = runtime()?.block_on(gather(&settings.paths.data, &folder))?;
    if to.extension().is_some_and(|extension| extension == "zip") {
        let packed = work.path().join("backup.zip");
        pack(&folder, &manifest, &packed)?;
        fs::rename(&packed, to)?;
    } else {
        fs::rename(&folder, to)?;
    }
    sync_folder(parent)?;
    println!("backed up {} items and {} events into {}", manifest.items, manifest.events, to.display());
    Ok(ExitCode::SUCCESS)
}

async fn gather(data: &Path, folder: &Path) -> anyhow::Result<Manifest> {
    ensure!(data.join(DATABASE).is_file(), "{} holds no {DATABASE}", data.display());
    let mut files = copy_artefacts(&data.join(ARTEFACTS), folder)?;
    let facts = copy_database(data, &folder.join(DATABASE)).await?;
    files.insert(DATABASE.to_owned(), copy(&mut File::open(folder.join(DATABASE))?, &mut io::sink())?);
    let manifest = Manifest {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: Timestamp::now(),
        catalogue_id: facts.catalogue_id,
        migration: facts.migration,
        items: facts.items,
        events: facts.events,
        files,
    };
    let mut file = File::create(folder.join(MANIFEST))?;
    file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
    file.sync_all()?;
    sync_folder(folder)?;
    Ok(manifest)
}

/// Copies whole versions. Training may remove one while it is read: then all are looked at again.
fn copy_artefacts(from: &Path, folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut last = None;
    for _ in 0..TRIES {
        let to = folder.join(ARTEFACTS);
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        let mut files = BTreeMap::new();
        match copy_folder(from, &to, ARTEFACTS, &mut files) {
            Ok(()) => return Ok(files),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = Some(error),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be copied", from.display())),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into())).with_context(|| format!("{} changes all the time", from.display()))
}

/// A folder with all that is in it; names that begin with a dot are unfinished and stay behind.
fn copy_folder(from: &Path, to: &Path, name: &str, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && name == ARTEFACTS => return Ok(()), // nothing was learned yet
        entries => entries?,
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let Ok(inner) = entry.file_name().into_string() else { continue };
        if inner.starts_with('.') {
            continue;
        }
        let (from, to, name) = (entry.path(), to.join(&inner), format!("{name}/{inner}"));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to, &name, files)?;
        } else {
            let mut target = File::create(&to)?;
            files.insert(name, copy(&mut File::open(&from)?, &mut target)?);
            target.sync_all()?;
        }
    }
    sync_folder(to)
}

/// Copies and gives the SHA-256.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

fn pack(folder: &Path, manifest: &Manifest, to: &Path) -> anyhow::Result<()> {
    let mut zip = ZipWriter::new(File::create(to)?);
    // Any file may pass 4 GiB, and names may be read by whoever unpacks it.
    let options = SimpleFileOptions::default().large_file(true);
    for name in manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
        zip.start_file(name, options)?;
        io::copy(&mut File::open(folder.join(name))?, &mut zip)?;
    }
    zip.finish()?.sync_all()?;
    Ok(())
}

pub(super) fn restore(flags: &RestoreFlags, settings: &Settings) -> anyhow::Result<ExitCode> {
    let data = &settings.paths.data;
    if let Some(url) = &settings.store.url {
        bail!(
            "the truth is in {url}: `pg_restore` or `psql` fills it; a backup of SQLite can be imported there (restore it without store.url, export, import)"
        );
    }
    ensure!(is_empty(data)?, "{} is not empty; restore into a folder that is, with --data, and serve that", data.display());
    let mut backup = Backup::open(&flags.from)?;
    let manifest = backup.manifest()?;
    ensure!(manifest.format == FORMAT, "this backup has the format {}, not {FORMAT}; restore it with the program that made it", manifest.format);
    if manifest.migration > newest_migration() {
        let (found, known) = (manifest.migration, newest_migration());
        bail!("this backup is of a newer program ({}): its database has migration {found}, this program knows up to {known}", manifest.program);
    }
    let had_folder = data.exists();
    fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let restored = runtime()?.block_on(unpack(&mut backup, &manifest, data));
    if let Err(error) = restored {
        // The folder was empty: half of a restored shop must not be taken for a whole one.
        for entry in fs::read_dir(data).into_iter().flatten().flatten() {
            let path = entry.path();
            drop(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) });
        }
        if !had_folder {
            drop(fs::remove_dir(data));
        }
        return Err(error);
    }
    let Manifest { items, events, made_at, .. } = &manifest;
    println!("restored {items} items and {events} events of {made_at} into {}; the next `inkling serve` builds the index anew", data.display());
    if let Some(url) = &settings.index.url {
        println!("collections on {url} of before the restore are left alone: set another index.collection_prefix, or delete them there, before that");
    }
    Ok(ExitCode::SUCCESS)
}

fn is_empty(folder: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", folder.display())),
    }
}

/// Everything into place, the database last and under another name until it is checked.
async fn unpack(backup: &mut Backup, manifest: &Manifest, data: &Path) -> anyhow::Result<()> {
    ensure!(manifest.files.contains_key(DATABASE), "this backup holds no database");
    let unchecked = data.join(format!("{DATABASE}.part"));
    for (name, expected) in &manifest.files {
        let inside = Path::new(name).components().all(|step| matches!(step, Component::Normal(_)));
        ensure!(inside, "this backup names a file outside of itself");
        let to = if name == DATABASE { unchecked.clone() } else { data.join(name) };
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut target = File::create(&to).with_context(|| format!("{} cannot be written", to.display()))?;
        let found = backup.copy(name, &mut target).with_context(|| format!("{name} of the backup cannot be read"))?;
        ensure!(found == *expected, "{name} of the backup is damaged: its checksum differs");
        target.sync_all()?;
    }
    let facts = restore_database(&unchecked).await?;
    ensure!(facts.catalogue_id == manifest.catalogue_id, "the database of the backup is not the one that {MANIFEST} tells of");
    ensure!(!data.join(DATABASE).exists(), "somebody else has begun to use {}", data.display());
    fs::rename(&unchecked, data.join(DATABASE))?;
    Ok(sync_folder(data)?)
}

/// A backup to read from.
enum Backup {
    Folder(PathBuf),
    Zip(Box<ZipArchive<File>>),
}

impl Backup {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self::Zip(Box::new(ZipArchive::new(file).with_context(|| format!("{} is no backup", path.display()))?)))
    }

    fn copy(&mut self, name: &str, to: &mut dyn Write) -> anyhow::Result<String> {
        match self {
            Self::Folder(folder) => Ok(copy(&mut File::open(folder.join(name))?, to)?),
            Self::Zip(zip) => Ok(copy(&mut zip.by_name(name)?, to)?),
        }
    }

    fn manifest(&mut self) -> anyhow::Result<Manifest> {
        let mut json = Vec::new();
        self.copy(MANIFEST, &mut json).with_context(|| format!("it is no whole backup: {MANIFEST} cannot be read"))?;
        serde_json::from_slice(&json).with_context(|| format!("{MANIFEST} of the backup is damaged"))
    }
}

/// Makes names durable; Windows cannot open folders, and does not need it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder).and_then(|folder| folder.sync_all()) } else { Ok(()) }
}
