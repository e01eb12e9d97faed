-- Answers that were gone before they came, for the statistics.
CREATE INDEX losses ON events (run, shard, generation) WHERE event = 'ResultLost';
