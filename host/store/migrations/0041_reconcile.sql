-- What was last decided about each branch, tag and merge request; none: it is gone or closed.
CREATE TABLE heads (
    instance TEXT NOT NULL,
    project INTEGER NOT NULL,
    subject TEXT NOT NULL,
    head TEXT,
    known_at INTEGER NOT NULL,
    PRIMARY KEY (instance, project, subject)
) STRICT, WITHOUT ROWID;

-- How far something was looked through.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    noted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which process does what only one may do.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Comments that deliveries told of.
CREATE INDEX deliveries_notes ON deliveries (instance, project, subject) WHERE kind = 'note';
