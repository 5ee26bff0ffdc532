-- From version 1 to version 2 of the schema of tccsaga for PostgreSQL.
-- Every statement may run again; one that adds columns may then say that they are there.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema
  ADD COLUMN IF NOT EXISTS log_id VARCHAR(64) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_schema.log_id IS 'names the log in this database, in the calls that its engine makes; made when it is installed';

ALTER TABLE saga_transactions
  ADD COLUMN IF NOT EXISTS reason_code VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS reason_branch VARCHAR(32) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_transactions.reason_code IS 'the same for programs: a code of the branch that rejected, or one of the framework; empty if it is not cancelled';
COMMENT ON COLUMN saga_transactions.reason_branch IS 'the branch whose Try was the reason; empty if it was none';

ALTER TABLE saga_attempts
  ADD COLUMN IF NOT EXISTS code VARCHAR(64) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_attempts.code IS 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; else empty';

ALTER TABLE saga_acts
  ADD COLUMN IF NOT EXISTS branch_id VARCHAR(32) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS believed VARCHAR(16) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_acts.branch_id IS 'the branch that it was done to; empty when it was done to the whole';
COMMENT ON COLUMN saga_acts.believed IS 'what the operator believes has become of the branch: confirmed or cancelled; empty for other acts';

ALTER TABLE saga_barrier
  ADD COLUMN IF NOT EXISTS caller VARCHAR(128) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS kind VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS input VARCHAR(32) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_op VARCHAR(16) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_by VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_since TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS call_until TIMESTAMPTZ;
COMMENT ON COLUMN saga_barrier.caller IS 'log id of the engine whose call it was, see saga_schema; empty if it did not say';
COMMENT ON COLUMN saga_barrier.kind IS 'kind of branch that was called';
COMMENT ON COLUMN saga_barrier.input IS 'the first half of the SHA-256 of the payload, in hexadecimal';
COMMENT ON COLUMN saga_barrier.call_op IS 'operation of a branch without a database that is under way, or whose end is not known; empty otherwise';
COMMENT ON COLUMN saga_barrier.call_by IS 'instance that makes that call';
COMMENT ON COLUMN saga_barrier.call_since IS 'since when it is under way';
COMMENT ON COLUMN saga_barrier.call_until IS 'until when it may be under way';

UPDATE saga_schema SET log_id = md5(random()::text || clock_timestamp()::text) WHERE id = 1 AND log_id = '';

ALTER TABLE saga_stock ALTER COLUMN sku TYPE VARCHAR(64) COLLATE "C";

CREATE TABLE IF NOT EXISTS saga_stock_holds (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  sku VARCHAR(64) COLLATE "C" NOT NULL,
  locked_at TIMESTAMPTZ NOT NULL,
  quantity BIGINT NOT NULL,
  locked BIGINT NOT NULL,
  sold BIGINT NOT NULL DEFAULT 0,
  returned BIGINT NOT NULL DEFAULT 0,
  ended_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id, sku, locked_at),
  CONSTRAINT saga_stock_holds_adds_up CHECK (locked >= 0 AND returned >= 0 AND sold >= returned AND locked + sold <= quantity)
);
CREATE INDEX IF NOT EXISTS saga_stock_holds_ended ON saga_stock_holds (ended_at, sku);
COMMENT ON TABLE saga_stock_holds IS 'which transaction holds or has bought what, if the stock keeps holds';
COMMENT ON COLUMN saga_stock_holds.gid IS 'the transaction that has locked';
COMMENT ON COLUMN saga_stock_holds.branch_id IS 'the branch within it';
COMMENT ON COLUMN saga_stock_holds.sku IS 'the article';
COMMENT ON COLUMN saga_stock_holds.locked_at IS 'since when; a gid that is used again after the retention of the log has a row of its own';
COMMENT ON COLUMN saga_stock_holds.quantity IS 'pieces that were locked';
COMMENT ON COLUMN saga_stock_holds.locked IS 'of them locked now; less than quantity after a person has lowered it, see saga_stock_acts';
COMMENT ON COLUMN saga_stock_holds.sold IS 'of them sold by the Confirm';
COMMENT ON COLUMN saga_stock_holds.returned IS 'of the sold ones returned since';
COMMENT ON COLUMN saga_stock_holds.ended_at IS 'when it was confirmed or cancelled; NULL before';

CREATE TABLE IF NOT EXISTS saga_stock_acts (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  sku VARCHAR(64) COLLATE "C" NOT NULL,
  number INT NOT NULL,
  act VARCHAR(16) NOT NULL,
  pieces BIGINT NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  acted_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (gid, branch_id, sku, number)
);
COMMENT ON TABLE saga_stock_acts IS 'what people have done to holds, and why';
COMMENT ON COLUMN saga_stock_acts.gid IS 'the transaction of the hold';
COMMENT ON COLUMN saga_stock_acts.branch_id IS 'its branch';
COMMENT ON COLUMN saga_stock_acts.sku IS 'its article';
COMMENT ON COLUMN saga_stock_acts.number IS 'number of the act on it, from 1';
COMMENT ON COLUMN saga_stock_acts.act IS 'what was done: adjust, before the Confirm, or return, after it';
COMMENT ON COLUMN saga_stock_acts.pieces IS 'how many pieces became available by it';
COMMENT ON COLUMN saga_stock_acts.who IS 'who did it';
COMMENT ON COLUMN saga_stock_acts.why IS 'why';
COMMENT ON COLUMN saga_stock_acts.acted_at IS 'when';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
