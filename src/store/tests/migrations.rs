//! From every earlier version to this one, with rows, on both databases: grows by itself with `migrations/`.
//!
//! `rows/DATABASE/NNNN.sql` holds rows as a program with migration N wrote them. Each version is reached as it was in life: its migration,
//! then rows of its time.

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, migrate::Migrator};

use super::*;
use crate::{
    domain::{Actor, RecommendationId, Revision, UserId},
    store::database::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS},
};

on_both! {
    a_database_of_every_earlier_version_is_brought_up_to_date_with_its_rows,
    a_migration_that_fails_half_way_leaves_the_database_as_it_was,
}

/// Where people can be merged and erased.
const PEOPLE: i64 = 4;
/// Where there are rules.
const RULES: i64 = 5;

impl Kind {
    fn migrations(self) -> &'static Migrator {
        match self {
            Self::Sqlite => &SQLITE_MIGRATIONS,
            Self::Postgres => &POSTGRES_MIGRATIONS,
        }
    }

    fn versions(self) -> impl Iterator<Item = i64> {
        self.migrations().iter().map(|migration| migration.version)
    }

    /// The rows of migration N, if that one brought any of its own.
    fn rows_of(self, version: i64) -> Option<String> {
        let database = if self == Self::Sqlite { "sqlite" } else { "postgres" };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/store/tests/rows/{database}/{version:04}.sql"));
        std::fs::read_to_string(path).ok()
    }
}

/// A connection past the store.
enum Direct {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Direct {
    async fn to(folder: &Path, settings: &StoreSettings) -> Self {
        match &settings.url {
            None => Self::Sqlite(SqliteConnectOptions::new().filename(folder.join("inkling.db")).create_if_missing(true).connect().await.unwrap()),
            Some(url) => Self::Postgres(url.options().connect().await.unwrap()),
        }
    }

    async fn migrate(&mut self, migrations: Migrator) -> Result<(), sqlx::migrate::MigrateError> {
        match self {
            Self::Sqlite(connection) => migrations.run(connection).await,
            Self::Postgres(connection) => migrations.run(connection).await,
        }
    }

    async fn run(&mut self, statements: String) {
        match self {
            Self::Sqlite(connection) => drop(sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.unwrap()),
            Self::Postgres(connection) => drop(sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.unwrap()),
        }
    }

    async fn close(self) {
        match self {
            Self::Sqlite(connection) => connection.close().await.unwrap(),
            Self::Postgres(connection) => connection.close().await.unwrap(),
        }
    }
}

/// A database as a program with migrations up to `version` left it.
async fn of_version(kind: Kind, version: i64, folder: &Path, settings: &StoreSettings) {
    let mut connection = Direct::to(folder, settings).await;
    for reached in kind.versions().filter(|reached| *reached <= version) {
        let known = kind.migrations().iter().filter(|migration| migration.version <= reached).cloned().collect();
        connection.migrate(Migrator::with_migrations(known)).await.unwrap();
        if let Some(rows) = kind.rows_of(reached) {
            connection.run(rows).await;
        }
    }
    connection.close().await;
}

async fn a_database_of_every_earlier_version_is_brought_up_to_date_with_its_rows(kind: Kind) {
    assert!(kind.rows_of(1).is_some() && kind.rows_of(PEOPLE).is_some() && kind.rows_of(RULES).is_some());
    for version in kind.versions() {
        let (folder, settings) = (tempfile::tempdir().unwrap(), fresh(kind).await);
        of_version(kind, version, folder.path(), &settings).await;

        let store = open_with(folder.path(), &settings).await.unwrap_or_else(|error| panic!("from version {version}: {error}"));

        assert_eq!(store.catalogue_id(), "0199a000-0000-7000-8000-000000000001", "from version {version}");
        let tent = store.item(&id("old/tent")).await.unwrap().unwrap();
        assert_eq!((tent.key.0, tent.revision, tent.item.price), (0, Revision(1), Some(12.5)));
        assert_eq!(store.item_counts().await.unwrap(), ItemCounts { live: 1, deleted: 1 });
        let events = store.events_after(0, 10).await.unwrap();
        assert_eq!(events.iter().map(|logged| (logged.sequence, logged.at())).collect::<Vec<_>>(), [(1, at(1_000)), (4, at(2_000))]);
        let user = UserId::new("u").unwrap();
        assert_eq!(store.recent_events(&Actor::User(user.clone()), 10).await.unwrap().len(), 2);
        assert_eq!(store.exposure(&RecommendationId::new("r").unwrap()).await.unwrap().unwrap().items.len(), 1);
        assert_eq!(store.shared_flushed_revision("c").await.unwrap(), Revision(2));
        let rules = store.rules().await.unwrap();
        assert_eq!((rules.revision, rules.documents.len()), if version >= RULES { (1, 1) } else { (0, 0) });
        // It goes on where the old one stopped.
        assert!(matches!(store.put_items(vec![item("new", json!({"attributes": {"brand": 3}}))]).await.unwrap()[..], [ItemOutcome::Rejected(_)]));
        assert!(
            matches!(&store.put_items(vec![item("new", json!({}))]).await.unwrap()[..], [ItemOutcome::Created(new)] if new.key.0 == 2 && new.revision.0 == 4)
        );
        assert!(matches!(store.append_events(vec![event(json!({}))], at(1)).await.unwrap()[..], [EventOutcome::Accepted(5)]));
        let of_old = vec![event(json!({"user_id": "old"})), event(json!({"user_id": null, "session_id": "s9"})), event(json!({"user_id": "forgotten"}))];
        let outcomes = store.append_events(of_old, at(5_000)).await.unwrap();
        if version >= PEOPLE {
            assert_eq!(outcomes, [EventOutcome::Moved(6, user.clone()), EventOutcome::Moved(7, user), EventOutcome::Duplicate]);
        } else {
            assert_eq!(outcomes, [EventOutcome::Accepted(6), EventOutcome::Accepted(7), EventOutcome::Accepted(8)]);
        }
        store.close().await;
    }
}

async fn a_migration_that_fails_half_way_leaves_the_database_as_it_was(kind: Kind) {
    let (folder, settings) = (tempfile::tempdir().unwrap(), fresh(kind).await);
    of_version(kind, kind.versions().max().unwrap(), folder.path(), &settings).await;
    let last = kind.migrations().iter().max_by_key(|migration| migration.version).unwrap();
    let mut broken = last.clone();
    broken.version += 1;
    broken.sql = sqlx::SqlSafeStr::into_sql_str("ALTER TABLE items ADD COLUMN half TEXT; DELETE FROM events; INSERT INTO no_such_table VALUES (1);");
    broken.checksum = vec![1].into();
    let mut connection = Direct::to(folder.path(), &settings).await;

    let migrations = kind.migrations().iter().cloned().chain([broken]).collect();
    assert!(connection.migrate(Migrator::with_migrations(migrations)).await.is_err());
    connection.close().await;

    let store = open_with(folder.path(), &settings).await.unwrap();
    assert_eq!(store.event_count().await.unwrap(), 2);
    let text = match kind {
        Kind::Sqlite => "SELECT count(*) FROM pragma_table_info('items') WHERE name = 'half'",
        Kind::Postgres => "SELECT count(*) FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'half'",
    };
    let columns = query(text).fetch_one(store.readers()).await.unwrap();
    assert_eq!(columns.get::<i64>(0).unwrap(), 0);
}
