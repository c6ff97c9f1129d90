-- A user's history is read from the index alone, in its order: 235 acts take 0.15 instead of 0.51 ms of SQLite's time, for 10 to 18 %
-- more work an insert and a seventh more disk.
DROP INDEX events_by_user;
CREATE INDEX events_by_user ON events (user_id, at, sequence, kind, item_id, value) WHERE user_id IS NOT NULL;
-- Most events have no words; those that have are found without reading the others.
CREATE INDEX events_with_text ON events (user_id, at) WHERE user_id IS NOT NULL AND text IS NOT NULL;
