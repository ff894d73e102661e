-- Runs in flight: from the moment their creation may go out until they have ended. Small rows, so that counting costs little.
CREATE TABLE flow_flights (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    tenant TEXT NOT NULL,
    place TEXT NOT NULL,
    project TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    queue TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX flow_flights_by_cluster ON flow_flights (cluster);
CREATE INDEX flow_flights_by_tenant ON flow_flights (tenant, place);
CREATE INDEX flow_flights_by_project ON flow_flights (project, pipeline);
CREATE INDEX flow_flights_by_queue ON flow_flights (project, queue) WHERE queue IS NOT NULL;

INSERT INTO flow_flights (id, cluster, tenant, place, project, pipeline, queue)
SELECT id, cluster, tenant, cluster || '/' || namespace || '/' || place, instance || '/' || project, pipeline, queue
FROM runs WHERE finished = 0 AND uid IS NOT NULL;

-- Runs over a limit. Those that are counted alike wait in one line, which says what it waits for.
CREATE TABLE flow_lines (
    line TEXT PRIMARY KEY,
    blocked_on TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX flow_lines_blocked ON flow_lines (blocked_on);

CREATE TABLE flow_waiting (
    id TEXT PRIMARY KEY,
    line TEXT NOT NULL,
    seq INTEGER NOT NULL,
    lane TEXT NOT NULL,
    tenant TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX flow_waiting_by_line ON flow_waiting (line, seq);

-- When the next creation of a scope would be due if they came evenly: microseconds since 1970.
CREATE TABLE flow_paces (
    scope TEXT PRIMARY KEY,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The least limit of a queue's unfinished runs is the queue's.
ALTER TABLE runs ADD COLUMN queue_limit INTEGER;
CREATE INDEX runs_by_queue ON runs (instance, project, queue, queue_limit) WHERE finished = 0 AND queue IS NOT NULL;

-- How many finished runs of the pipeline are to be kept, and whether the object's deletion was ordered.
ALTER TABLE runs ADD COLUMN keep INTEGER;
ALTER TABLE runs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_to_keep ON runs (instance, project, plugin, pipeline, finished_at) WHERE finished = 1 AND uid IS NOT NULL AND pruned = 0;
