-- How often an effect was given to a worker that has not said what came of it: what it began may be there.
ALTER TABLE effects ADD COLUMN handed_out INTEGER NOT NULL DEFAULT 0;

-- Cancels of a project by the delivery they follow from: a start that is committed after them may be of their concern.
CREATE INDEX effects_cancels ON effects (instance, project, delivery_seq) WHERE kind = 'cancel-runs';
