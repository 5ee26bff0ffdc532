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

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
