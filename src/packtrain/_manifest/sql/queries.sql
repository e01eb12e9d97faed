-- {jobs} is the digest of a row of that table (see digests.py), {jobs.} of columns with the table before them, {:jobs} of
-- parameters named as the columns; what follows, as in {runs: cursor=:value}, takes the place of these columns.

-- instance --
-- The name of this manifest.
SELECT instance FROM meta;

-- leave_instance --
-- Go on under another name, with any key.
UPDATE meta SET instance = ?, credential = NULL;

-- insert_ancestor --
-- Keep the name that is left.
INSERT INTO ancestors (instance, left_at) SELECT instance, ? FROM meta;

-- doubt_runs --
-- Shards that are sealed from now on may have a job already.
UPDATE runs SET recovered = 1, digest = {runs: recovered=1};

-- identity --
-- The file and machine at the last start, as JSON.
SELECT identity FROM meta;

-- set_identity --
UPDATE meta SET identity = ?;

-- credential --
SELECT credential FROM meta;

-- set_credential --
UPDATE meta SET credential = ?;

-- last_event --
-- How far the history goes.
SELECT ifnull(max(number), 0) FROM events;

-- insert_run --
INSERT INTO runs (id, token, fingerprint, model, task, limits, joined, recovered, cursor, digest)
VALUES (:id, :token, :fingerprint, :model, :task, :limits, :join, :recovered, :cursor, {:runs: joined=:join, sha256=NULL});

-- runs --
-- One run, or with NULL all, in the order in which they were opened.
SELECT id, token, fingerprint, model, task, limits, joined AS "join", recovered, digest = {runs} AS sound FROM runs
WHERE ?1 IS NULL OR id = ?1 ORDER BY number;

-- cursor --
SELECT cursor, digest = {runs} FROM runs WHERE id = ?;

-- set_cursor --
UPDATE runs SET cursor = :value, digest = {runs: cursor=:value} WHERE id = :run;

-- published --
SELECT sha256, digest = {runs} FROM runs WHERE id = ?;

-- set_published --
UPDATE runs SET sha256 = :value, digest = {runs: sha256=:value} WHERE id = :run;

-- sources --
SELECT name, size, mtime_ns, digest = {sources} FROM sources WHERE run = ? ORDER BY position;

-- delete_sources --
DELETE FROM sources WHERE run = ?;

-- insert_source --
INSERT INTO sources (run, position, name, size, mtime_ns, digest)
VALUES (:run, :position, :name, :size, :mtime_ns, {:sources});

-- insert_shard --
-- No row is inserted when the generation is there already.
INSERT INTO shards (run, shard, generation, parent, cause, depth, bytes, lines, sha256, first, last, digest)
VALUES (
    :run, :index, :generation, :parent, :cause, :depth, :bytes, :lines, :sha256, :first, :last, {:shards: shard=:index}
)
ON CONFLICT DO NOTHING;

-- shard --
SELECT
    run, shard AS "index", generation, parent, cause, depth, bytes, lines, sha256, first, last, digest = {shards} AS sound
FROM shards
WHERE run = ? AND shard = ? AND generation = ?;

-- shards --
SELECT
    run, shard AS "index", generation, parent, cause, depth, bytes, lines, sha256, first, last, digest = {shards} AS sound
FROM shards
WHERE run = ?;

-- insert_job --
INSERT INTO jobs (run, shard, generation, state, epoch, digest)
SELECT
    :run, :index, :generation, :state, epoch,
    {jobs: run=:run, shard=:index, generation=:generation, state=:state, attempt=0, version=0, file=NULL,
    file_expires_at=NULL, tag=NULL, intent_at=NULL, ambiguous_at=NULL, job=NULL, submitted_at=NULL, result=NULL,
    reason=NULL, tally=NULL}
FROM meta;

-- rows --
-- All rows of a run.
SELECT jobs.*, parent, cause, depth, upload,
    jobs.digest = {jobs.} AND (upload IS NULL OR sessions.digest = {sessions.}) AS sound
FROM jobs JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? ORDER BY shard, generation;

-- rows_of_shard --
-- All generations of one shard.
SELECT jobs.*, parent, cause, depth, upload,
    jobs.digest = {jobs.} AND (upload IS NULL OR sessions.digest = {sessions.}) AS sound
FROM jobs JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND shard = ? ORDER BY shard, generation;

-- rows_in --
-- The rows of a run in some states, of which there may be few among many.
SELECT jobs.*, parent, cause, depth, upload,
    jobs.digest = {jobs.} AND (upload IS NULL OR sessions.digest = {sessions.}) AS sound
FROM jobs INDEXED BY jobs_by_state JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND state IN (SELECT value FROM json_each(?)) ORDER BY shard, generation;

-- row --
SELECT jobs.*, parent, cause, depth, upload,
    jobs.digest = {jobs.} AND (upload IS NULL OR sessions.digest = {sessions.}) AS sound
FROM jobs JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND shard = ? AND generation = ?;

-- due --
-- Free rows in one state whose wait is over, or longer than any wait (see retry.is_due): a walk along the index.
SELECT run, shard, generation FROM jobs INDEXED BY jobs_by_state
WHERE run = ?1 AND state = ?2 AND owner IS NULL AND NOT (due > ?3 AND due <= ?4)
ORDER BY shard, generation LIMIT ?5;

-- claim --
UPDATE jobs SET owner = ?, fence = fence + 1 WHERE run = ? AND shard = ? AND generation = ?;

-- write --
-- The guarded write of an event; {columns} are those that it sets. No row when it has moved on.
UPDATE jobs SET {columns}, version = version + 1, digest = {digest}
WHERE run = :run AND shard = :shard AND generation = :generation
    AND state = :before AND attempt = :attempt_before AND fence = :fence AND (owner IS NULL OR owner = :owner);

-- release --
-- The guarded write without an event, by any row of the claim.
UPDATE jobs SET owner = iif(:release, NULL, owner), due = ifnull(:due, due)
WHERE run = :run AND shard = :shard AND generation = :generation
    AND fence = :fence AND (owner IS NULL OR owner = :owner);

-- insert_event --
INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail, node, fence, digest)
VALUES (
    :run, :shard, :generation, :at, :attempt_after, :event, :before, :after, :detail, :node, :fence,
    {:events: attempt=:attempt_after}
);

-- event_of_version --
-- The event that brought a row to its next version.
SELECT event, before, fence FROM events WHERE run = ? AND shard = ? AND generation = ? ORDER BY number LIMIT 1 OFFSET ?;

-- save_session --
INSERT INTO sessions (run, shard, generation, upload, digest) VALUES (:run, :shard, :generation, :upload, {:sessions})
ON CONFLICT DO UPDATE SET upload = excluded.upload, digest = excluded.digest;

-- drop_session --
DELETE FROM sessions WHERE run = ? AND shard = ? AND generation = ?;

-- history --
-- Of one shard, or with NULL of all.
SELECT at, shard, generation, attempt, event, before, after, detail, digest = {events} AS sound FROM events
WHERE run = ?1 AND shard BETWEEN ifnull(?2, 0) AND ifnull(?2, 9223372036854775807) ORDER BY number;

-- totals --
SELECT what, count, bytes, lines FROM totals WHERE run = ?;

-- count_totals --
-- What ``totals`` has to hold, by the rows.
SELECT state, count(*), sum(bytes), sum(lines) FROM jobs JOIN shards USING (run, shard, generation)
WHERE run = :run GROUP BY state
UNION ALL
SELECT event, count(*), sum(bytes), sum(lines) FROM events JOIN shards USING (run, shard, generation)
WHERE run = :run AND event IN ('FileReady', 'JobAdopted', 'ResultLost') GROUP BY event
UNION ALL
SELECT 'again', count(*), sum(bytes), sum(lines) FROM shards WHERE run = :run AND cause != 'capacity' HAVING count(*);

-- asked_again --
-- Whether a shard of a run has a further generation.
SELECT 1 FROM shards WHERE run = ? AND generation > 0 LIMIT 1;

-- count_tallies --
-- What ``tallies`` has to hold for a run whose shards have one generation each.
SELECT key, sum(value) FROM jobs, json_each(tally) WHERE run = ? AND type = 'integer' GROUP BY key;

-- count_events --
-- The last number, how many there are, and how many the rows have counted.
SELECT ifnull(max(number), 0), count(*), (SELECT ifnull(sum(version), 0) FROM jobs) FROM events;

-- tallies --
SELECT what, count FROM tallies WHERE run = ?;

-- note_duplicate --
INSERT INTO duplicate_jobs (run, job, shard, generation, attempt, state, digest)
VALUES (:run, :job, :shard, :generation, :attempt, :state, {:duplicate_jobs})
ON CONFLICT DO UPDATE SET
    state = excluded.state, digest = {duplicate_jobs: state=excluded.state};

-- duplicate_jobs --
-- Without those that were adopted after all.
SELECT job, shard, generation, attempt, state, digest = {duplicate_jobs} AS sound FROM duplicate_jobs
WHERE run = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = duplicate_jobs.job) ORDER BY shard, generation, job;

-- count_duplicates --
SELECT state, count(*), sum(ifnull(lines, 0)) FROM duplicate_jobs LEFT JOIN shards USING (run, shard, generation)
WHERE run = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = duplicate_jobs.job) GROUP BY state;

-- insert_node --
INSERT INTO nodes (name, started_at, lease_until) VALUES (?, ?, ?);

-- extend_lease --
-- No row for a node that has none, or whose rows were taken over.
UPDATE nodes SET lease_until = ? WHERE node = ? AND gone_at IS NULL;

-- node --
SELECT 1 FROM nodes WHERE node = ? AND gone_at IS NULL;

-- bury_nodes --
-- Nodes whose lease has run out come no more.
UPDATE nodes SET gone_at = :now WHERE gone_at IS NULL AND lease_until < :now;

-- take_over --
-- Free what these nodes held. due stays: a wait that the service asked for is not cut short.
UPDATE jobs SET owner = NULL, fence = fence + 1 WHERE owner IN (SELECT node FROM nodes WHERE gone_at IS NOT NULL);

-- void_claims --
-- What an earlier handle left claimed.
UPDATE jobs SET owner = NULL, fence = fence + 1 WHERE owner IS NOT NULL;

-- void_leases --
UPDATE nodes SET gone_at = ? WHERE gone_at IS NULL;

-- insert_pass --
INSERT INTO passes (run, began_at, ended_at, valid, control_at)
VALUES (:run, :began_at, :ended_at, :valid, :control_at);

-- passes --
SELECT began_at, ended_at, valid, control_at FROM passes WHERE run = ? AND began_at > ? ORDER BY number;

-- set_quota --
INSERT INTO quota (service, what, most) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET most = excluded.most;

-- quotas --
SELECT service, what, used, most FROM quota WHERE service = ? ORDER BY what;

-- quota --
SELECT service, what, used, most FROM quota WHERE service = ? AND what = ?;

-- reserve --
-- No row when it does not fit. The counter follows the rows of reservations.
INSERT INTO reservations (run, shard, generation, service, what, amount)
SELECT :run, :shard, :generation, service, what, :amount FROM quota
WHERE service = :service AND what = :what AND used + :amount <= most
ON CONFLICT DO UPDATE SET amount = amount + excluded.amount;

-- free --
DELETE FROM reservations WHERE run = :run AND shard = :shard AND generation = :generation;
