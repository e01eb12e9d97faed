-- Uploads under way are counted at every start of one; those that are over may be many more.
BEGIN;
CREATE INDEX upload_active ON upload (created) WHERE state = 'active';
PRAGMA user_version = 6;
COMMIT;
