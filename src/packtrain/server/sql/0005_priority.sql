-- Pending jobs run by priority, highest first.
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX job_live;
CREATE INDEX job_live ON job (priority DESC, seq) WHERE ended IS NULL;
