-- Who is who, and who is to be forgotten.

-- A session or a user that was merged into a user. Never a chain: user_id is nobody's alias.
CREATE TABLE aliases (
    kind    TEXT   NOT NULL,     -- 'user' or 'session'
    name    TEXT   NOT NULL,
    user_id TEXT   NOT NULL,
    number  BIGINT NOT NULL,     -- of the change that made it so; grows in the order of commits
    at      BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX aliases_by_user ON aliases (user_id, kind);
CREATE INDEX aliases_by_number ON aliases (number);

-- What was erased, by keyed hash: tells a late retry from something new. No name can be read from it.
CREATE TABLE erased (
    mark   BLOB   NOT NULL PRIMARY KEY, -- HMAC-SHA256 of a user, a session or an event_id, its first 16 bytes
    at     BIGINT NOT NULL,             -- the time of erasure; of a person, what happened up to then does not come back
    number BIGINT NOT NULL              -- of the erasure; grows in the order of commits
) WITHOUT ROWID;
CREATE INDEX erased_by_number ON erased (number);

-- All of a person's exposures are to be found when they are moved, read or erased.
CREATE INDEX exposures_by_user ON exposures (user_id, recommendation_id) WHERE user_id IS NOT NULL;
CREATE INDEX exposures_by_session ON exposures (session_id, recommendation_id) WHERE session_id IS NOT NULL;
