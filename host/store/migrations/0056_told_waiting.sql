-- A run that waits is told of once. See waiting.rs.
ALTER TABLE runs ADD COLUMN told_waiting INTEGER NOT NULL DEFAULT 0;
