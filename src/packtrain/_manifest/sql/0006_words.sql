-- Renamed columns, states and events: job (the batch job at the service), due, ambiguous, revoke, duplicate job.

CREATE TABLE new_jobs (
    run             TEXT NOT NULL,
    shard           INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'sealed', 'uploading', 'finalizing', 'uploaded', 'create_intent', 'reconciling', 'revoke_intent',
        'revoked', 'submitted', 'ended', 'landed', 'closed', 'quarantined'
    )),
    attempt         INTEGER NOT NULL DEFAULT 0,
    fence           INTEGER NOT NULL DEFAULT 0,
    claimed         INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),
    due             REAL NOT NULL DEFAULT 0,
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
    attempt, fence, claimed, not_before, file, file_expires_at, tag, intent_at, doubtful_at, batch, submitted_at,
    result, reason, tally
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
    replace(replace(replace(detail, '"batch":', '"job":'), '"doubtful_at":', '"ambiguous_at":'), '"not_before":', '"due":')
FROM events;

DROP TABLE sessions;
DROP TABLE events;
DROP TABLE jobs;
ALTER TABLE new_jobs RENAME TO jobs;
ALTER TABLE new_sessions RENAME TO sessions;
ALTER TABLE new_events RENAME TO events;

CREATE INDEX jobs_by_state ON jobs (run, state, shard, generation, claimed, due);
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

CREATE TRIGGER job_tallied AFTER UPDATE OF tally ON jobs WHEN new.tally IS NOT NULL BEGIN
    INSERT INTO tallies SELECT new.run, key, value FROM json_each(new.tally) WHERE type = 'integer'
    ON CONFLICT DO UPDATE SET count = count + excluded.count;
    INSERT INTO tallies SELECT new.run, key, -value FROM json_each((
        SELECT tally FROM jobs
        WHERE run = new.run AND shard = new.shard AND generation < new.generation AND tally IS NOT NULL
        ORDER BY generation DESC LIMIT 1
    )) WHERE type = 'integer'
    ON CONFLICT DO UPDATE SET count = count + excluded.count;
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
