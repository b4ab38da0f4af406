CREATE TABLE store (
    format integer NOT NULL,
    about text NOT NULL             -- JSON
);
CREATE TABLE items (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    content bytea,                  -- SHA-256 of the file
    embedding {embedding} NOT NULL,
    metadata jsonb NOT NULL
);
-- Every vector is read by every exact search: it stands in its row, not in a table beside it.
ALTER TABLE items ALTER COLUMN embedding SET STORAGE MAIN;
ALTER TABLE items SET (toast_tuple_target = 8160);
