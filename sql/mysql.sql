-- Schema of tccsaga for MySQL 8.0.16+ and MariaDB 10.6+.
-- Times are UTC with microseconds. Every statement may run again.

-- This is the complete version 3. Folder upgrade has the steps from older versions.

CREATE TABLE IF NOT EXISTS saga_schema (
  id TINYINT NOT NULL COMMENT 'always 1, so that there is one row',
  version INT NOT NULL COMMENT 'version of the installed schema, or of the one that a migration installs',
  complete TINYINT NOT NULL COMMENT '0 while a migration runs or after it broke off, 1 after it completed',
  log_id VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'id of this log, which its engine sends with its calls; made at installation',
  PRIMARY KEY (id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='the installed version of this schema';

INSERT INTO saga_schema (id, version, complete, log_id) VALUES (1, 3, 0, UUID()) ON DUPLICATE KEY UPDATE version = 3, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions (
  gid VARCHAR(128) NOT NULL COMMENT 'global id of the transaction, chosen by the caller',
  pattern VARCHAR(16) NOT NULL COMMENT 'the pattern: tcc, saga, ...',
  state VARCHAR(16) NOT NULL COMMENT 'trying, then confirming and confirmed, or cancelling and cancelled',
  digest VARCHAR(64) NOT NULL COMMENT 'SHA-256 of the plan, which a repeated request must match; empty if it began without a plan',
  reason VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why it was cancelled; empty otherwise',
  reason_code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: the code of the branch that rejected, or a code of the engine; empty if it is not cancelled',
  reason_branch VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch with the Try that was the reason; empty if no Try was',
  decided_by VARCHAR(16) NOT NULL COMMENT 'who decided: caller, deadline, recovery or operator; empty before the decision',
  attention VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why a person should look at it; empty otherwise',
  owner VARCHAR(64) NOT NULL COMMENT 'instance that drives it, see saga_instances; empty while an open transaction waits for its decision',
  epoch BIGINT NOT NULL DEFAULT 1 COMMENT 'rises with every claim by an instance; a write with an older epoch has no effect',
  failures INT NOT NULL DEFAULT 0 COMMENT 'failed branch calls so far, see saga_attempts',
  created_at DATETIME(6) NOT NULL COMMENT 'when it began',
  deadline_at DATETIME(6) NOT NULL COMMENT 'when it is cancelled if it is still undecided',
  due_at DATETIME(6) NULL COMMENT 'when an instance has to look at it next; NULL once it is finished',
  decided_at DATETIME(6) NULL COMMENT 'when it was decided',
  finished_at DATETIME(6) NULL COMMENT 'when the last branch was confirmed or cancelled',
  paused_at DATETIME(6) NULL COMMENT 'when an operator paused it; NULL if it is not paused',
  try_attempts INT NOT NULL DEFAULT 0 COMMENT 'how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it',
  parent VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise',
  prepared_at DATETIME(6) NULL COMMENT 'when a nested transaction was prepared: it has no deadline from then on; NULL otherwise',
  trace VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'trace context of the caller that began it, as W3C traceparent; empty if it had none',
  PRIMARY KEY (gid),
  KEY saga_transactions_due (due_at),
  KEY saga_transactions_created (created_at),
  KEY saga_transactions_finished (finished_at, created_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='one row per global transaction: its state and its decision';

CREATE TABLE IF NOT EXISTS saga_branches (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it: 01, 02, ...',
  kind VARCHAR(64) NOT NULL COMMENT 'kind of branch, as registered: stock.lock, message.publish, ...',
  payload MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'input of Try, Confirm and Cancel, JSON',
  stage INT NOT NULL DEFAULT 0 COMMENT 'place in the order of the calls: branches of one stage are called in parallel; 0 in a transaction without an order of Cancels',
  role VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'decides: the COMMIT of its Try is the decision; after: its Try is called after the decision; empty for the others',
  tried_at DATETIME(6) NULL COMMENT 'when its Try succeeded, in an open transaction, which cannot be confirmed before; NULL in a transaction with a plan',
  done_at DATETIME(6) NULL COMMENT 'when it was confirmed or cancelled, if that was before the end of its transaction',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='the branches of each transaction, recorded before they are called';

CREATE TABLE IF NOT EXISTS saga_results (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  result MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'what its Try returned, JSON',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='results of Trys, which later calls of the transaction get';

CREATE TABLE IF NOT EXISTS saga_attempts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  operation VARCHAR(16) NOT NULL COMMENT 'the operation that failed: try, confirm or cancel',
  attempt INT NOT NULL COMMENT 'number of the attempt, from 1; the oldest rows of a branch are removed if there are many',
  error VARCHAR(2048) CHARACTER SET utf8mb4 NOT NULL COMMENT 'error of the call',
  code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; otherwise empty',
  instance VARCHAR(64) NOT NULL COMMENT 'instance that made the call',
  failed_at DATETIME(6) NOT NULL COMMENT 'when it failed',
  next_at DATETIME(6) NULL COMMENT 'earliest time of the next call; NULL for a Try, which is not repeated',
  PRIMARY KEY (gid, branch_id, operation, attempt)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='failed branch calls; no row without a failure';

CREATE TABLE IF NOT EXISTS saga_instances (
  instance VARCHAR(64) NOT NULL COMMENT 'id of a running engine, new at every start',
  host VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'machine it runs on',
  pid BIGINT NOT NULL COMMENT 'process it runs in',
  started_at DATETIME(6) NOT NULL COMMENT 'when it started',
  lease_until DATETIME(6) NOT NULL COMMENT 'end of its lease of its transactions; renewed by its heartbeat',
  PRIMARY KEY (instance)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='running engines and their leases';

CREATE TABLE IF NOT EXISTS saga_kinds (
  kind VARCHAR(64) NOT NULL COMMENT 'the kind of branch',
  paused_at DATETIME(6) NOT NULL COMMENT 'when it was paused',
  PRIMARY KEY (kind)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='kinds of branch that an operator has paused';

CREATE TABLE IF NOT EXISTS saga_acts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction; empty for an action on a kind of branch',
  kind VARCHAR(64) NOT NULL COMMENT 'the kind of branch; empty for an action on a transaction',
  number INT NOT NULL COMMENT 'number of the action on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'the action: retry, pause, resume, confirm, cancel or resolve',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  branch_id VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch of an action on one branch; empty for other actions',
  believed VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'state of the branch that the operator believes: confirmed or cancelled; empty for other actions',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  bulk_id VARCHAR(36) NOT NULL DEFAULT '' COMMENT 'the bulk action that it is part of, see saga_bulk_acts; empty if it is none',
  PRIMARY KEY (gid, kind, number),
  KEY saga_acts_acted (acted_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='actions of operators, and why';

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

CREATE TABLE IF NOT EXISTS saga_cleaning (
  id TINYINT NOT NULL COMMENT 'always 1, so that there is one row',
  after_gid VARCHAR(128) NOT NULL COMMENT 'last gid that was looked at in this round',
  next_at DATETIME(6) NOT NULL COMMENT 'when any instance may take the next batch',
  PRIMARY KEY (id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='progress of the removal of old transactions; one row';

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE id = 1;

CREATE TABLE IF NOT EXISTS saga_barrier (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it',
  state VARCHAR(16) NOT NULL COMMENT 'tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a later Try is refused',
  caller VARCHAR(128) NOT NULL DEFAULT '' COMMENT 'log id of the engine that called, see saga_schema; empty if the call had none',
  kind VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'kind of the branch',
  input VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the first half of the SHA-256 of the payload, in hexadecimal',
  tried_at DATETIME(6) NULL COMMENT 'when Try ran; NULL if it never did',
  confirmed_at DATETIME(6) NULL COMMENT 'when Confirm ran',
  cancelled_at DATETIME(6) NULL COMMENT 'when Cancel ran, or when it found nothing to cancel',
  turned_away INT NOT NULL DEFAULT 0 COMMENT 'number of calls that were refused or skipped: repeated, late or in conflict',
  turned_away_at DATETIME(6) NULL COMMENT 'when the last of these calls came',
  call_op VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'operation of an external branch that is under way or has an unknown end; empty otherwise',
  call_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'instance that makes this call',
  call_since DATETIME(6) NULL COMMENT 'when this call began',
  call_until DATETIME(6) NULL COMMENT 'latest end of this call',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='operations of each branch, written in the local transaction of the branch';

CREATE TABLE IF NOT EXISTS saga_inputs (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  payload MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'input of Try, Confirm and Cancel, JSON',
  tried_at DATETIME(6) NOT NULL COMMENT 'when its Try ran',
  ask_at DATETIME(6) NOT NULL COMMENT 'earliest time to ask for the outcome',
  PRIMARY KEY (gid, branch_id),
  KEY saga_inputs_ask (ask_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='inputs of branches of a service that asks the engine for outcomes';

CREATE TABLE IF NOT EXISTS saga_stock (
  sku VARCHAR(64) NOT NULL COMMENT 'the article',
  available BIGINT NOT NULL COMMENT 'free to be locked',
  locked BIGINT NOT NULL COMMENT 'locked by transactions that are not finished',
  sold BIGINT NOT NULL COMMENT 'sold by confirmed transactions',
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='stock of the branch stock.lock; available + locked + sold is the number of pieces put in';

CREATE TABLE IF NOT EXISTS saga_stock_holds (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction that locked',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it',
  sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the article',
  locked_at DATETIME(6) NOT NULL COMMENT 'when it was locked; a gid that is used again after the retention of the log has another row',
  quantity BIGINT NOT NULL COMMENT 'pieces that were locked',
  locked BIGINT NOT NULL COMMENT 'pieces that are locked now; less than quantity after an adjust, see saga_stock_acts',
  sold BIGINT NOT NULL DEFAULT 0 COMMENT 'pieces that the Confirm sold',
  returned BIGINT NOT NULL DEFAULT 0 COMMENT 'sold pieces that were returned',
  ended_at DATETIME(6) NULL COMMENT 'when it was confirmed or cancelled; NULL before',
  PRIMARY KEY (gid, branch_id, sku, locked_at),
  KEY saga_stock_holds_ended (ended_at, sku),
  CONSTRAINT saga_stock_holds_adds_up CHECK (locked >= 0 AND returned >= 0 AND sold >= returned AND locked + sold <= quantity)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='pieces that each transaction holds or has bought, if the stock keeps holds';

CREATE TABLE IF NOT EXISTS saga_stock_acts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction of the hold',
  branch_id VARCHAR(32) NOT NULL COMMENT 'its branch',
  sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'its article',
  number INT NOT NULL COMMENT 'number of the action on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'the action: adjust, before the Confirm, or return, after it',
  pieces BIGINT NOT NULL COMMENT 'number of pieces that became available',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  PRIMARY KEY (gid, branch_id, sku, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='actions of people on holds, and why';

CREATE TABLE IF NOT EXISTS saga_outbox (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  state VARCHAR(16) NOT NULL COMMENT 'prepared: not visible to anybody yet; delayed: confirmed and not due yet; published; or discarded',
  subject VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'subject of the message',
  headers TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'headers, JSON object of lists',
  data MEDIUMBLOB NOT NULL COMMENT 'the message itself',
  prepared_at DATETIME(6) NOT NULL COMMENT 'when Try wrote it',
  published_at DATETIME(6) NULL COMMENT 'when the broker acknowledged it',
  discarded_at DATETIME(6) NULL COMMENT 'when Cancel discarded it',
  stream VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'stream that stored it; empty before',
  sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'its sequence in that stream; 0 before',
  message_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'id of the message, made by Try; empty in rows of schema version 1, which have the id gid/branch_id',
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'stream to publish it on',
  order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'ordering key; empty if it has none',
  delay BIGINT NOT NULL DEFAULT 0 COMMENT 'delay of its publishing after its Confirm, in microseconds',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages of the branch message.publish';

CREATE TABLE IF NOT EXISTS saga_outbox_order (
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream',
  order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the ordering key',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  PRIMARY KEY (destination, order_key, gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages with an ordering key that are neither published nor discarded';

CREATE TABLE IF NOT EXISTS saga_outbox_delayed (
  message_id VARCHAR(200) NOT NULL COMMENT 'id of the message',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction, which is finished; empty if PublishIn wrote it',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch; empty if PublishIn wrote it',
  after_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'message of the same call and subject that has to be published before it; empty if there is none',
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'stream to publish it on',
  subject VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'subject of the message',
  headers TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'headers, JSON object of lists',
  data MEDIUMBLOB NOT NULL COMMENT 'the message itself',
  due_at DATETIME(6) NOT NULL COMMENT 'earliest time to publish it',
  claimed_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the attempt that publishes it',
  claimed_until DATETIME(6) NULL COMMENT 'until when no other attempt may take it',
  failures INT NOT NULL DEFAULT 0 COMMENT 'failed attempts',
  error VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'error of the last attempt',
  PRIMARY KEY (message_id),
  KEY saga_outbox_delayed_due (destination, due_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages that wait to be published: of confirmed transactions until they are due, and of PublishIn; a row is removed when its message is published';

CREATE TABLE IF NOT EXISTS saga_inbox (
  consumer VARCHAR(64) NOT NULL COMMENT 'durable name of the consumer',
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'the stream; empty in a row of schema version 1',
  message_id VARCHAR(200) NOT NULL COMMENT 'id of the message, the same in every delivery',
  sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'highest sequence of its deliveries in that stream; 0 if it came from the dead letters',
  received_at DATETIME(6) NULL COMMENT 'when it first came; NULL in a row of schema version 1',
  handled_at DATETIME(6) NULL COMMENT 'when its handler succeeded, written in the same local transaction; NULL before',
  attempts INT NOT NULL DEFAULT 0 COMMENT 'number of times that its handler failed or ended the process',
  error VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'error of the last attempt',
  begun_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'process with a handler that has begun and not ended, with a plus if several messages share its local transaction; empty otherwise',
  buried_at DATETIME(6) NULL COMMENT 'when it became a dead letter; NULL otherwise',
  resent BIGINT NOT NULL DEFAULT 0 COMMENT 'sequence of the last letter that was sent again and received, in the stream of the dead letters; 0 if there is none',
  PRIMARY KEY (consumer, stream, message_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages that each consumer has received: handled, failed so far, or dead letters';

CREATE TABLE IF NOT EXISTS saga_inbox_cleaning (
  consumer VARCHAR(64) NOT NULL COMMENT 'durable name of the consumer',
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream',
  after_id VARCHAR(200) NOT NULL COMMENT 'last message that was looked at in this round',
  next_at DATETIME(6) NOT NULL COMMENT 'when any process may take the next page',
  PRIMARY KEY (consumer, stream)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='progress of the removal of old inbox rows; one row per consumer and stream';

CREATE TABLE IF NOT EXISTS saga_letter_acts (
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream that the message came from',
  consumer VARCHAR(64) NOT NULL COMMENT 'the consumer that failed to handle it',
  message_id VARCHAR(200) NOT NULL COMMENT 'the message',
  number INT NOT NULL COMMENT 'number of the action on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'the action: resend or delete',
  letter BIGINT NOT NULL COMMENT 'sequence of the dead letter in its stream',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  PRIMARY KEY (stream, consumer, message_id, number),
  KEY saga_letter_acts_acted (stream, acted_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='actions of operators on dead letters, and why';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
