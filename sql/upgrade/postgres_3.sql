-- From version 2 to version 3 of the schema of tccsaga for PostgreSQL.
-- Every statement may run again.

UPDATE saga_schema SET version = 3, complete = 0 WHERE id = 1;

ALTER TABLE saga_transactions
  ADD COLUMN IF NOT EXISTS try_attempts INT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS parent VARCHAR(255) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS prepared_at TIMESTAMPTZ;
COMMENT ON COLUMN saga_transactions.try_attempts IS 'how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it';
COMMENT ON COLUMN saga_transactions.parent IS 'of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise';
COMMENT ON COLUMN saga_transactions.prepared_at IS 'when a nested transaction was prepared: it has no deadline from then on; NULL otherwise';

ALTER TABLE saga_branches
  ADD COLUMN IF NOT EXISTS stage INT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS role VARCHAR(16) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_branches.stage IS 'place in the order of the calls: branches of one stage are called in parallel; 0 in a transaction without an order of Cancels';
COMMENT ON COLUMN saga_branches.role IS 'decides: the COMMIT of its Try is the decision; after: its Try is called after the decision; empty for the others';

ALTER TABLE saga_outbox_delayed ADD COLUMN IF NOT EXISTS after_id VARCHAR(200) NOT NULL DEFAULT '';
COMMENT ON TABLE saga_outbox_delayed IS 'messages that wait to be published: of confirmed transactions until they are due, and of PublishIn; a row is removed when its message is published';
COMMENT ON COLUMN saga_outbox_delayed.gid IS 'the transaction, which is finished; empty if PublishIn wrote it';
COMMENT ON COLUMN saga_outbox_delayed.branch_id IS 'the branch; empty if PublishIn wrote it';
COMMENT ON COLUMN saga_outbox_delayed.after_id IS 'message of the same call and subject that has to be published before it; empty if there is none';

CREATE TABLE IF NOT EXISTS saga_results (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  result TEXT NOT NULL,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_results IS 'results of Trys, which later calls of the transaction get';
COMMENT ON COLUMN saga_results.gid IS 'the transaction';
COMMENT ON COLUMN saga_results.branch_id IS 'the branch';
COMMENT ON COLUMN saga_results.result IS 'what its Try returned, JSON';

CREATE TABLE IF NOT EXISTS saga_inputs (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  payload TEXT NOT NULL,
  tried_at TIMESTAMPTZ NOT NULL,
  ask_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (gid, branch_id)
);
CREATE INDEX IF NOT EXISTS saga_inputs_ask ON saga_inputs (ask_at);
COMMENT ON TABLE saga_inputs IS 'inputs of branches of a service that asks the engine for outcomes';
COMMENT ON COLUMN saga_inputs.gid IS 'the transaction';
COMMENT ON COLUMN saga_inputs.branch_id IS 'the branch';
COMMENT ON COLUMN saga_inputs.payload IS 'input of Try, Confirm and Cancel, JSON';
COMMENT ON COLUMN saga_inputs.tried_at IS 'when its Try ran';
COMMENT ON COLUMN saga_inputs.ask_at IS 'earliest time to ask for the outcome';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
