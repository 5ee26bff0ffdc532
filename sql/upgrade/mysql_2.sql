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

UPDATE saga_schema SET log_id = UUID() WHERE id = 1 AND log_id = '';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
