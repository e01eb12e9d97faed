-- Renamed columns, states and events: job (the batch job at the service), due, ambiguous, revoke, duplicate job.
-- Claims have an owner and a fencing token, generations are a tree, quota and list passes are rows.

-- How often the database has lost commits.
ALTER TABLE meta ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

-- parent is the generation whose lines are asked again; generation counts the descendants of a shard as made.
ALTER TABLE shards ADD COLUMN cause TEXT CHECK (cause IN ('retry', 'capacity', 'expiry', 'bisect'));
ALTER TABLE shards ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
UPDATE shards SET parent = NULL WHERE generation = 0;
UPDATE shards SET parent = generation - 1, cause = 'retry', depth = generation WHERE generation > 0;

-- Times are Unix seconds by this machine's clock; tally is JSON. owner is a node, 0 the process that holds the file.
-- version counts the events of the row; fence, its fencing token, never decreases.
CREATE TABLE new_jobs (
    run             TEXT NOT NULL,
    shard           INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'sealed', 'uploading', 'finalizing', 'uploaded', 'create_intent', 'reconciling', 'revoke_intent',
        'revoked', 'submitted', 'ended', 'landed', 'closed', 'quarantined'
    )),
    attempt         INTEGER NOT NULL DEFAULT 0,
    version         INTEGER NOT NULL DEFAULT 0,
    owner           INTEGER,
    fence           INTEGER NOT NULL DEFAULT 0,
    due             REAL NOT NULL DEFAULT 0,
    epoch           INTEGER NOT NULL DEFAULT 0,
    file            TEXT UNIQUE,
    file_expires_at REAL,
    tag             TEXT,
    intent_at       REAL,
    ambiguous_at    REAL,
    job             TEXT UNIQUE,
    submitted_at    REAL,
    result          TEXT,
    reason          TEXT,
    tally           TEXT,
    PRIMARY KEY (run, shard, generation),
    FOREIGN KEY (run, shard, generation) REFERENCES shards (run, shard, generation)
) STRICT;

INSERT INTO new_jobs
SELECT
    run, shard, generation,
    CASE state WHEN 'fence_intent' THEN 'revoke_intent' WHEN 'fenced' THEN 'revoked' ELSE state END,
    attempt,
    (SELECT count(*) FROM events WHERE events.run = jobs.run AND events.shard = jobs.shard
        AND events.generation = jobs.generation),
    NULL, fence, not_before, 0, file, file_expires_at, tag, intent_at, doubtful_at, batch, submitted_at, result, reason,
    tally
FROM jobs;

CREATE TABLE new_sessions (
    run        TEXT NOT NULL,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    upload     TEXT NOT NULL,
    PRIMARY KEY (run, shard, generation),
    FOREIGN KEY (run, shard, generation) REFERENCES jobs (run, shard, generation)
) STRICT, WITHOUT ROWID;

-- Fields of an upload that were renamed.
INSERT INTO new_sessions
SELECT run, shard, generation, replace(upload, '"doubtful":', '"offset_unknown":') FROM sessions;

CREATE TABLE new_events (
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
    -- Who wrote it under which claim; NULL and 0 before this schema.
    node       INTEGER,
    fence      INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (run, shard, generation) REFERENCES jobs (run, shard, generation)
) STRICT;

INSERT INTO new_events
SELECT
    number, run, shard, generation, at, attempt,
    CASE event
        WHEN 'FileSpoiled' THEN 'FileUnusable'
        WHEN 'CreateWithdrawn' THEN 'CreateDeferred'
        WHEN 'CreateRefused' THEN 'CreateRejected'
        WHEN 'CreateDoubtful' THEN 'CreateAmbiguous'
        WHEN 'Suspected' THEN 'CreateSuspected'
        WHEN 'JobKnown' THEN 'JobAdopted'
        WHEN 'FenceIntended' THEN 'RevokeIntended'
        WHEN 'Fenced' THEN 'Revoked'
        WHEN 'Readopted' THEN 'JobKept'
        ELSE event
    END,
    CASE before WHEN 'fence_intent' THEN 'revoke_intent' WHEN 'fenced' THEN 'revoked' ELSE before END,
    CASE after WHEN 'fence_intent' THEN 'revoke_intent' WHEN 'fenced' THEN 'revoked' ELSE after END,
    -- A quote inside a value is escaped, so that these are names of members.
    replace(replace(replace(detail, '"batch":', '"job":'), '"doubtful_at":', '"ambiguous_at":'), '"not_before":', '"due":'),
    NULL, 0
FROM events;

DROP TABLE sessions;
DROP TABLE events;
DROP TABLE jobs;
ALTER TABLE new_jobs RENAME TO jobs;
ALTER TABLE new_sessions RENAME TO sessions;
ALTER TABLE new_events RENAME TO events;

CREATE INDEX jobs_by_state ON jobs (run, state, shard, generation, owner, due);
CREATE INDEX events_of_shards ON events (run, shard);

UPDATE totals SET what = 'revoke_intent' WHERE what = 'fence_intent';
UPDATE totals SET what = 'revoked' WHERE what = 'fenced';
UPDATE totals SET what = 'JobAdopted' WHERE what = 'JobKnown';

CREATE TRIGGER job_entered AFTER INSERT ON jobs BEGIN
    INSERT INTO totals SELECT run, new.state, 1, bytes, lines FROM shards
    WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

CREATE TRIGGER job_moved AFTER UPDATE OF state ON jobs WHEN new.state != old.state BEGIN
    INSERT INTO totals SELECT run, new.state, 1, bytes, lines FROM shards
    WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
    INSERT INTO totals SELECT run, old.state, -1, -bytes, -lines FROM shards
    WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ON CONFLICT DO UPDATE SET count = count - 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

CREATE TRIGGER milestone AFTER INSERT ON events WHEN new.event IN ('FileReady', 'JobAdopted', 'ResultLost') BEGIN
    INSERT INTO totals SELECT run, new.event, 1, bytes, lines FROM shards
    WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

-- Where a generation is in the tree of its shard: siblings counts itself.
CREATE VIEW tree AS
SELECT
    run, shard, generation, parent, lines,
    (SELECT count(*) FROM shards AS other
        WHERE other.run = own.run AND other.shard = own.shard AND other.parent = own.parent) AS siblings,
    (SELECT count(*) FROM shards AS other
        WHERE other.run = own.run AND other.shard = own.shard AND other.parent = own.generation) AS children
FROM shards AS own;

-- See generations.total: an only child's tally covers what its parent's covers, and takes its place; siblings cover
-- their own lines, which are failed lines of their parent until then. Children are sealed before their parent's tally.
CREATE TRIGGER job_tallied AFTER UPDATE OF tally ON jobs WHEN new.tally IS NOT NULL BEGIN
    INSERT INTO tallies SELECT new.run, key, value FROM json_each(new.tally)
    WHERE type = 'integer' AND NOT (key = 'missing' AND (
        SELECT children > 1 FROM tree
        WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ))
    ON CONFLICT DO UPDATE SET count = count + excluded.count;
    INSERT INTO tallies SELECT new.run, key, -value FROM json_each((
        SELECT jobs.tally FROM jobs JOIN tree ON jobs.generation = tree.parent
        WHERE jobs.run = new.run AND jobs.shard = new.shard AND tree.run = new.run AND tree.shard = new.shard
            AND tree.generation = new.generation AND siblings = 1
    )) WHERE type = 'integer'
    ON CONFLICT DO UPDATE SET count = count + excluded.count;
    INSERT INTO tallies SELECT run, value, -lines FROM tree, json_each('["failed", "again"]')
    WHERE run = new.run AND shard = new.shard AND generation = new.generation AND siblings > 1
    ON CONFLICT DO UPDATE SET count = count + excluded.count;
END;

-- Lines that were sent again; those of a shard that the service refused for its size had not been sent.
DROP TRIGGER shard_again;
CREATE TRIGGER shard_again AFTER INSERT ON shards WHEN new.cause != 'capacity' BEGIN
    INSERT INTO totals VALUES (new.run, 'again', 1, new.bytes, new.lines)
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

-- Nodes that claim rows beside the process that holds the file. A node that is gone comes no more.
CREATE TABLE nodes (
    node        INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL,
    started_at  REAL NOT NULL,
    lease_until REAL NOT NULL,
    gone_at     REAL
) STRICT;

-- Readings of the service's list of jobs. control_at is when the latest job was made that had to be on it.
CREATE TABLE passes (
    number     INTEGER PRIMARY KEY,
    run        TEXT NOT NULL REFERENCES runs (id),
    began_at   REAL NOT NULL,
    ended_at   REAL NOT NULL,
    valid      INTEGER NOT NULL CHECK (valid IN (0, 1)),
    control_at REAL
) STRICT;

CREATE INDEX passes_by_begin ON passes (run, began_at);

-- What a service lets us hold, and how much is reserved: the sum of the reservations.
CREATE TABLE quota (
    service TEXT NOT NULL,
    what    TEXT NOT NULL,
    used    INTEGER NOT NULL DEFAULT 0,
    most    INTEGER NOT NULL,
    PRIMARY KEY (service, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    run        TEXT NOT NULL,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    service    TEXT NOT NULL,
    what       TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (run, shard, generation, service, what),
    FOREIGN KEY (run, shard, generation) REFERENCES jobs (run, shard, generation),
    FOREIGN KEY (service, what) REFERENCES quota (service, what)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER reserved AFTER INSERT ON reservations BEGIN
    UPDATE quota SET used = used + new.amount WHERE service = new.service AND what = new.what;
END;

CREATE TRIGGER reserved_more AFTER UPDATE OF amount ON reservations BEGIN
    UPDATE quota SET used = used + new.amount - old.amount WHERE service = new.service AND what = new.what;
END;

CREATE TRIGGER freed AFTER DELETE ON reservations BEGIN
    UPDATE quota SET used = used - old.amount WHERE service = old.service AND what = old.what;
END;

CREATE TABLE duplicate_jobs (
    run        TEXT NOT NULL REFERENCES runs (id),
    job        TEXT NOT NULL UNIQUE,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('seen', 'cancelling', 'cancelled', 'ended')),
    PRIMARY KEY (run, job)
) STRICT, WITHOUT ROWID;

INSERT INTO duplicate_jobs SELECT * FROM extras;
DROP TABLE extras;

ALTER TABLE meta RENAME COLUMN key_mark TO credential;
