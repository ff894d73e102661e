-- Statuses of a commit, those that are done among them: a newer pipeline is given them again.
CREATE INDEX effects_statuses ON effects (lane, seq) WHERE kind = 'commit-status';
