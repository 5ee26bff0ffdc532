-- From version 1 to version 2 of the schema of tccsaga for MySQL and MariaDB.
-- Every statement may run again; one that adds columns may then say that they are there.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema
  ADD COLUMN log_id VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'names the log in this database, in the calls that its engine makes; made when it is installed' AFTER complete;

ALTER TABLE saga_transactions
  ADD COLUMN reason_code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: a code of the branch that rejected, or one of the framework; empty if it is not cancelled' AFTER reason,
  ADD COLUMN reason_branch VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch whose Try was the reason; empty if it was none' AFTER reason_code;

ALTER TABLE saga_attempts
  ADD COLUMN code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; else empty' AFTER error;

ALTER TABLE saga_acts
  ADD COLUMN branch_id VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch that it was done to; empty when it was done to the whole' AFTER why,
  ADD COLUMN believed VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'what the operator believes has become of the branch: confirmed or cancelled; empty for other acts' AFTER branch_id;

ALTER TABLE saga_barrier
  ADD COLUMN caller VARCHAR(128) NOT NULL DEFAULT '' COMMENT 'log id of the engine whose call it was, see saga_schema; empty if it did not say' AFTER state,
  ADD COLUMN kind VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'kind of branch that was called' AFTER caller,
  ADD COLUMN input VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the first half of the SHA-256 of the payload, in hexadecimal' AFTER kind,
  ADD COLUMN call_op VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'operation of a branch without a database that is under way, or whose end is not known; empty otherwise' AFTER turned_away_at,
  ADD COLUMN call_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'instance that makes that call' AFTER call_op,
  ADD COLUMN call_since DATETIME(6) NULL COMMENT 'since when it is under way' AFTER call_by,
  ADD COLUMN call_until DATETIME(6) NULL COMMENT 'until when it may be under way' AFTER call_since;

ALTER TABLE saga_outbox
  ADD COLUMN message_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'id under which it is published, made by Try; empty in rows of schema version 1, whose id is gid/branch_id',
  ADD COLUMN destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'stream that it is for',
  ADD COLUMN order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'ordering key; empty if it has none',
  ADD COLUMN delay BIGINT NOT NULL DEFAULT 0 COMMENT 'microseconds after its Confirm before which it is not published';

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

ALTER TABLE saga_inbox
  ADD COLUMN stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'the stream; empty in a row of schema version 1' AFTER consumer,
  ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'its highest sequence in that stream, of all of its deliveries; 0 if it came out of the dead letters' AFTER message_id,
  ADD COLUMN received_at DATETIME(6) NULL COMMENT 'when it came first; NULL in a row of schema version 1' AFTER sequence,
  MODIFY COLUMN handled_at DATETIME(6) NULL COMMENT 'when its handler was done, which its local transaction has written; NULL before' AFTER received_at,
  ADD COLUMN attempts INT NOT NULL DEFAULT 0 COMMENT 'how often its handler has failed, or ended the process' AFTER handled_at,
  ADD COLUMN error VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'how the last attempt failed' AFTER attempts,
  ADD COLUMN begun_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'process whose handler has begun and not ended yet, with a plus if several messages share its local transaction; empty otherwise' AFTER error,
  ADD COLUMN buried_at DATETIME(6) NULL COMMENT 'when it became a dead letter; NULL if it is none' AFTER begun_by,
  ADD COLUMN resent BIGINT NOT NULL DEFAULT 0 COMMENT 'the last sending from the dead letters that has come, by its sequence there; 0 if there was none' AFTER buried_at,
  DROP PRIMARY KEY, ADD PRIMARY KEY (consumer, stream, message_id),
  COMMENT='messages that each consumer has received: handled, failed so far, or put aside';

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

UPDATE saga_schema SET log_id = UUID() WHERE id = 1 AND log_id = '';

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

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
