-- What the statistics count, kept as it happens, so that a look at a run costs the same however many shards it has.

-- Jobs in each state, events that people ask about, and shards of a later generation; with their bytes and lines.
CREATE TABLE totals (
    run   TEXT NOT NULL REFERENCES runs (id),
    what  TEXT NOT NULL,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    PRIMARY KEY (run, what)
) STRICT, WITHOUT ROWID;

-- Sums over the tally of the latest generation of each shard that has one.
CREATE TABLE tallies (
    run   TEXT NOT NULL REFERENCES runs (id),
    what  TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, what)
) STRICT, WITHOUT ROWID;

INSERT INTO totals
SELECT run, state, count(*), sum(bytes), sum(lines) FROM jobs JOIN shards USING (run, shard, generation)
GROUP BY run, state
UNION ALL
SELECT run, event, count(*), sum(bytes), sum(lines) FROM events JOIN shards USING (run, shard, generation)
WHERE event IN ('FileReady', 'JobKnown', 'ResultLost') GROUP BY run, event
UNION ALL
SELECT run, 'again', count(*), sum(bytes), sum(lines) FROM shards WHERE generation > 0 GROUP BY run;

INSERT INTO tallies
SELECT run, key, sum(value) FROM jobs, json_each(tally)
WHERE type = 'integer' AND NOT EXISTS (
    SELECT 1 FROM jobs AS later WHERE later.run = jobs.run AND later.shard = jobs.shard
        AND later.generation > jobs.generation AND later.tally IS NOT NULL
)
GROUP BY run, key;

CREATE TRIGGER shard_again AFTER INSERT ON shards WHEN new.generation > 0 BEGIN
    INSERT INTO totals VALUES (new.run, 'again', 1, new.bytes, new.lines)
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

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

CREATE TRIGGER milestone AFTER INSERT ON events WHEN new.event IN ('FileReady', 'JobKnown', 'ResultLost') BEGIN
    INSERT INTO totals SELECT run, new.event, 1, bytes, lines FROM shards
    WHERE run = new.run AND shard = new.shard AND generation = new.generation
    ON CONFLICT DO UPDATE SET count = count + 1, bytes = bytes + excluded.bytes, lines = lines + excluded.lines;
END;

-- A later generation's tally covers the whole shard, and takes the place of the one before.
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

DROP INDEX milestones;
DROP INDEX losses;

-- Jobs in a state, for a claim and for whoever looks at them: each state in the order of its shards.
DROP INDEX free_jobs;
CREATE INDEX jobs_by_state ON jobs (run, state, shard, generation, claimed, not_before);
