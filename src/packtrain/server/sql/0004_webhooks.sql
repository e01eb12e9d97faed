-- Registered webhooks and pending deliveries.
-- events is a JSON list of words; secrets one of objects, the newest first.
CREATE TABLE webhook (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL UNIQUE,
    name    TEXT NOT NULL,
    uri     TEXT NOT NULL,
    events  TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('enabled', 'disabled', 'disabled_due_to_failed_deliveries')),
    secrets TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL
);

-- A row is deleted once the receiver has acknowledged the event. Without a webhook, the job named the address.
CREATE TABLE delivery (
    id       TEXT PRIMARY KEY,
    webhook  TEXT,
    uri      TEXT NOT NULL,
    body     BLOB NOT NULL,
    created  REAL NOT NULL,
    due      REAL NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX delivery_due ON delivery (due);
CREATE TRIGGER webhook_gone AFTER DELETE ON webhook
    BEGIN DELETE FROM delivery WHERE webhook = OLD.id; END;

-- The key that signs the events of jobs, created with the first of them.
CREATE TABLE signing_key (
    id  TEXT PRIMARY KEY,
    pem BLOB NOT NULL
);

-- JSON; empty for a job without a webhook configuration.
ALTER TABLE job ADD COLUMN webhooks TEXT NOT NULL DEFAULT '';
