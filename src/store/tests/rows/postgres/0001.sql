-- Rows as a program with migration 1 wrote them.
INSERT INTO meta (name, value) VALUES ('catalogue_id', '0199a000-0000-7000-8000-000000000001');
INSERT INTO items (key, item_id, revision, deleted, content_hash, document) VALUES
    (0, 'old/tent', 1, 0, decode(repeat('00', 32), 'hex'), '{"item_id":"old/tent","title":"Tent","price":12.5,"available":true,"attributes":{"brand":"Fjell"}}'),
    (1, 'gone', 3, 1, decode(repeat('00', 32), 'hex'), '{"item_id":"gone","title":"Gone","available":true}');
INSERT INTO attribute_types (name, type) VALUES ('brand', 'text');
INSERT INTO events (sequence, event_id, content_hash, kind, user_id, session_id, item_id, recommendation_id, value, text, at) VALUES
    (1, 'e-1', decode(repeat('00', 16), 'hex'), 'click', 'u', NULL, 'old/tent', 'r', NULL, NULL, 1000),
    (4, NULL, NULL, 'rating', 'u', 's', 'old/tent', NULL, 4.5, 'good', 2000);
INSERT INTO exposures (recommendation_id, at, user_id, session_id, scenario, items) VALUES ('r', 900, 'u', NULL, 'home', '[["old/tent",[0.5]]]');
INSERT INTO index_state (collection, flushed_revision) VALUES ('c', 2);
INSERT INTO embeddings (model_version, content_hash, vector) VALUES ('m', decode(repeat('00', 32), 'hex'), '\x0000803F00000000');
UPDATE counters SET next_key = 2, next_revision = 4, next_sequence = 5;
