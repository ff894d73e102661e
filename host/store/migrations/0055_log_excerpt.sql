-- The end of a failed step's log, masked and cut, where the place lets logs be shown. It goes when contents go.
ALTER TABLE runs ADD COLUMN log_excerpt TEXT;
CREATE INDEX runs_with_log ON runs (finished_at) WHERE log_excerpt IS NOT NULL;
