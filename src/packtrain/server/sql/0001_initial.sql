-- Files, uploads, jobs and the outbox of the audit log. Times are Unix seconds; blobs are names of files in blobs/.
-- The numbers of files and jobs are never reused: page tokens depend on it.
CREATE TABLE file (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    mime_type    TEXT NOT NULL,
    bytes        INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    created      REAL NOT NULL,
    expires      REAL NOT NULL,
    source       TEXT NOT NULL CHECK (source IN ('UPLOADED', 'GENERATED')),
    blob         TEXT NOT NULL UNIQUE
);
CREATE INDEX file_expires ON file (expires);

CREATE TABLE upload (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    display_name TEXT NOT NULL,
    mime_type    TEXT NOT NULL,
    size         INTEGER,
    created      REAL NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('active', 'final', 'cancelled')),
    blob         TEXT NOT NULL UNIQUE
);
CREATE INDEX upload_name ON upload (name);
CREATE INDEX upload_created ON upload (created);

CREATE TABLE job (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    model        TEXT NOT NULL,
    task         TEXT NOT NULL CHECK (task IN ('generate', 'embed')),
    file         TEXT NOT NULL,
    blob         TEXT NOT NULL,
    state        TEXT NOT NULL
                 CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    cancelling   INTEGER NOT NULL DEFAULT 0,
    requests     INTEGER NOT NULL DEFAULT 0,
    succeeded    INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    created      REAL NOT NULL,
    updated      REAL NOT NULL,
    ended        REAL,
    result       TEXT,
    reason       TEXT NOT NULL DEFAULT '',
    CHECK ((ended IS NULL) = (state IN ('pending', 'running')))
);
CREATE INDEX job_live ON job (seq) WHERE ended IS NULL;
CREATE INDEX job_blob ON job (blob) WHERE ended IS NULL;

-- Blobs in use; all others may be deleted. A live job keeps its input although the file is deleted.
CREATE VIEW held AS
    SELECT blob FROM file
    UNION ALL SELECT blob FROM upload WHERE state = 'active'
    UNION ALL SELECT blob FROM job WHERE ended IS NULL;

-- The newest lines of truth.jsonl and their position in it, written in the transaction of their change.
CREATE TABLE outbox (
    position INTEGER NOT NULL,
    lines    BLOB NOT NULL
);
