-- Schema of tccsaga for MySQL 8.0.16+ and MariaDB 10.6+.
-- Times are UTC with microseconds. Every statement may run again.

-- version 2, complete; upgrade/ has the steps from older ones

CREATE TABLE IF NOT EXISTS saga_schema (
  id TINYINT NOT NULL COMMENT 'always 1, so that there is one row',
  version INT NOT NULL COMMENT 'version of the schema that is, or is being, installed',
  complete TINYINT NOT NULL COMMENT '0 while a migration is under way or was broken off, 1 after it',
  log_id VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'names the log in this database, in the calls that its engine makes; made when it is installed',
  PRIMARY KEY (id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='which version of this schema is installed';

INSERT INTO saga_schema (id, version, complete, log_id) VALUES (1, 2, 0, UUID()) ON DUPLICATE KEY UPDATE version = 2, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions (
  gid VARCHAR(128) NOT NULL COMMENT 'global id of the transaction, chosen by the caller',
  pattern VARCHAR(16) NOT NULL COMMENT 'the pattern it follows: tcc',
  state VARCHAR(16) NOT NULL COMMENT 'trying, then confirming and confirmed, or cancelling and cancelled',
  digest VARCHAR(64) NOT NULL COMMENT 'SHA-256 of the plan, which a repeated start must match; empty when begun without a plan',
  reason VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'why it was cancelled; empty otherwise',
  reason_code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: a code of the branch that rejected, or one of the framework; empty if it is not cancelled',
  reason_branch VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch whose Try was the reason; empty if it was none',
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
  code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; else empty',
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
  act VARCHAR(16) NOT NULL COMMENT 'what was done: retry, pause, resume, confirm, cancel or resolve',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  branch_id VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch that it was done to; empty when it was done to the whole',
  believed VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'what the operator believes has become of the branch: confirmed or cancelled; empty for other acts',
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
  caller VARCHAR(128) NOT NULL DEFAULT '' COMMENT 'log id of the engine whose call it was, see saga_schema; empty if it did not say',
  kind VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'kind of branch that was called',
  input VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the first half of the SHA-256 of the payload, in hexadecimal',
  tried_at DATETIME(6) NULL COMMENT 'when Try ran; NULL if it never did',
  confirmed_at DATETIME(6) NULL COMMENT 'when Confirm ran',
  cancelled_at DATETIME(6) NULL COMMENT 'when Cancel ran, or when it found nothing to cancel',
  turned_away INT NOT NULL DEFAULT 0 COMMENT 'calls refused or skipped since: repeated, late or in conflict',
  turned_away_at DATETIME(6) NULL COMMENT 'when the last of them came',
  call_op VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'operation of a branch without a database that is under way, or whose end is not known; empty otherwise',
  call_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'instance that makes that call',
  call_since DATETIME(6) NULL COMMENT 'since when it is under way',
  call_until DATETIME(6) NULL COMMENT 'until when it may be under way',
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

CREATE TABLE IF NOT EXISTS saga_stock_holds (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction that has locked',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch within it',
  sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the article',
  locked_at DATETIME(6) NOT NULL COMMENT 'since when; a gid that is used again after the retention of the log has a row of its own',
  quantity BIGINT NOT NULL COMMENT 'pieces that were locked',
  locked BIGINT NOT NULL COMMENT 'of them locked now; less than quantity after a person has lowered it, see saga_stock_acts',
  sold BIGINT NOT NULL DEFAULT 0 COMMENT 'of them sold by the Confirm',
  returned BIGINT NOT NULL DEFAULT 0 COMMENT 'of the sold ones returned since',
  ended_at DATETIME(6) NULL COMMENT 'when it was confirmed or cancelled; NULL before',
  PRIMARY KEY (gid, branch_id, sku, locked_at),
  KEY saga_stock_holds_ended (ended_at, sku),
  CONSTRAINT saga_stock_holds_adds_up CHECK (locked >= 0 AND returned >= 0 AND sold >= returned AND locked + sold <= quantity)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='which transaction holds or has bought what, if the stock keeps holds';

CREATE TABLE IF NOT EXISTS saga_stock_acts (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction of the hold',
  branch_id VARCHAR(32) NOT NULL COMMENT 'its branch',
  sku VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'its article',
  number INT NOT NULL COMMENT 'number of the act on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'what was done: adjust, before the Confirm, or return, after it',
  pieces BIGINT NOT NULL COMMENT 'how many pieces became available by it',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  PRIMARY KEY (gid, branch_id, sku, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='what people have done to holds, and why';

CREATE TABLE IF NOT EXISTS saga_outbox (
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  state VARCHAR(16) NOT NULL COMMENT 'prepared: not to be seen by anybody yet; delayed: confirmed and not due yet; published; or discarded',
  subject VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'subject it is published on',
  headers TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'headers, JSON object of lists',
  data MEDIUMBLOB NOT NULL COMMENT 'the message itself',
  prepared_at DATETIME(6) NOT NULL COMMENT 'when Try wrote it',
  published_at DATETIME(6) NULL COMMENT 'when the broker had acknowledged it',
  discarded_at DATETIME(6) NULL COMMENT 'when Cancel discarded it',
  stream VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'stream that took it; empty before',
  sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'its sequence in that stream; 0 before',
  message_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'id under which it is published, made by Try; empty in rows of schema version 1, whose id is gid/branch_id',
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'stream that it is for',
  order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'ordering key; empty if it has none',
  delay BIGINT NOT NULL DEFAULT 0 COMMENT 'microseconds after its Confirm before which it is not published',
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
  message_id VARCHAR(200) NOT NULL COMMENT 'id under which it is published',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction, which is finished',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'stream that it is for',
  subject VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'subject it is published on',
  headers TEXT CHARACTER SET utf8mb4 NOT NULL COMMENT 'headers, JSON object of lists',
  data MEDIUMBLOB NOT NULL COMMENT 'the message itself',
  due_at DATETIME(6) NOT NULL COMMENT 'not before this time it is published',
  claimed_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the attempt that publishes it',
  claimed_until DATETIME(6) NULL COMMENT 'until when no other attempt takes it',
  failures INT NOT NULL DEFAULT 0 COMMENT 'failed attempts',
  error VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'how the last one failed',
  PRIMARY KEY (message_id),
  KEY saga_outbox_delayed_due (destination, due_at)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='confirmed messages that wait until they are due; a row goes when it is published';

CREATE TABLE IF NOT EXISTS saga_inbox (
  consumer VARCHAR(64) NOT NULL COMMENT 'the consumer, by its durable name',
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'the stream; empty in a row of schema version 1',
  message_id VARCHAR(200) NOT NULL COMMENT 'id of the message, the same in every delivery',
  sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'its highest sequence in that stream, of all of its deliveries; 0 if it came out of the dead letters',
  received_at DATETIME(6) NULL COMMENT 'when it came first; NULL in a row of schema version 1',
  handled_at DATETIME(6) NULL COMMENT 'when its handler was done, which its local transaction has written; NULL before',
  attempts INT NOT NULL DEFAULT 0 COMMENT 'how often its handler has failed, or ended the process',
  error VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'how the last attempt failed',
  begun_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'process whose handler has begun and not ended yet, with a plus if several messages share its local transaction; empty otherwise',
  buried_at DATETIME(6) NULL COMMENT 'when it became a dead letter; NULL if it is none',
  resent BIGINT NOT NULL DEFAULT 0 COMMENT 'the last sending from the dead letters that has come, by its sequence there; 0 if there was none',
  PRIMARY KEY (consumer, stream, message_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages that each consumer has received: handled, failed so far, or put aside';

CREATE TABLE IF NOT EXISTS saga_inbox_cleaning (
  consumer VARCHAR(64) NOT NULL COMMENT 'the consumer, by its durable name',
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream',
  after_id VARCHAR(200) NOT NULL COMMENT 'rows up to this message have been looked at in this round',
  next_at DATETIME(6) NOT NULL COMMENT 'when the next page may be taken, by any process',
  PRIMARY KEY (consumer, stream)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='how far the removal of old inbox rows has come; one row per consumer and stream';

CREATE TABLE IF NOT EXISTS saga_letter_acts (
  stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream that the message came from',
  consumer VARCHAR(64) NOT NULL COMMENT 'the consumer that had failed to handle it',
  message_id VARCHAR(200) NOT NULL COMMENT 'the message',
  number INT NOT NULL COMMENT 'number of the act on it, from 1',
  act VARCHAR(16) NOT NULL COMMENT 'what was done: resend or delete',
  letter BIGINT NOT NULL COMMENT 'sequence of the dead letter in its stream',
  who VARCHAR(128) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who did it',
  why VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL COMMENT 'why',
  acted_at DATETIME(6) NOT NULL COMMENT 'when',
  PRIMARY KEY (stream, consumer, message_id, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='what operators have done to dead letters, and why';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
