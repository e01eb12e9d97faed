-- The first schema. One script is one transaction, together with the number of the schema.

-- Who this manifest is. The 8 hex digits stand in the display name of every input file.
CREATE TABLE meta (
    instance TEXT NOT NULL CHECK (length(instance) = 8),
    created  TEXT NOT NULL
) STRICT;

INSERT INTO meta (instance, created) VALUES (lower(hex(randomblob(4))), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));

-- In the order in which they were opened. limits and cursor are JSON; sha256 is that of the published output.
CREATE TABLE runs (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    token       TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    model       TEXT NOT NULL,
    task        TEXT NOT NULL,
    limits      TEXT NOT NULL,
    joined      INTEGER NOT NULL CHECK (joined IN (0, 1)),
    cursor      TEXT NOT NULL,
    sha256      TEXT
) STRICT;

-- Inputs as they were first seen. A name is bytes, because file names need not be Unicode.
CREATE TABLE sources (
    run      TEXT NOT NULL REFERENCES runs (id),
    position INTEGER NOT NULL,
    name     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE shards (
    run        TEXT NOT NULL REFERENCES runs (id),
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    parent     INTEGER,
    bytes      INTEGER NOT NULL,
    lines      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    PRIMARY KEY (run, shard, generation)
) STRICT, WITHOUT ROWID;

-- Times are Unix seconds; tally is JSON. A claim dies with the handle, the fence never goes back.
CREATE TABLE jobs (
    run             TEXT NOT NULL,
    shard           INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'sealed', 'uploading', 'finalizing', 'uploaded', 'create_intent', 'reconciling', 'fence_intent',
        'fenced', 'submitted', 'ended', 'landed', 'closed', 'quarantined'
    )),
    attempt         INTEGER NOT NULL DEFAULT 0,
    fence           INTEGER NOT NULL DEFAULT 0,
    claimed         INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),
    not_before      REAL NOT NULL DEFAULT 0,
    file            TEXT UNIQUE,
    file_expires_at REAL,
    tag             TEXT,
    intent_at       REAL,
    doubtful_at     REAL,
    batch           TEXT UNIQUE,
    submitted_at    REAL,
    result          TEXT,
    reason          TEXT,
    tally           TEXT,
    PRIMARY KEY (run, shard, generation),
    FOREIGN KEY (run, shard, generation) REFERENCES shards (run, shard, generation)
) STRICT;

-- What a claim looks through: each state in the order of its shards.
CREATE INDEX free_jobs ON jobs (run, state, shard, generation, not_before) WHERE claimed = 0;

-- Upload sessions, as JSON. Whoever knows one can write, so they stand apart and go when the file stands.
CREATE TABLE sessions (
    run        TEXT NOT NULL,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    upload     TEXT NOT NULL,
    PRIMARY KEY (run, shard, generation),
    FOREIGN KEY (run, shard, generation) REFERENCES jobs (run, shard, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    number     INTEGER PRIMARY KEY,
    run        TEXT NOT NULL,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    at         REAL NOT NULL,
    attempt    INTEGER NOT NULL,
    event      TEXT NOT NULL,
    before     TEXT NOT NULL,
    after      TEXT NOT NULL,
    detail     TEXT NOT NULL,
    FOREIGN KEY (run, shard, generation) REFERENCES jobs (run, shard, generation)
) STRICT;

CREATE INDEX events_of_shards ON events (run, shard);

-- What the statistics count: files that came to stand at the service, and jobs.
CREATE INDEX milestones ON events (run, event, shard, generation) WHERE event IN ('FileReady', 'JobKnown');
