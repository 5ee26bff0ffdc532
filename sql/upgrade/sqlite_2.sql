-- From version 1 to version 2 of the schema of tccsaga for SQLite.
-- Every statement may run again; one that adds columns may then say that they are there.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema ADD COLUMN log_id TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_transactions ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_transactions ADD COLUMN reason_branch TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_attempts ADD COLUMN code TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_acts ADD COLUMN branch_id TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_acts ADD COLUMN believed TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_barrier ADD COLUMN caller TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN input TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_op TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_by TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_since TEXT;
ALTER TABLE saga_barrier ADD COLUMN call_until TEXT;

UPDATE saga_schema SET log_id = lower(hex(randomblob(16))) WHERE id = 1 AND log_id = '';

CREATE TABLE IF NOT EXISTS saga_stock_holds ( -- which transaction holds or has bought what, if the stock keeps holds
  gid TEXT NOT NULL, -- the transaction that has locked
  branch_id TEXT NOT NULL, -- the branch within it
  sku TEXT NOT NULL, -- the article
  locked_at TEXT NOT NULL, -- since when; a gid that is used again after the retention of the log has a row of its own
  quantity INTEGER NOT NULL, -- pieces that were locked
  locked INTEGER NOT NULL, -- of them locked now; less than quantity after a person has lowered it, see saga_stock_acts
  sold INTEGER NOT NULL DEFAULT 0, -- of them sold by the Confirm
  returned INTEGER NOT NULL DEFAULT 0, -- of the sold ones returned since
  ended_at TEXT, -- when it was confirmed or cancelled; NULL before
  PRIMARY KEY (gid, branch_id, sku, locked_at),
  CONSTRAINT saga_stock_holds_adds_up CHECK (locked >= 0 AND returned >= 0 AND sold >= returned AND locked + sold <= quantity)
);
CREATE INDEX IF NOT EXISTS saga_stock_holds_ended ON saga_stock_holds (ended_at, sku);

CREATE TABLE IF NOT EXISTS saga_stock_acts ( -- what people have done to holds, and why
  gid TEXT NOT NULL, -- the transaction of the hold
  branch_id TEXT NOT NULL, -- its branch
  sku TEXT NOT NULL, -- its article
  number INTEGER NOT NULL, -- number of the act on it, from 1
  act TEXT NOT NULL, -- what was done: adjust, before the Confirm, or return, after it
  pieces INTEGER NOT NULL, -- how many pieces became available by it
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  acted_at TEXT NOT NULL, -- when
  PRIMARY KEY (gid, branch_id, sku, number)
);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
