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
