-- Who does what only one process at a time may do, such as writing a shared index. Times are those of the database's clock.
CREATE TABLE leases (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    epoch      BIGINT NOT NULL, -- grows with every change of holder: what an old one still writes is refused
    expires_at BIGINT NOT NULL
);
