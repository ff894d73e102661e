-- Credentials with which runs clone. A token's row is there before GitLab is asked for it, and its value is here, sealed, before a cluster gets it.
CREATE TABLE clone_tokens (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    instance TEXT NOT NULL,
    project INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    gitlab_id INTEGER,
    username TEXT,
    sealed BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    held_until INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    why TEXT,
    UNIQUE (name)
) STRICT;
CREATE INDEX clone_tokens_open ON clone_tokens (instance, project, seq) WHERE state <> 'revoked';

-- Which run's Secret holds which token.
CREATE TABLE clone_uses (
    token INTEGER NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (token, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX clone_uses_by_run ON clone_uses (run);

-- Secrets in clusters. Open: it may be there.
CREATE TABLE clone_secrets (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    cluster TEXT NOT NULL,
    namespace TEXT NOT NULL,
    creator TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    why TEXT,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX clone_secrets_open ON clone_secrets (next_at) WHERE state = 'open';
