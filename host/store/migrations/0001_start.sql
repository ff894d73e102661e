-- The first tables. Times are milliseconds since 1970; a digest is 32 bytes; an effect's id is 64 hexadecimal digits.

-- SQLite has no sequences; Postgres leaves this empty.
CREATE TABLE sequences (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
-- sequence epochs
-- sequence versions

-- Large things by the sha256 of what they are before packing. A plugin's bytes are kept as long as a decision names them.
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    content BLOB NOT NULL,
    plugin INTEGER NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT;
CREATE INDEX blobs_by_age ON blobs (plugin, touched_at);

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    instance TEXT NOT NULL,
    id TEXT NOT NULL,
    hook TEXT NOT NULL,
    event_header TEXT NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT,
    project INTEGER,
    project_path TEXT,
    lane TEXT NOT NULL,
    subject TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    headers TEXT,
    body BLOB NOT NULL,
    body_size INTEGER NOT NULL,
    received_digest BLOB NOT NULL,
    outcome TEXT NOT NULL,
    routed INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    first_tried_at INTEGER,
    next_at INTEGER,
    why TEXT,
    same_as TEXT,
    UNIQUE (id, instance)
) STRICT;
CREATE INDEX deliveries_by_digest ON deliveries (instance, received_digest);
CREATE INDEX deliveries_to_route ON deliveries (lane, seq) WHERE routed = 0;
CREATE INDEX deliveries_by_outcome ON deliveries (outcome, seq);
CREATE INDEX deliveries_by_body ON deliveries (body) WHERE outcome = 'waiting';

-- Their rows are long: in the order in which they came, so that those of a moment lie side by side, and not by their key.
CREATE TABLE routes (
    instance TEXT NOT NULL,
    delivery TEXT NOT NULL,
    route TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    lane TEXT NOT NULL,
    position INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    tries INTEGER NOT NULL,
    first_tried_at INTEGER,
    next_at INTEGER,
    why TEXT,
    settled_at INTEGER,
    mode TEXT,
    plugin TEXT,
    plugin_digest BLOB,
    summary TEXT,
    record BLOB,
    PRIMARY KEY (instance, delivery, route, attempt)
) STRICT;
CREATE INDEX routes_waiting ON routes (lane, route, seq) WHERE outcome = 'waiting';
CREATE INDEX routes_dead ON routes (seq) WHERE outcome = 'dead';

-- What must stay in order, for each queue: when there is something to do, and who does it. A claim is (owner, epoch, until).
CREATE TABLE lanes (
    queue TEXT NOT NULL,
    lane TEXT NOT NULL,
    tenant TEXT NOT NULL,
    ready_at INTEGER,
    owner TEXT,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    PRIMARY KEY (queue, lane)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_ready ON lanes (queue, tenant, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX lanes_held ON lanes (queue, tenant, until) WHERE owner IS NOT NULL;

-- When each tenant was last drawn: an epoch.
CREATE TABLE turns (
    queue TEXT NOT NULL,
    tenant TEXT NOT NULL,
    served INTEGER NOT NULL,
    PRIMARY KEY (queue, tenant)
) STRICT, WITHOUT ROWID;

-- The outbox. A row stays when its effect is done: a tombstone, so that it is never done again.
CREATE TABLE effects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    instance TEXT NOT NULL,
    cluster TEXT NOT NULL,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    project INTEGER NOT NULL,
    lane TEXT NOT NULL,
    overtakes INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    delivery TEXT NOT NULL,
    delivery_seq INTEGER NOT NULL,
    route TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    content BLOB,
    tries INTEGER NOT NULL,
    first_tried_at INTEGER,
    next_at INTEGER,
    why TEXT,
    result TEXT,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    UNIQUE (id)
) STRICT;
CREATE INDEX effects_waiting ON effects (lane, overtakes, seq) WHERE state = 'waiting';
CREATE INDEX effects_by_state ON effects (state, seq);
CREATE INDEX effects_by_delivery ON effects (instance, delivery);

CREATE TABLE runs (
    cluster TEXT NOT NULL,
    instance TEXT NOT NULL,
    id TEXT NOT NULL,
    project INTEGER NOT NULL,
    project_path TEXT NOT NULL,
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    plugin_digest BLOB NOT NULL,
    key TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    place TEXT NOT NULL,
    namespace TEXT NOT NULL,
    creator TEXT NOT NULL,
    run_as TEXT NOT NULL,
    name TEXT NOT NULL,
    status_name TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    ref_name TEXT,
    merge_request INTEGER,
    source_project INTEGER,
    trust TEXT NOT NULL,
    lane TEXT NOT NULL,
    effect_lane TEXT NOT NULL,
    queue TEXT,
    delivery TEXT NOT NULL,
    delivery_seq INTEGER NOT NULL,
    route TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    finished INTEGER NOT NULL,
    reason TEXT NOT NULL,
    web_url TEXT,
    uid TEXT,
    stored_digest BLOB,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    results TEXT NOT NULL,
    failed_task TEXT,
    PRIMARY KEY (id)
) STRICT;
CREATE INDEX runs_unfinished ON runs (instance, project, plugin) WHERE finished = 0;
CREATE INDEX runs_by_pipeline ON runs (instance, project, plugin, created_at);
CREATE INDEX runs_by_delivery ON runs (instance, delivery);

CREATE TABLE plugin_state (
    instance TEXT NOT NULL,
    project INTEGER NOT NULL,
    plugin TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (instance, project, plugin, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX plugin_state_expiring ON plugin_state (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE projects (
    instance TEXT NOT NULL,
    project INTEGER NOT NULL,
    first_path TEXT NOT NULL,
    path TEXT NOT NULL,
    tenant TEXT NOT NULL,
    pinned_at INTEGER NOT NULL,
    PRIMARY KEY (instance, project)
) STRICT, WITHOUT ROWID;

-- Written by the readiness check.
CREATE TABLE probe (
    name TEXT PRIMARY KEY,
    written_at INTEGER NOT NULL
) STRICT;
