-- Which file on which machine this manifest is, as JSON; NULL until its first start. The salted digest of the key
-- that it was driven with, as JSON.
ALTER TABLE meta ADD COLUMN identity TEXT;
ALTER TABLE meta ADD COLUMN key_mark TEXT;

-- The instances that this manifest was, before a person took over the copy.
CREATE TABLE ancestors (
    instance TEXT PRIMARY KEY CHECK (length(instance) = 8),
    left_at  REAL NOT NULL
) STRICT;

-- Runs of which this manifest may have forgotten jobs: every shard sealed from now on counts as in doubt.
ALTER TABLE runs ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0 CHECK (recovered IN (0, 1));
