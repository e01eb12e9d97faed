-- A digest of the columns of each row that decides; see digests.py. row_digest is a function of ours.

ALTER TABLE runs ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET digest = row_digest(
    id, token, fingerprint, model, task, limits, joined, recovered, cursor, sha256
);

ALTER TABLE sources ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE sources SET digest = row_digest(
    run, position, name, size, mtime_ns
);

ALTER TABLE shards ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE shards SET digest = row_digest(
    run, shard, generation, parent, cause, depth, bytes, lines, sha256, first, last
);

ALTER TABLE jobs ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET digest = row_digest(
    run, shard, generation, state, attempt, version, epoch, file, file_expires_at, tag, intent_at,
    ambiguous_at, job, submitted_at, result, reason, tally
);

ALTER TABLE sessions ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET digest = row_digest(
    run, shard, generation, upload
);

ALTER TABLE events ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE events SET digest = row_digest(
    run, shard, generation, at, attempt, event, before, after, detail, node, fence
);

ALTER TABLE duplicate_jobs ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE duplicate_jobs SET digest = row_digest(
    run, job, shard, generation, attempt, state
);
