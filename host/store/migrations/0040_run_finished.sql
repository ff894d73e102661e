-- Runs whose end is given to the plugin that started them, and how many run-finished events led to each.
CREATE TABLE run_ends (
    run TEXT PRIMARY KEY,
    depth INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
