-- Jobs at the service that bear a tag of ours and are not the one adopted for their shard. The row that says
-- 'cancelling' is written before the first cancel.
CREATE TABLE extras (
    run        TEXT NOT NULL REFERENCES runs (id),
    batch      TEXT NOT NULL UNIQUE,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('seen', 'cancelling', 'cancelled', 'ended')),
    PRIMARY KEY (run, batch)
) STRICT, WITHOUT ROWID;
