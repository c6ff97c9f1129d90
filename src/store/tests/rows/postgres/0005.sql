-- Rows as a program with migration 5 wrote them.
INSERT INTO rules (name, document) VALUES ('sale', '{"name":"sale","boost":{"filter":{"tags":"sale"},"factor":2.0}}');
UPDATE rules_revision SET revision = 1;
