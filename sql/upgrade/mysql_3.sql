-- From version 2 to version 3 of the schema of tccsaga for MySQL and MariaDB.
-- Every statement may run again. One that adds columns may then fail, because they exist.

UPDATE saga_schema SET version = 3, complete = 0 WHERE id = 1;

ALTER TABLE saga_transactions
  ADD COLUMN try_attempts INT NOT NULL DEFAULT 0 COMMENT 'how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it' AFTER paused_at,
  ADD COLUMN parent VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise' AFTER try_attempts,
  ADD COLUMN prepared_at DATETIME(6) NULL COMMENT 'when a nested transaction was prepared: it has no deadline from then on; NULL otherwise' AFTER parent,
  ADD COLUMN trace VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'trace context of the caller that began it, as W3C traceparent; empty if it had none' AFTER prepared_at,
  ADD KEY saga_transactions_created (created_at),
  ADD KEY saga_transactions_finished (finished_at, created_at);

ALTER TABLE saga_acts
  ADD COLUMN bulk_id VARCHAR(36) NOT NULL DEFAULT '' COMMENT 'the bulk action that it is part of, see saga_bulk_acts; empty if it is none' AFTER acted_at,
  ADD KEY saga_acts_acted (acted_at);

ALTER TABLE saga_letter_acts ADD KEY saga_letter_acts_acted (stream, acted_at);

ALTER TABLE saga_branches
  ADD COLUMN stage INT NOT NULL DEFAULT 0 COMMENT 'place in the order of the calls: branches of one stage are called in parallel; 0 in a transaction without an order of Cancels' AFTER payload,
  ADD COLUMN role VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'decides: the COMMIT of its Try is the decision; after: its Try is called after the decision; empty for the others' AFTER stage;

ALTER TABLE saga_outbox_delayed
  ADD COLUMN after_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'message of the same call and subject that has to be published before it; empty if there is none' AFTER branch_id,
  MODIFY COLUMN gid VARCHAR(128) NOT NULL COMMENT 'the transaction, which is finished; empty if PublishIn wrote it',
  MODIFY COLUMN branch_id VARCHAR(32) NOT NULL COMMENT 'the branch; empty if PublishIn wrote it',
  COMMENT='messages that wait to be published: of confirmed transactions until they are due, and of PublishIn; a row is removed when its message is published';

CREATE TABLE IF NOT EXISTS saga_results (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  result MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'what its Try returned, JSON',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='results of Trys, which later calls of the transaction get';

CREATE TABLE IF NOT EXISTS saga_inputs (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  payload MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'input of Try, Confirm and Cancel, JSON',
  tried_at DATETIME(6) NOT NULL COMMENT 'when its Try ran',
  ask_at DATETIME(6) NOT NULL COMMENT 'earliest time to ask for the outcome',
  PRIMARY KEY (gid, branch_id),
  KEY saga_inputs_ask (ask_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='inputs of branches of a service that asks the engine for outcomes';

CREATE TABLE IF NOT EXISTS saga_labels (
  name VARCHAR(32) NOT NULL COMMENT 'the name: customer, order, ...',
  value VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the value',
  created_at DATETIME(6) NOT NULL COMMENT 'when the transaction began',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  PRIMARY KEY (gid, name),
  KEY saga_labels_value (value, created_at, gid)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='labels that callers gave to transactions, such as order numbers';

CREATE TABLE IF NOT EXISTS saga_bulk_acts (
  id VARCHAR(36) NOT NULL COMMENT 'id of the bulk action',
  act VARCHAR(16) NOT NULL COMMENT 'the action: retry, pause, resume, confirm or cancel',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who does it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  query TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'the conditions that selected the transactions, JSON',
  total INT NOT NULL COMMENT 'number of transactions in the list; -1 while the list is being written or removed',
  done INT NOT NULL DEFAULT 0 COMMENT 'of these, how many were acted on; written at the end',
  refused INT NOT NULL DEFAULT 0 COMMENT 'of these, how many the action had no effect on any more; written at the end',
  failed INT NOT NULL DEFAULT 0 COMMENT 'of these, how many the action failed on; written at the end',
  created_at DATETIME(6) NOT NULL COMMENT 'when the list was made',
  started_at DATETIME(6) NULL COMMENT 'when a person confirmed the number, and it began; NULL before',
  finished_at DATETIME(6) NULL COMMENT 'when every transaction of the list was acted on; NULL before',
  PRIMARY KEY (id),
  KEY saga_bulk_acts_created (created_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='actions of operators on many transactions, each with a fixed list';

CREATE TABLE IF NOT EXISTS saga_bulk_targets (
  bulk_id VARCHAR(36) NOT NULL COMMENT 'the bulk action',
  number INT NOT NULL COMMENT 'place in the list, from 1',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  result VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'done, refused or failed; empty before',
  error VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why it was refused or failed',
  acted_at DATETIME(6) NULL COMMENT 'when; NULL before',
  PRIMARY KEY (bulk_id, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='the transactions of each bulk action, and what was done to each';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
