-- Schema of tccsaga for MySQL 8.0.16+ and MariaDB 10.6+.
-- Times are UTC with microseconds. Every statement may run again.

-- version 1

CREATE TABLE IF NOT EXISTS saga_schema (
  id TINYINT NOT NULL COMMENT 'always 1, so that there is one row',
  version INT NOT NULL COMMENT 'version of the schema that is, or is being, installed',
  complete TINYINT NOT NULL COMMENT '0 while a migration is under way or was broken off, 1 after it',
  PRIMARY KEY (id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='which version of this schema is installed';

INSERT INTO saga_schema (id, version, complete) VALUES (1, 1, 0) ON DUPLICATE KEY UPDATE version = 1, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions (
  gid VARCHAR(128) NOT NULL COMMENT 'global id of the transaction, chosen by the caller',
  pattern VARCHAR(16) NOT NULL COMMENT 'the pattern it follows: tcc',
  state VARCHAR(16) NOT NULL COMMENT 'trying, then confirming and confirmed, or cancelling and cancelled',
  digest VARCHAR(64) NOT NULL COMMENT 'SHA-256 of the plan, which a repeated start must match; empty when begun without a plan',
  reason VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why it was cancelled; empty otherwise',
  decided_by VARCHAR(16) NOT NULL COMMENT 'who decided: caller, deadline, recovery or operator; empty before the decision',
  attention VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why a person should look at it; empty when nobody has to',
  owner VARCHAR(64) NOT NULL COMMENT 'instance that drives it, see saga_instances; empty while an open transaction waits for its decision',
  epoch BIGINT NOT NULL DEFAULT 1 COMMENT 'goes up with every change of driver; a write by a driver with an older epoch has no effect',
  failures INT NOT NULL DEFAULT 0 COMMENT 'failed branch calls so far, see saga_attempts',
  created_at DATETIME(6) NOT NULL COMMENT 'when it began',
  deadline_at DATETIME(6) NOT NULL COMMENT 'when it is cancelled if it is still undecided',
  due_at DATETIME(6) NULL COMMENT 'when somebody has to look at it next; NULL once it is finished',
  decided_at DATETIME(6) NULL COMMENT 'when it was decided',
  finished_at DATETIME(6) NULL COMMENT 'when the last branch was confirmed or cancelled',
  paused_at DATETIME(6) NULL COMMENT 'since when an operator has paused it; NULL otherwise',
  PRIMARY KEY (gid),
  KEY saga_transactions_due (due_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='one row per global transaction: its state and its decision';

CREATE TABLE IF NOT EXISTS saga_branches (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it: 01, 02, ...',
  kind VARCHAR(64) NOT NULL COMMENT 'kind of branch, as registered: stock.lock, message.publish, ...',
  payload MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'what Try, Confirm and Cancel are called with, JSON',
  tried_at DATETIME(6) NULL COMMENT 'when its Try had succeeded, in an open transaction, which cannot be confirmed before; NULL in one with a plan',
  done_at DATETIME(6) NULL COMMENT 'when it was confirmed or cancelled, if that was before its transaction finished as a whole',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='the branches of each transaction, named before they are called';

CREATE TABLE IF NOT EXISTS saga_attempts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  operation VARCHAR(16) NOT NULL COMMENT 'the operation that failed: try, confirm or cancel',
  attempt INT NOT NULL COMMENT 'number of the attempt, from 1; the oldest rows of a branch go when there are many',
  error VARCHAR(2048) CHARACTER SET utf8mb4 NOT NULL COMMENT 'what the call said',
  instance VARCHAR(64) NOT NULL COMMENT 'instance that made the call',
  failed_at DATETIME(6) NOT NULL COMMENT 'when it failed',
  next_at DATETIME(6) NULL COMMENT 'not before this time it is called again; NULL for a Try, which is not',
  PRIMARY KEY (gid, branch_id, operation, attempt)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='failed branch calls; no row where nothing failed';

CREATE TABLE IF NOT EXISTS saga_instances (
  instance VARCHAR(64) NOT NULL COMMENT 'id of a running orchestrator, new at every start',
  host VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'machine it runs on',
  pid BIGINT NOT NULL COMMENT 'process it runs in',
  started_at DATETIME(6) NOT NULL COMMENT 'when it started',
  lease_until DATETIME(6) NOT NULL COMMENT 'until when its transactions are its own; renewed by its heartbeat',
  PRIMARY KEY (instance)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='running orchestrators and their leases';

CREATE TABLE IF NOT EXISTS saga_kinds (
  kind VARCHAR(64) NOT NULL COMMENT 'the kind of branch',
  paused_at DATETIME(6) NOT NULL COMMENT 'since when it is paused',
  PRIMARY KEY (kind)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='kinds of branch that an operator has paused';

CREATE TABLE IF NOT EXISTS saga_acts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction; empty when it was done to a kind of branch',
  kind VARCHAR(64) NOT NULL COMMENT 'the kind of branch; empty when it was done to a transaction',
  number INT NOT NULL COMMENT 'number of the act on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'what was done: retry, pause, resume, confirm or cancel',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  PRIMARY KEY (gid, kind, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='what operators have done, and why';

CREATE TABLE IF NOT EXISTS saga_cleaning (
  id TINYINT NOT NULL COMMENT 'always 1, so that there is one row',
  after_gid VARCHAR(128) NOT NULL COMMENT 'transactions up to this gid have been looked at in this round',
  next_at DATETIME(6) NOT NULL COMMENT 'when the next batch may be taken, by any instance',
  PRIMARY KEY (id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='how far the removal of old transactions has come; one row';

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE id = 1;

CREATE TABLE IF NOT EXISTS saga_barrier (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it',
  state VARCHAR(16) NOT NULL COMMENT 'tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a Try that comes now is refused',
  tried_at DATETIME(6) NULL COMMENT 'when Try ran; NULL if it never did',
  confirmed_at DATETIME(6) NULL COMMENT 'when Confirm ran',
  cancelled_at DATETIME(6) NULL COMMENT 'when Cancel ran, or when it found nothing to cancel',
  turned_away INT NOT NULL DEFAULT 0 COMMENT 'calls refused or skipped since: repeated, late or in conflict',
  turned_away_at DATETIME(6) NULL COMMENT 'when the last of them came',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='what each branch has done, written in its own local transaction';

CREATE TABLE IF NOT EXISTS saga_stock (
  sku VARCHAR(64) NOT NULL COMMENT 'the article',
  available BIGINT NOT NULL COMMENT 'free to be locked',
  locked BIGINT NOT NULL COMMENT 'locked by transactions that are not finished',
  sold BIGINT NOT NULL COMMENT 'taken by confirmed transactions',
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='stock of the branch stock.lock; available + locked + sold is what was put in';

CREATE TABLE IF NOT EXISTS saga_outbox (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch; gid/branch_id is the id of the message',
  state VARCHAR(16) NOT NULL COMMENT 'prepared: not to be seen by anybody yet; published; or discarded',
  subject VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'subject it is published on',
  headers TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'headers, JSON object of lists',
  data MEDIUMBLOB NOT NULL COMMENT 'the message itself',
  prepared_at DATETIME(6) NOT NULL COMMENT 'when Try wrote it',
  published_at DATETIME(6) NULL COMMENT 'when the broker had acknowledged it',
  discarded_at DATETIME(6) NULL COMMENT 'when Cancel discarded it',
  stream VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'stream that took it; empty before',
  sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'its sequence in that stream; 0 before',
  PRIMARY KEY (gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages of the branch message.publish';

CREATE TABLE IF NOT EXISTS saga_inbox (
  consumer VARCHAR(64) NOT NULL COMMENT 'the consumer, by its durable name',
  message_id VARCHAR(200) NOT NULL COMMENT 'id of the message, the same in every delivery',
  handled_at DATETIME(6) NOT NULL COMMENT 'when its handler was done',
  PRIMARY KEY (consumer, message_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages handled by each consumer, written in the local transaction of its handler';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 1;
