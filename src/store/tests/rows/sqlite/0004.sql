-- Rows as a program with migration 4 wrote them. The mark is that of the user "forgotten" under the key.
INSERT INTO meta (name, value) VALUES ('erasure_key', '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');
INSERT INTO aliases (kind, name, user_id, number, at) VALUES ('user', 'old', 'u', 1, 3000), ('session', 's9', 'u', 2, 4000);
INSERT INTO erased (mark, at, number) VALUES (X'96E605FD605E6360B8E571EA19E40E91', 5000, 1);
