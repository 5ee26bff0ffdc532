-- From version 2 to version 3 of the schema of tccsaga for SQLite.
-- Every statement may run again. One that adds columns may then fail, because they exist.

UPDATE saga_schema SET version = 3, complete = 0 WHERE id = 1;

ALTER TABLE saga_transactions ADD COLUMN try_attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_transactions ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_transactions ADD COLUMN prepared_at TEXT;
ALTER TABLE saga_transactions ADD COLUMN trace TEXT NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS saga_transactions_created ON saga_transactions (created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_finished ON saga_transactions (finished_at, created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_decided ON saga_transactions (decided_at);

ALTER TABLE saga_branches ADD COLUMN stage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_branches ADD COLUMN role TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_acts ADD COLUMN bulk_id TEXT NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS saga_acts_acted ON saga_acts (acted_at);
CREATE INDEX IF NOT EXISTS saga_letter_acts_acted ON saga_letter_acts (stream, acted_at);

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

CREATE TABLE IF NOT EXISTS saga_labels ( -- labels that callers gave to transactions, such as order numbers
  name TEXT NOT NULL, -- the name: customer, order, ...
  value TEXT NOT NULL, -- the value
  created_at TEXT NOT NULL, -- when the transaction began
  gid TEXT NOT NULL, -- the transaction
  PRIMARY KEY (gid, name)
);
CREATE INDEX IF NOT EXISTS saga_labels_value ON saga_labels (value, created_at, gid);

CREATE TABLE IF NOT EXISTS saga_bulk_acts ( -- actions of operators on many transactions, each with a fixed list
  id TEXT NOT NULL, -- id of the bulk action
  act TEXT NOT NULL, -- the action: retry, pause, resume, confirm or cancel
  who TEXT NOT NULL, -- who does it
  why TEXT NOT NULL, -- why
  query TEXT NOT NULL, -- the conditions that selected the transactions, JSON
  total INTEGER NOT NULL, -- number of transactions in the list; -1 while the list is being written or removed
  done INTEGER NOT NULL DEFAULT 0, -- of these, how many were acted on; written at the end
  refused INTEGER NOT NULL DEFAULT 0, -- of these, how many the action had no effect on any more; written at the end
  failed INTEGER NOT NULL DEFAULT 0, -- of these, how many the action failed on; written at the end
  created_at TEXT NOT NULL, -- when the list was made
  started_at TEXT, -- when a person confirmed the number, and it began; NULL before
  finished_at TEXT, -- when every transaction of the list was acted on; NULL before
  PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS saga_bulk_acts_created ON saga_bulk_acts (created_at);

CREATE TABLE IF NOT EXISTS saga_bulk_targets ( -- the transactions of each bulk action, and what was done to each
  bulk_id TEXT NOT NULL, -- the bulk action
  number INTEGER NOT NULL, -- place in the list, from 1
  gid TEXT NOT NULL, -- the transaction
  result TEXT NOT NULL DEFAULT '', -- done, refused or failed; empty before
  error TEXT NOT NULL DEFAULT '', -- why it was refused or failed
  acted_at TEXT, -- when; NULL before
  PRIMARY KEY (bulk_id, number)
);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
