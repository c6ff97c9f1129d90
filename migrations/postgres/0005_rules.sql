-- The rules of merchandisers, as they were written.
CREATE TABLE rules (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
);

-- One row: grows with every change of a rule, so that following them costs a look at one number.
CREATE TABLE rules_revision (
    revision BIGINT NOT NULL
);
INSERT INTO rules_revision (revision) VALUES (0);
