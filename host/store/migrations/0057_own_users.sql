-- GitLab users that Penstock acts or once acted as: a new token may be another user's.
CREATE TABLE own_users (
    instance TEXT NOT NULL,
    id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (instance, id)
) STRICT, WITHOUT ROWID;
