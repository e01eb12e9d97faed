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
UPDATE runs SET recovered = 1;

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
INSERT INTO runs (id, token, fingerprint, model, task, limits, joined, recovered, cursor)
VALUES (:id, :token, :fingerprint, :model, :task, :limits, :join, :recovered, :cursor);

-- runs --
-- One run, or with NULL all, in the order in which they were opened.
SELECT id, token, fingerprint, model, task, limits, joined AS "join", recovered FROM runs
WHERE ?1 IS NULL OR id = ?1 ORDER BY number;

-- cursor --
SELECT cursor FROM runs WHERE id = ?;

-- set_cursor --
UPDATE runs SET cursor = ? WHERE id = ?;

-- published --
SELECT sha256 FROM runs WHERE id = ?;

-- set_published --
UPDATE runs SET sha256 = ? WHERE id = ?;

-- sources --
SELECT name, size, mtime_ns FROM sources WHERE run = ? ORDER BY position;

-- delete_sources --
DELETE FROM sources WHERE run = ?;

-- insert_source --
INSERT INTO sources (run, position, name, size, mtime_ns) VALUES (?, ?, ?, ?, ?);

-- insert_shard --
-- No row is inserted when the generation is there already.
INSERT INTO shards (run, shard, generation, parent, cause, depth, bytes, lines, sha256, first, last)
VALUES (:run, :index, :generation, :parent, :cause, :depth, :bytes, :lines, :sha256, :first, :last)
ON CONFLICT DO NOTHING;

-- shard --
SELECT run, shard AS "index", generation, parent, cause, depth, bytes, lines, sha256, first, last FROM shards
WHERE run = ? AND shard = ? AND generation = ?;

-- insert_job --
INSERT INTO jobs (run, shard, generation, state, epoch) SELECT :run, :index, :generation, :state, epoch FROM meta;

-- rows --
-- All rows of a run.
SELECT jobs.*, parent, cause, depth, upload
FROM jobs JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? ORDER BY shard, generation;

-- rows_of_shard --
-- All generations of one shard.
SELECT jobs.*, parent, cause, depth, upload
FROM jobs JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND shard = ? ORDER BY shard, generation;

-- rows_in --
-- The rows of a run in some states, of which there may be few among many.
SELECT jobs.*, parent, cause, depth, upload
FROM jobs INDEXED BY jobs_by_state JOIN shards USING (run, shard, generation) LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND state IN (SELECT value FROM json_each(?)) ORDER BY shard, generation;

-- row --
SELECT jobs.*, parent, cause, depth, upload
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
UPDATE jobs SET {columns}, version = version + 1
WHERE run = :run AND shard = :shard AND generation = :generation
    AND state = :before AND attempt = :attempt_before AND fence = :fence AND (owner IS NULL OR owner = :owner);

-- release --
-- The guarded write without an event, by any row of the claim.
UPDATE jobs SET owner = iif(:release, NULL, owner), due = ifnull(:due, due)
WHERE run = :run AND shard = :shard AND generation = :generation
    AND fence = :fence AND (owner IS NULL OR owner = :owner);

-- insert_event --
INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail, node, fence)
VALUES (:run, :shard, :generation, :at, :attempt_after, :event, :before, :after, :detail, :node, :fence);

-- event_of_version --
-- The event that brought a row to its next version.
SELECT event, before, fence FROM events WHERE run = ? AND shard = ? AND generation = ? ORDER BY number LIMIT 1 OFFSET ?;

-- save_session --
INSERT INTO sessions (run, shard, generation, upload) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET upload = excluded.upload;

-- drop_session --
DELETE FROM sessions WHERE run = ? AND shard = ? AND generation = ?;

-- history --
-- Of one shard, or with NULL of all.
SELECT at, shard, generation, attempt, event, before, after, detail FROM events
WHERE run = ?1 AND shard BETWEEN ifnull(?2, 0) AND ifnull(?2, 9223372036854775807) ORDER BY number;

-- totals --
SELECT what, count, bytes, lines FROM totals WHERE run = ?;

-- tallies --
SELECT what, count FROM tallies WHERE run = ?;

-- note_duplicate --
INSERT INTO duplicate_jobs (run, job, shard, generation, attempt, state)
VALUES (:run, :job, :shard, :generation, :attempt, :state) ON CONFLICT DO UPDATE SET state = excluded.state;

-- duplicate_jobs --
-- Without those that were adopted after all.
SELECT job, shard, generation, attempt, state FROM duplicate_jobs
WHERE run = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = duplicate_jobs.job) ORDER BY shard, generation, job;

-- count_duplicates --
SELECT state, count(*) FROM duplicate_jobs
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
