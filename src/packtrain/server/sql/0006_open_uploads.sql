-- Every start of an upload counts the active ones, which may be few among many finished ones.
CREATE INDEX upload_active ON upload (created) WHERE state = 'active';
