-- Who is who, and who is to be forgotten.

-- A session or a user that was merged into a user. Never a chain: user_id is nobody's alias.
CREATE TABLE aliases (
    kind    TEXT   COLLATE "C" NOT NULL, -- 'user' or 'session'
    name    TEXT   COLLATE "C" NOT NULL,
    user_id TEXT   COLLATE "C" NOT NULL,
    number  BIGINT NOT NULL,             -- of the change that made it so; grows in the order of commits
    at      BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX aliases_by_user ON aliases (user_id, kind);
CREATE INDEX aliases_by_number ON aliases (number);

-- What was erased, by keyed hash: tells a late retry from something new. No name can be read from it.
CREATE TABLE erased (
    mark   BYTEA  NOT NULL PRIMARY KEY, -- HMAC-SHA256 of a user, a session or an event_id, its first 16 bytes
    at     BIGINT NOT NULL,             -- the time of erasure; of a person, what happened up to then does not come back
    number BIGINT NOT NULL              -- of the erasure; grows in the order of commits
);
CREATE INDEX erased_by_number ON erased (number);

-- The numbers of the next merge and the next erasure: while they are 1, nobody needs to be looked up.
ALTER TABLE counters ADD COLUMN next_merge BIGINT NOT NULL DEFAULT 1;
ALTER TABLE counters ADD COLUMN next_erasure BIGINT NOT NULL DEFAULT 1;

-- All of a person's exposures are to be found when they are moved, read or erased.
CREATE INDEX exposures_by_user ON exposures (user_id, recommendation_id) WHERE user_id IS NOT NULL;
CREATE INDEX exposures_by_session ON exposures (session_id, recommendation_id) WHERE session_id IS NOT NULL;

-- ANALYZE copies frequent values into pg_statistic, where an erasure does not reach them: not those of people. Statements name
-- columns that have an index in the order that is asked for, so the planner does without.
ALTER TABLE events
    ALTER COLUMN event_id SET STATISTICS 0,
    ALTER COLUMN user_id SET STATISTICS 0,
    ALTER COLUMN session_id SET STATISTICS 0,
    ALTER COLUMN recommendation_id SET STATISTICS 0,
    ALTER COLUMN text SET STATISTICS 0,
    ALTER COLUMN content_hash SET STATISTICS 0;
ALTER TABLE exposures
    ALTER COLUMN recommendation_id SET STATISTICS 0,
    ALTER COLUMN user_id SET STATISTICS 0,
    ALTER COLUMN session_id SET STATISTICS 0,
    ALTER COLUMN items SET STATISTICS 0;
ALTER TABLE aliases
    ALTER COLUMN name SET STATISTICS 0,
    ALTER COLUMN user_id SET STATISTICS 0;
