-- From version 2 to version 3 of the schema of tccsaga for SQLite.
-- Every statement may run again. One that adds columns may then fail, because they exist.

UPDATE saga_schema SET version = 3, complete = 0 WHERE id = 1;

ALTER TABLE saga_transactions ADD COLUMN try_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_transactions ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_transactions ADD COLUMN prepared_at TEXT;
CREATE INDEX IF NOT EXISTS saga_transactions_decided ON saga_transactions (decided_at);

ALTER TABLE saga_branches ADD COLUMN stage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_branches ADD COLUMN role TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_outbox_delayed ADD COLUMN after_id TEXT NOT NULL DEFAULT '';

CREATE TABLE IF NOT EXISTS saga_results ( -- results of Trys, which later calls of the transaction get
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  result TEXT NOT NULL, -- what its Try returned, JSON
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_inputs ( -- inputs of branches of a service that asks the engine for outcomes
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  payload TEXT NOT NULL, -- input of Try, Confirm and Cancel, JSON
  tried_at TEXT NOT NULL, -- when its Try ran
  ask_at TEXT NOT NULL, -- earliest time to ask for the outcome
  PRIMARY KEY (gid, branch_id)
);
CREATE INDEX IF NOT EXISTS saga_inputs_ask ON saga_inputs (ask_at);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
