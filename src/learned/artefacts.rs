//! A folder of what was learned, by version: `item-item/<version>/{weights.bin, factors.bin, adapter.bin, manifest.json, manifest.sha256}`; the
//! newest good one is served.
//!
//! A version is written under a temporary name, fsynced and renamed, so a crash leaves the old versions as they were. The manifest holds the
//! ranker, the checksums of the other files and the catalogue that the item keys belong to, and has a checksum of its own: a torn version, or
//! one of another database, is named and skipped. No user ids.
//!
//! `weights.bin`, little-endian: rows + 1 (u64), weights (u64), then offsets (u32), targets (u32), weights (f32). `factors.bin`, little-endian: k
//! (u64), items (u64), then item keys (u32), factors (f32), YᵀY (f32). It and `adapter.bin` are there only where there is something to keep.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Adapter, Collaborative, Factors, FoldIn, Folding, ItemItem, Learned, Ranker};
use crate::domain::Timestamp;

const KIND: &str = "item-item";
const WEIGHTS: &str = "weights.bin";
const FACTORS: &str = "factors.bin";
const ADAPTER: &str = "adapter.bin";
const MANIFEST: &str = "manifest.json";
/// Of the manifest: the fold-in's numbers are there, and one that a disk changed would still be a number.
const CHECKSUM: &str = "manifest.sha256";
/// The layout of a version; another number is one of another program. The first had no checksum of the manifest.
const FORMAT: u32 = 2;
const FORMAT_WITHOUT_CHECKSUM: u32 = 1;

/// Why weights could not be saved or looked for.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// The folder cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The report is not JSON.
    #[error("the training report cannot be written: {0}")]
    Report(#[from] serde_json::Error),
    /// There is no such version.
    #[error("there is no version {0}")]
    Unknown(String),
    /// The version is there, but not to be used.
    #[error("version {} cannot be used: {}", .0.version, .0.reason)]
    Unreadable(Unreadable),
}

/// A version on disk that is not to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub version: String,
    /// In words.
    pub reason: String,
}

/// A version that was read or written.
#[derive(Debug, Clone)]
pub struct Kept<R> {
    /// Names sort by time.
    pub version: String,
    /// When it was trained.
    pub trained_at: Timestamp,
    /// What training had to say.
    pub report: R,
    /// What was learned.
    pub learned: Learned,
}

#[derive(Serialize, Deserialize)]
struct Manifest<R> {
    format: u32,
    catalogue: String,
    trained_at: Timestamp,
    weights_sha256: String,
    fold_in: FoldIn,
    /// Versions of the time before have none of these.
    #[serde(default)]
    factors: Option<FactorsFile>,
    #[serde(default)]
    adapter: Option<AdapterFile>,
    #[serde(default)]
    ranker: Ranker,
    report: R,
}

/// The factors beside the weights.
#[derive(Serialize, Deserialize)]
struct FactorsFile {
    #[serde(flatten)]
    folding: Folding,
    sha256: String,
}

/// The adapter beside the weights.
#[derive(Serialize, Deserialize)]
struct AdapterFile {
    model_version: String,
    sha256: String,
}

/// The folder of one catalogue's weights. Blocking: reading and writing take milliseconds.
#[derive(Debug, Clone)]
pub struct Artefacts {
    folder: PathBuf,
    catalogue: String,
    keep: usize,
}

impl Artefacts {
    /// Under `folder` (made when first needed), for the database called `catalogue`; the newest `keep` versions stay.
    pub fn new(folder: impl AsRef<Path>, catalogue: impl Into<String>, keep: usize) -> Self {
        Self { folder: folder.as_ref().join(KIND), catalogue: catalogue.into(), keep: keep.max(1) }
    }

    /// Saves what was learned as the newest version and removes what is too many.
    pub fn save<R: Serialize>(&self, learned: Learned, report: R, trained_at: Timestamp) -> Result<Kept<R>, ArtefactError> {
        let version = self.next_version(trained_at)?;
        let weights = encoded(&learned.collaborative.item_item);
        let factors = learned.collaborative.factors.as_ref().map(|factors| (encoded_factors(factors), factors.folding()));
        let adapter = learned.adapter.as_ref().map(|adapter| (adapter.encoded(), adapter.model_version().to_owned()));
        let manifest = Manifest {
            format: FORMAT,
            catalogue: self.catalogue.clone(),
            trained_at,
            weights_sha256: hex::encode(Sha256::digest(&weights)),
            fold_in: learned.collaborative.fold_in(),
            factors: factors.as_ref().map(|(bytes, folding)| FactorsFile { folding: *folding, sha256: hex::encode(Sha256::digest(bytes)) }),
            adapter: adapter
                .as_ref()
                .map(|(bytes, model_version)| AdapterFile { model_version: model_version.clone(), sha256: hex::encode(Sha256::digest(bytes)) }),
            ranker: learned.ranker.clone(),
            report,
        };
        let temporary = self.folder.join(format!(".{version}.part"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(at(&temporary))?;
        }
        fs::create_dir_all(&temporary).map_err(at(&temporary))?;
        write_durably(&temporary.join(WEIGHTS), &weights)?;
        if let Some((bytes, _)) = &factors {
            write_durably(&temporary.join(FACTORS), bytes)?;
        }
        if let Some((bytes, _)) = &adapter {
            write_durably(&temporary.join(ADAPTER), bytes)?;
        }
        let described = serde_json::to_vec_pretty(&manifest)?;
        write_durably(&temporary.join(MANIFEST), &described)?;
        write_durably(&temporary.join(CHECKSUM), hex::encode(Sha256::digest(&described)).as_bytes())?;
        sync_folder(&temporary)?;
        let place = self.folder.join(&version);
        fs::rename(&temporary, &place).map_err(at(&place))?;
        sync_folder(&self.folder)?;
        self.clean_up();
        Ok(Kept { version, trained_at, report: manifest.report, learned })
    }

    /// The newest version that can be used, if any, and what was skipped on the way, newest first.
    pub fn newest<R: DeserializeOwned>(&self) -> Result<(Option<Kept<R>>, Vec<Unreadable>), ArtefactError> {
        let mut skipped = Vec::new();
        for version in self.versions()?.into_iter().rev() {
            match self.read(version) {
                Ok(kept) => return Ok((Some(kept), skipped)),
                Err(unreadable) => skipped.push(unreadable),
            }
        }
        Ok((None, skipped))
    }

    /// One version.
    pub fn load<R: DeserializeOwned>(&self, version: &str) -> Result<Kept<R>, ArtefactError> {
        match self.versions()?.into_iter().find(|known| known == version) {
            Some(version) => self.read(version).map_err(ArtefactError::Unreadable),
            None => Err(ArtefactError::Unknown(version.to_owned())),
        }
    }

    /// The versions on disk, oldest first, good or not.
    pub fn versions(&self) -> Result<Vec<String>, ArtefactError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ArtefactError::Io(self.folder.clone(), error)),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&self.folder))?.file_name();
            versions.extend(name.to_str().filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        versions.sort();
        Ok(versions)
    }

    /// Later than every version there is, even where the clock went back.
    fn next_version(&self, at: Timestamp) -> Result<String, ArtefactError> {
        // Fixed width, so that names sort as times do; such as 20261124T043000123Z.
        let name = |at: Timestamp| at.to_string().chars().filter(|letter| letter.is_ascii_alphanumeric()).collect::<String>();
        let newest = self.versions()?.pop();
        let (plain, floor) = (name(at), newest.unwrap_or_default());
        Ok(if plain > floor { plain } else { format!("{floor}-1") })
    }

    fn read<R: DeserializeOwned>(&self, version: String) -> Result<Kept<R>, Unreadable> {
        let folder = self.folder.join(&version);
        let read = || -> Result<(Manifest<R>, Learned), String> {
            let described = fs::read(folder.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
            let checksum = fs::read(folder.join(CHECKSUM)).ok();
            if checksum.as_ref().is_some_and(|checksum| hex::encode(Sha256::digest(&described)).as_bytes() != checksum) {
                return Err(format!("{MANIFEST} is torn: the checksum differs"));
            }
            let manifest: Manifest<R> = serde_json::from_slice(&described).map_err(|error| format!("{MANIFEST}: {error}"))?;
            match manifest.format {
                FORMAT if checksum.is_none() => return Err(format!("{CHECKSUM} is missing")),
                FORMAT | FORMAT_WITHOUT_CHECKSUM => {}
                other => return Err(format!("format {other} is not {FORMAT}")),
            }
            if manifest.catalogue != self.catalogue {
                return Err("it belongs to another database".to_owned());
            }
            let whole = |file: &str, checksum: &str| -> Result<Vec<u8>, String> {
                let bytes = fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
                if hex::encode(Sha256::digest(&bytes)) == checksum { Ok(bytes) } else { Err(format!("{file} is torn: the checksum differs")) }
            };
            let weights = whole(WEIGHTS, &manifest.weights_sha256)?;
            let item_item = decoded(&weights, manifest.fold_in).ok_or_else(|| format!("{WEIGHTS} does not hold weights"))?;
            let factors = match &manifest.factors {
                Some(file) => {
                    let bytes = whole(FACTORS, &file.sha256)?;
                    Some(decoded_factors(&bytes, file.folding).ok_or_else(|| format!("{FACTORS} does not hold factors"))?)
                }
                None => None,
            };
            let adapter = match &manifest.adapter {
                Some(file) => {
                    let bytes = whole(ADAPTER, &file.sha256)?;
                    Some(Adapter::decoded(&bytes, file.model_version.clone()).ok_or_else(|| format!("{ADAPTER} does not hold a map"))?)
                }
                None => None,
            };
            let ranker = manifest.ranker.clone();
            Ok((manifest, Learned { collaborative: Collaborative { item_item, factors }, adapter, ranker }))
        };
        match read() {
            Ok((manifest, learned)) => Ok(Kept { version, trained_at: manifest.trained_at, report: manifest.report, learned }),
            Err(reason) => Err(Unreadable { version, reason }),
        }
    }

    /// Removes the oldest versions and what interrupted writes left; a failure costs disk space only.
    fn clean_up(&self) {
        let versions = self.versions().unwrap_or_default();
        let parts = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let parts = parts.filter(|path| path.extension().is_some_and(|extension| extension == "part"));
        let old = versions[..versions.len().saturating_sub(self.keep)].iter().map(|version| self.folder.join(version));
        for path in parts.chain(old) {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, "an old version of the item-item weights stays on disk: {error}");
            }
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtefactError {
    let path = path.to_owned();
    move |error| ArtefactError::Io(path, error)
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), ArtefactError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

/// Makes names durable; Windows cannot open folders, and does not need it.
fn sync_folder(folder: &Path) -> Result<(), ArtefactError> {
    if cfg!(unix) { fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder)) } else { Ok(()) }
}

fn encoded(item_item: &ItemItem) -> Vec<u8> {
    let (offsets, targets, weights) = item_item.parts();
    let mut bytes = Vec::with_capacity(16 + 4 * (offsets.len() + targets.len() + weights.len()));
    bytes.extend((offsets.len() as u64).to_le_bytes());
    bytes.extend((targets.len() as u64).to_le_bytes());
    bytes.extend(offsets.iter().chain(targets).flat_map(|number| number.to_le_bytes()));
    bytes.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
    bytes
}

fn decoded(bytes: &[u8], fold_in: FoldIn) -> Option<ItemItem> {
    let (offsets, weights, numbers) = headed(bytes)?;
    if weights.checked_mul(2)?.checked_add(offsets)? != numbers.len() {
        return None;
    }
    let (offsets, numbers) = numbers.split_at(offsets);
    let (targets, weights) = numbers.split_at(weights);
    ItemItem::from_parts(fold_in, integers(offsets), integers(targets), floats(weights))
}

fn encoded_factors(factors: &Factors) -> Vec<u8> {
    let (rank, items, rows, gram) = factors.parts();
    let mut bytes = Vec::with_capacity(16 + 4 * (items.len() + rows.len() + gram.len()));
    bytes.extend((rank as u64).to_le_bytes());
    bytes.extend((items.len() as u64).to_le_bytes());
    bytes.extend(items.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(rows.iter().chain(gram).flat_map(|number| number.to_le_bytes()));
    bytes
}

fn decoded_factors(bytes: &[u8], folding: Folding) -> Option<Factors> {
    let (rank, items, numbers) = headed(bytes)?;
    let (rows, gram) = (items.checked_mul(rank)?, rank.checked_mul(rank)?);
    if items.checked_add(rows)?.checked_add(gram)? != numbers.len() {
        return None;
    }
    let (items, numbers) = numbers.split_at(items);
    let (rows, gram) = numbers.split_at(rows);
    Factors::from_parts(folding, rank, integers(items), floats(rows), floats(gram))
}

/// Two counts, and the numbers after them.
fn headed(bytes: &[u8]) -> Option<(usize, usize, &[[u8; 4]])> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let (second, rest) = rest.split_first_chunk::<8>()?;
    let count = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
    let (numbers, torn) = rest.as_chunks::<4>();
    torn.is_empty().then_some((count(first)?, count(second)?, numbers))
}

fn integers(numbers: &[[u8; 4]]) -> Vec<u32> {
    numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

fn floats(numbers: &[[u8; 4]]) -> Vec<f32> {
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::ItemKey, learned::ItemItemBuilder};

    fn weights(strength: f32) -> Learned {
        let mut builder = ItemItemBuilder::new(4, 2);
        builder.push(ItemKey(2), vec![(ItemKey(5), strength), (ItemKey(0), -0.5)]);
        builder.push(ItemKey(5), vec![(ItemKey(2), 0.25)]);
        let item_item = builder.finish(FoldIn { half_life_events: Some(4.0), floor: 0.2, dislike: 0.25, graded: true });
        let adapter = Adapter::from_parts("model".into(), vec![strength, 0.5], vec![0.25, -1.0], vec![0.0, 0.125]);
        let folding = Folding { alpha: 8.0, lambda: 0.5, strength };
        let factors = Factors::new(folding, 2, &[ItemKey(5), ItemKey(2)], &[strength, 0.25, -0.5, 1.0], vec![1.0, 0.5, 0.5, 2.0]);
        let collaborative = Collaborative { item_item, factors };
        Learned { collaborative, adapter, ranker: Ranker { search: Some([strength; 11]), ..Ranker::default() } }
    }

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms).unwrap()
    }

    fn newest(artefacts: &Artefacts) -> (Option<Kept<String>>, Vec<Unreadable>) {
        artefacts.newest().unwrap()
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path(), "shop", 3);
        assert!(newest(&artefacts).0.is_none());

        let saved = artefacts.save(weights(0.75), "fine".to_owned(), time(0)).unwrap();

        let (kept, skipped) = newest(&artefacts);
        let kept = kept.unwrap();
        assert_eq!((kept.version.as_str(), kept.report.as_str(), kept.trained_at), (saved.version.as_str(), "fine", time(0)));
        assert_eq!(kept.learned, weights(0.75));
        assert!(skipped.is_empty());
        assert_eq!(artefacts.load::<String>(&saved.version).unwrap().learned, weights(0.75));
        assert!(matches!(artefacts.load::<String>("../shop"), Err(ArtefactError::Unknown(_))));
    }

    /// What can happen to a file: it is gone, empty, cut short, or one of its bits is another.
    fn harms(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
        let flipped = (0..bytes.len()).step_by(bytes.len().div_ceil(40)).map(|at| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            Some(bytes)
        });
        [None, Some(Vec::new()), Some(bytes[..bytes.len() - 3].to_vec()), Some(bytes[..bytes.len() / 2].to_vec())].into_iter().chain(flipped).collect()
    }

    #[test]
    fn a_torn_version_is_named_and_the_last_good_one_is_used() {
        for file in [WEIGHTS, FACTORS, ADAPTER, MANIFEST, CHECKSUM] {
            let folder = tempfile::tempdir().unwrap();
            let artefacts = Artefacts::new(folder.path(), "shop", 3);
            let good = artefacts.save(weights(1.0), "good".to_owned(), time(0)).unwrap();
            let torn = artefacts.save(weights(2.0), "torn".to_owned(), time(1)).unwrap();
            let path = folder.path().join(KIND).join(&torn.version).join(file);
            let whole = fs::read(&path).unwrap();

            for harm in harms(&whole) {
                match &harm {
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }

                let (kept, skipped) = newest(&artefacts);

                assert_eq!(kept.unwrap().version, good.version, "{file}: {harm:?}");
                assert_eq!(skipped.len(), 1);
                assert_eq!(skipped[0].version, torn.version);
                assert!(skipped[0].reason.contains(if file == CHECKSUM { "manifest" } else { file }), "{skipped:?}");
            }
            fs::write(&path, whole).unwrap();
            assert_eq!(newest(&artefacts).0.unwrap().version, torn.version, "it is whole again");
        }
    }

    #[test]
    fn a_version_without_factors_has_no_file_for_them_and_one_of_the_time_before_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path(), "shop", 3);
        let mut learned = weights(1.0);
        learned.collaborative.factors = None;
        let saved = artefacts.save(learned.clone(), "old".to_owned(), time(0)).unwrap();
        let version = folder.path().join(KIND).join(&saved.version);
        let manifest: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fs::read(version.join(MANIFEST)).unwrap()).unwrap();
        let before: serde_json::Map<_, _> = manifest.into_iter().filter(|(name, _)| name != "factors").collect();
        let described = serde_json::to_vec(&before).unwrap();
        fs::write(version.join(MANIFEST), &described).unwrap();
        fs::write(version.join(CHECKSUM), hex::encode(Sha256::digest(&described))).unwrap();

        assert!(!version.join(FACTORS).exists());
        assert_eq!(newest(&artefacts).0.unwrap().learned, learned);
    }

    #[test]
    fn what_an_interrupted_write_left_is_no_version() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path(), "shop", 3);
        let good = artefacts.save(weights(1.0), "good".to_owned(), time(0)).unwrap();
        let left = folder.path().join(KIND).join(".20991231T000000000Z.part");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(WEIGHTS), "half").unwrap();

        let (kept, skipped) = newest(&artefacts);

        assert_eq!((kept.unwrap().version, skipped.len()), (good.version, 0));
        artefacts.save(weights(2.0), "next".to_owned(), time(1)).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_version_of_the_time_before_checksums_is_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path(), "shop", 3);
        let old = artefacts.save(weights(1.0), "old".to_owned(), time(0)).unwrap();
        let version = folder.path().join(KIND).join(&old.version);
        fs::remove_file(version.join(CHECKSUM)).unwrap();
        let manifest = fs::read_to_string(version.join(MANIFEST)).unwrap();
        fs::write(version.join(MANIFEST), manifest.replace("\"format\": 2", "\"format\": 1")).unwrap();

        assert_eq!(newest(&artefacts).0.unwrap().report, "old");
    }

    #[test]
    fn weights_of_another_database_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        Artefacts::new(folder.path(), "shop", 3).save(weights(1.0), "fine".to_owned(), time(0)).unwrap();

        let (kept, skipped) = newest(&Artefacts::new(folder.path(), "another", 3));

        assert!(kept.is_none());
        assert!(skipped[0].reason.contains("another database"), "{skipped:?}");
    }

    #[test]
    fn versions_sort_by_time_even_when_the_clock_went_back_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path(), "shop", 2);
        fs::create_dir_all(folder.path().join(KIND).join(".interrupted.part")).unwrap();

        let saved: Vec<_> = [5, 5, 3, 4].iter().map(|ms| artefacts.save(weights(1.0), format!("{ms}"), time(*ms)).unwrap().version).collect();

        assert!(saved.is_sorted(), "{saved:?}");
        assert_eq!(artefacts.versions().unwrap(), saved[2..]);
        assert_eq!(newest(&artefacts).0.unwrap().report, "4");
        assert!(!folder.path().join(KIND).join(".interrupted.part").exists());
    }

    #[test]
    fn bytes_that_are_no_weights_are_refused() {
        let good = encoded(&weights(1.0).collaborative.item_item);
        let mut too_many = good.clone();
        too_many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());

        assert!(decoded(&good, FoldIn::default()).is_some());
        for bad in [&[][..], &good[..7], &good[..good.len() - 1], &good[..good.len() - 4], &too_many] {
            assert!(decoded(bad, FoldIn::default()).is_none());
        }
        let Some(factors) = weights(1.0).collaborative.factors else { panic!("there are factors") };
        let good = encoded_factors(&factors);
        let mut too_many = good.clone();
        too_many[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decoded_factors(&good, factors.folding()), Some(factors.clone()));
        for bad in [&[][..], &good[..7], &good[..good.len() - 1], &good[..good.len() - 4], &too_many] {
            assert!(decoded_factors(bad, factors.folding()).is_none());
        }
    }
}
