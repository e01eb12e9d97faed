-- Data of the OpenAI wire. Rows are deleted with their files and jobs.
CREATE TABLE openai_file (
    name    TEXT PRIMARY KEY,
    purpose TEXT NOT NULL
);
CREATE TRIGGER openai_file_gone AFTER DELETE ON file
    BEGIN DELETE FROM openai_file WHERE name = OLD.name; END;

-- A file of the Gemini wire may be the input of a batch.
CREATE VIEW openai_files AS
    SELECT file.*, coalesce(purpose, CASE source WHEN 'GENERATED' THEN 'batch_output' ELSE 'batch' END) AS purpose
    FROM file LEFT JOIN openai_file USING (name)
    WHERE file.name GLOB 'files/*';

-- metadata and errors are JSON. The times are of states that a job of the Gemini wire does not have.
CREATE TABLE openai_batch (
    name          TEXT PRIMARY KEY,
    endpoint      TEXT NOT NULL,
    metadata      TEXT NOT NULL,
    life          REAL NOT NULL,
    errors        TEXT,
    error_file    TEXT,
    started       REAL,
    finalizing    REAL,
    cancelling_at REAL
);
CREATE TRIGGER openai_batch_gone AFTER DELETE ON job
    BEGIN DELETE FROM openai_batch WHERE name = OLD.name; END;

CREATE VIEW openai_batches AS SELECT * FROM job JOIN openai_batch USING (name);

CREATE TABLE openai_upload (
    id        TEXT PRIMARY KEY,
    filename  TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    purpose   TEXT NOT NULL,
    bytes     INTEGER NOT NULL,
    created   REAL NOT NULL,
    expires   REAL NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('pending', 'completed', 'cancelled')),
    file      TEXT
);
CREATE INDEX openai_upload_expires ON openai_upload (expires) WHERE state = 'pending';

CREATE TABLE openai_part (
    id      TEXT PRIMARY KEY,
    upload  TEXT NOT NULL,
    bytes   INTEGER NOT NULL,
    created REAL NOT NULL,
    blob    TEXT NOT NULL UNIQUE
);
CREATE INDEX openai_part_upload ON openai_part (upload);

DROP VIEW held;
CREATE VIEW held AS
    SELECT blob FROM file
    UNION ALL SELECT blob FROM upload WHERE state = 'active'
    UNION ALL SELECT blob FROM job WHERE ended IS NULL
    UNION ALL SELECT blob FROM openai_part;
