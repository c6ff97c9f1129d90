-- The durable truth. Numbers (key, revision, sequence) are given by the store's one writer, times are milliseconds since 1970 (UTC),
-- documents are JSON text; nothing here depends on what only SQLite can do, so that the Postgres schema can be the same.

-- Facts about this database; catalogue_id tells its artefacts from those of another one.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row an item for ever: a deleted item is a tombstone, so that its key is never given to another and the index learns of the deletion.
CREATE TABLE items (
    key          INTEGER NOT NULL PRIMARY KEY, -- 0, 1, 2, …: the point id in the index, the row of the item columns
    item_id      TEXT    NOT NULL UNIQUE,
    revision     BIGINT  NOT NULL,
    deleted      BIGINT  NOT NULL,             -- 0 or 1
    content_hash BLOB    NOT NULL,             -- SHA-256 of the full text: says which embedding is the item's
    document     TEXT    NOT NULL              -- the item as the shop wrote it, own vectors included
);
CREATE UNIQUE INDEX items_by_revision ON items (revision);
CREATE INDEX items_deleted ON items (revision) WHERE deleted = 1; -- counts tombstones without reading documents

-- An attribute's name keeps its first type: filters and the index rely on it.
CREATE TABLE attribute_types (
    name TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL
);

CREATE TABLE events (
    sequence          INTEGER NOT NULL PRIMARY KEY,
    event_id          TEXT    UNIQUE,
    content_hash      BLOB,                    -- of what the caller sent; present with event_id: tells a retry from a reuse
    kind              TEXT    NOT NULL,
    user_id           TEXT,
    session_id        TEXT,
    item_id           TEXT,                    -- no foreign key: an item that is not (yet) in the catalogue is accepted
    recommendation_id TEXT,
    value             DOUBLE PRECISION,
    text              TEXT,
    at                BIGINT  NOT NULL
);
CREATE INDEX events_by_user ON events (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX events_by_session ON events (session_id, at) WHERE session_id IS NOT NULL;

-- What answers showed; items is [[item_id, [feature, …]], …] from the top.
CREATE TABLE exposures (
    recommendation_id TEXT   NOT NULL PRIMARY KEY,
    at                BIGINT NOT NULL,
    user_id           TEXT,
    session_id        TEXT,
    scenario          TEXT   NOT NULL,
    items             TEXT   NOT NULL
);

-- How far an index collection is safely written; items above are pending.
CREATE TABLE index_state (
    collection       TEXT   NOT NULL PRIMARY KEY,
    flushed_revision BIGINT NOT NULL
);

-- What was encoded once: little-endian f32 components of unit length.
CREATE TABLE embeddings (
    model_version TEXT NOT NULL,
    content_hash  BLOB NOT NULL,
    vector        BLOB NOT NULL,
    PRIMARY KEY (model_version, content_hash)
);
