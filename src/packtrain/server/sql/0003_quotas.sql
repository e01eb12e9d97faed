-- How large a job's input is: what counts against the tokens that a model may have enqueued.
BEGIN;
ALTER TABLE job ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 3;
COMMIT;
