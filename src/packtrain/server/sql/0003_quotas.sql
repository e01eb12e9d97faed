-- Size of a job's input, which counts towards the enqueued tokens of its model.
ALTER TABLE job ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
