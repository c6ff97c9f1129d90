//! A real PostgreSQL for tests: one server a process, in a temporary folder, gone when the process is; a database a test.
//!
//! `INKLING_TEST_POSTGRES_URL` names a server to use instead, whose user may create databases (they are named `inkling_test_…` and
//! stay). `INKLING_TEST_POSTGRES=skip` leaves these tests out, `=required` fails where there is no server.

#[path = "installed.rs"]
mod installed;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::MetadataExt, fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, postgres::PgConnectOptions};

/// What to do where there is none.
const INSTALL: &str = "PostgreSQL is not installed: on Debian and Ubuntu `apt install postgresql`, or set INKLING_TEST_POSTGRES_URL to a server";

/// For a start or a stop, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300); // one that crashed flushes its whole folder first: a minute on a busy disk

/// The URL of a new, empty database on the server of this process.
pub(crate) async fn database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    match std::env::var("INKLING_TEST_POSTGRES_URL") {
        Ok(url) => create_database(&url).await,
        Err(_) => SERVER.get_or_init(Server::start).database().await,
    }
}

/// Says on standard error, past the test harness, when the tests with a database server are left out.
pub(crate) fn tell_of_skipped_tests() {
    use std::io::Write as _;
    if cfg!(postgres_server) {
        return;
    }
    let reason = match installed::programs() {
        None => INSTALL.to_owned(),
        Some(_) if std::env::var("INKLING_TEST_POSTGRES").is_ok_and(|wish| wish == "skip") => "INKLING_TEST_POSTGRES=skip".to_owned(),
        Some(_) => "PostgreSQL was installed after these tests were built: `touch build.rs`".to_owned(),
    };
    drop(writeln!(std::io::stderr(), "\nSKIPPED: the tests on PostgreSQL. {reason}"));
}

/// A server of its own, with the settings of a fresh installation.
pub(crate) struct Server {
    programs: PathBuf,
    /// Its tables lie in `data` below this.
    pub(crate) folder: PathBuf,
    port: u16,
    process: Option<Child>,
    _guard: Child,
}

impl Server {
    /// A new server, ready.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap().keep())
    }

    /// A new server, ready, with all of its files in that empty folder.
    pub(crate) fn start_in(folder: PathBuf) -> Self {
        let programs = installed::programs().unwrap_or_else(|| panic!("{}", INSTALL));
        let guard = outlive_not(&folder);
        if let Some((user, group)) = nobody_for_root() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { programs, folder, port, process: None, _guard: guard };
        let made = server
            .command("initdb")
            .args(["--pgdata", "data", "--username", "inkling", "--auth", "trust", "--encoding", "UTF8", "--locale", "C"])
            .arg("--no-sync")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.resume();
        server
    }

    /// Starts the server again after a [`stop`](Self::stop), on the same port.
    pub(crate) fn resume(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let port = self.port.to_string();
        let socket = self.folder.to_str().unwrap().to_owned();
        let settings =
            [format!("unix_socket_directories={socket}"), "listen_addresses=127.0.0.1".into(), "max_connections=300".into(), "shared_buffers=64MB".into()];
        let mut command = self.command("postgres");
        command.args(["-D", "data", "-p", &port]).args(settings.iter().flat_map(|setting| ["-c", setting]));
        let mut process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.command("pg_isready").args(["--quiet", "--host", "127.0.0.1", "--port", &port]).status().unwrap().success() {
            assert!(Instant::now() < deadline, "no server:\n{}", fs::read_to_string(self.folder.join("log")).unwrap());
            pause();
            if process.try_wait().unwrap().is_some() {
                process = command.spawn().unwrap(); // it refuses to start while processes of a crashed one are still ending
            }
        }
        self.process = Some(process);
    }

    /// Stops the server at once, as a crash would: who is connected is cut off, what was committed is recovered at the next start.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
        process.wait().unwrap();
    }

    /// `kill -9` of the server's first process; the others end when they notice.
    pub(crate) fn crash(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The URL of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        create_database(&format!("postgres://inkling@127.0.0.1:{}/postgres", self.port)).await
    }

    /// One of PostgreSQL's programs, in the server's folder; not as root, who may not run a server.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some((user, group)) = nobody_for_root() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(); // the guard removes the folder
    }
}

async fn create_database(server: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("inkling_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut connection = server.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (address, parameters) = server.split_once('?').map_or((server, String::new()), |(address, parameters)| (address, format!("?{parameters}")));
    format!("{}/{name}{parameters}", address.rsplit_once('/').unwrap().0)
}

#[expect(clippy::disallowed_methods, reason = "a server starts once a process, and synchronous tests start it too")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The user and group of `nobody` where this process is root's.
fn nobody_for_root() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().find(|line| line.starts_with("nobody:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Stops the server and removes its folder when this process is gone, however it ended: what is static is never dropped.
fn outlive_not(folder: &Path) -> Child {
    let script = r#"cat > /dev/null; pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null) && kill -QUIT "$pid" && sleep 1; rm -rf "$1""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", folder.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
