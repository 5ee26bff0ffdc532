-- From version 2 to version 3 of the schema of tccsaga for PostgreSQL.
-- Every statement may run again.

UPDATE saga_schema SET version = 3, complete = 0 WHERE id = 1;

ALTER TABLE saga_transactions
  ADD COLUMN IF NOT EXISTS try_attempts INT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS parent VARCHAR(255) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS prepared_at TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS trace VARCHAR(255) NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS saga_transactions_created ON saga_transactions (created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_finished ON saga_transactions (finished_at, created_at, gid);
COMMENT ON COLUMN saga_transactions.try_attempts IS 'how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it';
COMMENT ON COLUMN saga_transactions.parent IS 'of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise';
COMMENT ON COLUMN saga_transactions.prepared_at IS 'when a nested transaction was prepared: it has no deadline from then on; NULL otherwise';
COMMENT ON COLUMN saga_transactions.trace IS 'trace context of the caller that began it, as W3C traceparent; empty if it had none';

ALTER TABLE saga_acts ADD COLUMN IF NOT EXISTS bulk_id VARCHAR(36) NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS saga_acts_acted ON saga_acts (acted_at);
CREATE INDEX IF NOT EXISTS saga_letter_acts_acted ON saga_letter_acts (stream, acted_at);
COMMENT ON COLUMN saga_acts.bulk_id IS 'the bulk action that it is part of, see saga_bulk_acts; empty if it is none';

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

CREATE TABLE IF NOT EXISTS saga_labels (
  name VARCHAR(32) NOT NULL,
  value VARCHAR(128) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  gid VARCHAR(128) NOT NULL,
  PRIMARY KEY (gid, name)
);
CREATE INDEX IF NOT EXISTS saga_labels_value ON saga_labels (value, created_at, gid);
COMMENT ON TABLE saga_labels IS 'labels that callers gave to transactions, such as order numbers';
COMMENT ON COLUMN saga_labels.name IS 'the name: customer, order, ...';
COMMENT ON COLUMN saga_labels.value IS 'the value';
COMMENT ON COLUMN saga_labels.created_at IS 'when the transaction began';
COMMENT ON COLUMN saga_labels.gid IS 'the transaction';

CREATE TABLE IF NOT EXISTS saga_bulk_acts (
  id VARCHAR(36) NOT NULL,
  act VARCHAR(16) NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  query TEXT NOT NULL,
  total INT NOT NULL,
  done INT NOT NULL DEFAULT 0,
  refused INT NOT NULL DEFAULT 0,
  failed INT NOT NULL DEFAULT 0,
  created_at TIMESTAMPTZ NOT NULL,
  started_at TIMESTAMPTZ,
  finished_at TIMESTAMPTZ,
  PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS saga_bulk_acts_created ON saga_bulk_acts (created_at);
COMMENT ON TABLE saga_bulk_acts IS 'actions of operators on many transactions, each with a fixed list';
COMMENT ON COLUMN saga_bulk_acts.id IS 'id of the bulk action';
COMMENT ON COLUMN saga_bulk_acts.act IS 'the action: retry, pause, resume, confirm or cancel';
COMMENT ON COLUMN saga_bulk_acts.who IS 'who does it';
COMMENT ON COLUMN saga_bulk_acts.why IS 'why';
COMMENT ON COLUMN saga_bulk_acts.query IS 'the conditions that selected the transactions, JSON';
COMMENT ON COLUMN saga_bulk_acts.total IS 'number of transactions in the list; -1 while the list is being written or removed';
COMMENT ON COLUMN saga_bulk_acts.done IS 'of these, how many were acted on; written at the end';
COMMENT ON COLUMN saga_bulk_acts.refused IS 'of these, how many the action had no effect on any more; written at the end';
COMMENT ON COLUMN saga_bulk_acts.failed IS 'of these, how many the action failed on; written at the end';
COMMENT ON COLUMN saga_bulk_acts.created_at IS 'when the list was made';
COMMENT ON COLUMN saga_bulk_acts.started_at IS 'when a person confirmed the number, and it began; NULL before';
COMMENT ON COLUMN saga_bulk_acts.finished_at IS 'when every transaction of the list was acted on; NULL before';

CREATE TABLE IF NOT EXISTS saga_bulk_targets (
  bulk_id VARCHAR(36) NOT NULL,
  number INT NOT NULL,
  gid VARCHAR(128) NOT NULL,
  result VARCHAR(16) NOT NULL DEFAULT '',
  error VARCHAR(1024) NOT NULL DEFAULT '',
  acted_at TIMESTAMPTZ,
  PRIMARY KEY (bulk_id, number)
);
COMMENT ON TABLE saga_bulk_targets IS 'the transactions of each bulk action, and what was done to each';
COMMENT ON COLUMN saga_bulk_targets.bulk_id IS 'the bulk action';
COMMENT ON COLUMN saga_bulk_targets.number IS 'place in the list, from 1';
COMMENT ON COLUMN saga_bulk_targets.gid IS 'the transaction';
COMMENT ON COLUMN saga_bulk_targets.result IS 'done, refused or failed; empty before';
COMMENT ON COLUMN saga_bulk_targets.error IS 'why it was refused or failed';
COMMENT ON COLUMN saga_bulk_targets.acted_at IS 'when; NULL before';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
