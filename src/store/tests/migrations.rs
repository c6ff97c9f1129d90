//! From every earlier version to this one, with rows: grows by itself with `migrations/`.
//!
//! `rows/NNNN.sql` holds rows as a program with migration N wrote them. Each version is reached as it was in life: its migration, then rows of its time.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection, migrate::Migrator};

use super::*;
use crate::{
    domain::{Actor, RecommendationId, Revision, UserId},
    store::database::SQLITE_MIGRATIONS as MIGRATIONS,
};

/// The rows of migration N, if that one brought any of its own.
fn rows_of(version: i64) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/store/tests/rows/{version:04}.sql"));
    std::fs::read_to_string(path).ok()
}

async fn connection(folder: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(folder.join("inkling.db")).create_if_missing(true).connect().await.unwrap()
}

/// A database as a program with migrations up to `version` left it.
async fn of_version(version: i64, folder: &Path) {
    let mut connection = connection(folder).await;
    for reached in MIGRATIONS.iter().map(|migration| migration.version).filter(|reached| *reached <= version) {
        let known = MIGRATIONS.iter().filter(|migration| migration.version <= reached).cloned().collect();
        Migrator::with_migrations(known).run(&mut connection).await.unwrap();
        if let Some(rows) = rows_of(reached) {
            sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
        }
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_database_of_every_earlier_version_is_brought_up_to_date_with_its_rows() {
    assert!(rows_of(1).is_some());
    for version in MIGRATIONS.iter().map(|migration| migration.version) {
        let folder = tempfile::tempdir().unwrap();
        of_version(version, folder.path()).await;

        let store = open(folder.path()).await.unwrap_or_else(|error| panic!("from version {version}: {error}"));

        assert_eq!(store.catalogue_id(), "0199a000-0000-7000-8000-000000000001", "from version {version}");
        let tent = store.item(&id("old/tent")).await.unwrap().unwrap();
        assert_eq!((tent.key.0, tent.revision, tent.item.price), (0, Revision(1), Some(12.5)));
        assert_eq!(store.item_counts().await.unwrap(), ItemCounts { live: 1, deleted: 1 });
        let events = store.events_after(0, 10).await.unwrap();
        assert_eq!(events.iter().map(|logged| (logged.sequence, logged.at())).collect::<Vec<_>>(), [(1, at(1_000)), (4, at(2_000))]);
        assert_eq!(store.recent_events(&Actor::User(UserId::new("u").unwrap()), 10).await.unwrap().len(), 2);
        assert_eq!(store.exposure(&RecommendationId::new("r").unwrap()).await.unwrap().unwrap().items.len(), 1);
        // It goes on where the old one stopped.
        assert!(matches!(store.put_items(vec![item("new", json!({"attributes": {"brand": 3}}))]).await.unwrap()[..], [ItemOutcome::Rejected(_)]));
        assert!(
            matches!(&store.put_items(vec![item("new", json!({}))]).await.unwrap()[..], [ItemOutcome::Created(new)] if new.key.0 == 2 && new.revision.0 == 4)
        );
        assert!(matches!(store.append_events(vec![event(json!({}))], at(1)).await.unwrap()[..], [EventOutcome::Accepted(5)]));
        store.close().await;
    }
}

#[tokio::test]
async fn a_migration_that_fails_half_way_leaves_the_database_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    of_version(MIGRATIONS.iter().map(|migration| migration.version).max().unwrap(), folder.path()).await;
    let last = MIGRATIONS.iter().max_by_key(|migration| migration.version).unwrap();
    let mut broken = last.clone();
    broken.version += 1;
    broken.sql = sqlx::SqlSafeStr::into_sql_str("ALTER TABLE items ADD COLUMN half TEXT; DELETE FROM events; INSERT INTO no_such_table VALUES (1);");
    broken.checksum = vec![1].into();
    let mut connection = connection(folder.path()).await;

    let migrations = MIGRATIONS.iter().cloned().chain([broken]).collect();
    assert!(Migrator::with_migrations(migrations).run(&mut connection).await.is_err());
    connection.close().await.unwrap();

    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.event_count().await.unwrap(), 2);
    let columns = query("SELECT count(*) FROM pragma_table_info('items') WHERE name = 'half'").fetch_one(store.readers()).await.unwrap();
    assert_eq!(columns.get::<i64>(0).unwrap(), 0);
}
