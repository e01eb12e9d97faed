-- Size of a job's input, which counts towards the enqueued tokens of its model.
BEGIN;
ALTER TABLE job ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 3;
COMMIT;
