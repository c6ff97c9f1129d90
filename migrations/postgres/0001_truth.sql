-- The durable truth. Times are milliseconds since 1970 (UTC), documents are JSON text. The same tables and columns as in SQLite, so that
-- most statements are written once; what Postgres alone needs is said where it stands. Texts compare by bytes (COLLATE "C") as SQLite's do.

-- Facts about this database; catalogue_id tells its artefacts from those of another one.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- The numbers that come next, in one row that every write locks until it is committed: numbers then become visible in their order,
-- whatever replica gives them, and a reader never passes one that is still to come.
CREATE TABLE counters (
    only_row      BOOLEAN NOT NULL PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    next_key      BIGINT  NOT NULL,
    next_revision BIGINT  NOT NULL,
    next_sequence BIGINT  NOT NULL
) WITH (fillfactor = 50); -- updated by every commit: room for the next versions on the same page
INSERT INTO counters (next_key, next_revision, next_sequence) VALUES (0, 1, 1);

-- One row an item for ever: a deleted item is a tombstone, so that its key is never given to another and the index learns of the deletion.
CREATE TABLE items (
    key          BIGINT NOT NULL PRIMARY KEY,             -- 0, 1, 2, …: the point id in the index, the row of the item columns
    item_id      TEXT   COLLATE "C" NOT NULL UNIQUE,
    revision     BIGINT NOT NULL,
    deleted      BIGINT NOT NULL,                         -- 0 or 1
    content_hash BYTEA  NOT NULL,                         -- SHA-256 of the full text: says which embedding is the item's
    document     TEXT   NOT NULL                          -- the item as the shop wrote it, own vectors included
);
CREATE UNIQUE INDEX items_by_revision ON items (revision);
CREATE INDEX items_deleted ON items (revision) WHERE deleted = 1; -- counts tombstones without reading documents

-- An attribute's name keeps its first type: filters and the index rely on it.
CREATE TABLE attribute_types (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    type TEXT NOT NULL
);

CREATE TABLE events (
    sequence          BIGINT NOT NULL PRIMARY KEY,
    event_id          TEXT   COLLATE "C" UNIQUE,
    content_hash      BYTEA,                              -- of what the caller sent; present with event_id: tells a retry from a reuse
    kind              TEXT   NOT NULL,
    user_id           TEXT   COLLATE "C",
    session_id        TEXT   COLLATE "C",
    item_id           TEXT   COLLATE "C",                 -- no foreign key: an item that is not (yet) in the catalogue is accepted
    recommendation_id TEXT   COLLATE "C",
    value             DOUBLE PRECISION,
    text              TEXT,                               -- U+0000, which Postgres cannot hold, as \0, and \ as \\
    at                BIGINT NOT NULL
);
CREATE INDEX events_by_user ON events (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX events_by_session ON events (session_id, at) WHERE session_id IS NOT NULL;

-- What answers showed; items is [[item_id, [feature, …]], …] from the top.
CREATE TABLE exposures (
    recommendation_id TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    at                BIGINT NOT NULL,
    user_id           TEXT   COLLATE "C",
    session_id        TEXT   COLLATE "C",
    scenario          TEXT   NOT NULL,
    items             TEXT   NOT NULL
);

-- How far an index collection is safely written; items above are pending.
CREATE TABLE index_state (
    collection       TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    flushed_revision BIGINT NOT NULL
);

-- What was encoded once: little-endian f32 components of unit length.
CREATE TABLE embeddings (
    model_version TEXT  COLLATE "C" NOT NULL,
    content_hash  BYTEA NOT NULL,
    vector        BYTEA NOT NULL,
    PRIMARY KEY (model_version, content_hash)
);
