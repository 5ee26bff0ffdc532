-- From version 1 to version 2 of the schema of tccsaga for MySQL and MariaDB.
-- Every statement may run again. One that adds columns may then fail, because they exist.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema
  ADD COLUMN log_id VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'id of this log, which its engine sends with its calls; made at installation' AFTER complete;

ALTER TABLE saga_transactions
  ADD COLUMN reason_code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: the code of the branch that rejected, or a code of the engine; empty if it is not cancelled' AFTER reason,
  ADD COLUMN reason_branch VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch with the Try that was the reason; empty if no Try was' AFTER reason_code;

ALTER TABLE saga_attempts
  ADD COLUMN code VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; otherwise empty' AFTER error;

ALTER TABLE saga_acts
  ADD COLUMN branch_id VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the branch of an action on one branch; empty for other actions' AFTER why,
  ADD COLUMN believed VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'state of the branch that the operator believes: confirmed or cancelled; empty for other actions' AFTER branch_id;

ALTER TABLE saga_barrier
  ADD COLUMN caller VARCHAR(128) NOT NULL DEFAULT '' COMMENT 'log id of the engine that called, see saga_schema; empty if the call had none' AFTER state,
  ADD COLUMN kind VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'kind of the branch' AFTER caller,
  ADD COLUMN input VARCHAR(32) NOT NULL DEFAULT '' COMMENT 'the first half of the SHA-256 of the payload, in hexadecimal' AFTER kind,
  ADD COLUMN call_op VARCHAR(16) NOT NULL DEFAULT '' COMMENT 'operation of an external branch that is under way or has an unknown end; empty otherwise' AFTER turned_away_at,
  ADD COLUMN call_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'instance that makes this call' AFTER call_op,
  ADD COLUMN call_since DATETIME(6) NULL COMMENT 'when this call began' AFTER call_by,
  ADD COLUMN call_until DATETIME(6) NULL COMMENT 'latest end of this call' AFTER call_since;

ALTER TABLE saga_outbox
  ADD COLUMN message_id VARCHAR(200) NOT NULL DEFAULT '' COMMENT 'id of the message, made by Try; empty in rows of schema version 1, which have the id gid/branch_id',
  ADD COLUMN destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'stream to publish it on',
  ADD COLUMN order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'ordering key; empty if it has none',
  ADD COLUMN delay BIGINT NOT NULL DEFAULT 0 COMMENT 'delay of its publishing after its Confirm, in microseconds';

CREATE TABLE IF NOT EXISTS saga_outbox_order (
  destination VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the stream',
  order_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the ordering key',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
  PRIMARY KEY (destination, order_key, gid, branch_id)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='messages with an ordering key that are neither published nor discarded';

CREATE TABLE IF NOT EXISTS saga_outbox_delayed (
  message_id VARCHAR(200) NOT NULL COMMENT 'id of the message',
  gid VARCHAR(128) NOT NULL COMMENT 'the transaction, which is finished',
  branch_id VARCHAR(32) NOT NULL COMMENT 'the branch',
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
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='confirmed messages that wait until they are due; a row is removed when its message is published';

ALTER TABLE saga_inbox
  ADD COLUMN stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'the stream; empty in a row of schema version 1' AFTER consumer,
  ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0 COMMENT 'highest sequence of its deliveries in that stream; 0 if it came from the dead letters' AFTER message_id,
  ADD COLUMN received_at DATETIME(6) NULL COMMENT 'when it first came; NULL in a row of schema version 1' AFTER sequence,
  MODIFY COLUMN handled_at DATETIME(6) NULL COMMENT 'when its handler succeeded, written in the same local transaction; NULL before' AFTER received_at,
  ADD COLUMN attempts INT NOT NULL DEFAULT 0 COMMENT 'number of times that its handler failed or ended the process' AFTER handled_at,
  ADD COLUMN error VARCHAR(1024) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'error of the last attempt' AFTER attempts,
  ADD COLUMN begun_by VARCHAR(64) NOT NULL DEFAULT '' COMMENT 'process with a handler that has begun and not ended, with a plus if several messages share its local transaction; empty otherwise' AFTER error,
  ADD COLUMN buried_at DATETIME(6) NULL COMMENT 'when it became a dead letter; NULL otherwise' AFTER begun_by,
  ADD COLUMN resent BIGINT NOT NULL DEFAULT 0 COMMENT 'sequence of the last letter that was sent again and received, in the stream of the dead letters; 0 if there is none' AFTER buried_at,
  DROP PRIMARY KEY, ADD PRIMARY KEY (consumer, stream, message_id),
  COMMENT='messages that each consumer has received: handled, failed so far, or dead letters';

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
  PRIMARY KEY (stream, consumer, message_id, number)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin COMMENT='actions of operators on dead letters, and why';

UPDATE saga_schema SET log_id = UUID() WHERE id = 1 AND log_id = '';

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

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
