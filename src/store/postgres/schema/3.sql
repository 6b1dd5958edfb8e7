-- Schema 3: documents and locks.

CREATE TABLE goflow.document (
    name bytea NOT NULL PRIMARY KEY,
    rev bigint NOT NULL,
    until bigint,
    body bytea NOT NULL
);
CREATE INDEX document_until ON goflow.document (until) WHERE until IS NOT NULL;
CREATE SEQUENCE goflow.document_rev;

-- Locks: the number of slots of those who hold it now, and the last fence. A trim removes what nobody
-- holds, and raises the floor to its fence in the same transaction.
CREATE TABLE goflow.lock (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    slots int NOT NULL,
    fence bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE goflow.lock_holder (
    name text COLLATE "C" NOT NULL,
    holder uuid NOT NULL,
    about text NOT NULL,
    fence bigint NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (name, holder)
) WITH (fillfactor = 50);
CREATE TABLE goflow.fence_floor (
    lonely boolean PRIMARY KEY DEFAULT true CHECK (lonely),
    fence bigint NOT NULL
);
INSERT INTO goflow.fence_floor (fence) VALUES (0);
