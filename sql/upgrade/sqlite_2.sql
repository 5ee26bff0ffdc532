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

ALTER TABLE saga_outbox ADD COLUMN message_id TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_outbox ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_outbox ADD COLUMN order_key TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_outbox ADD COLUMN delay INTEGER NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS saga_outbox_order ( -- messages with an ordering key that are neither published nor discarded
  destination TEXT NOT NULL, -- the stream
  order_key TEXT NOT NULL, -- the ordering key
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  PRIMARY KEY (destination, order_key, gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_outbox_delayed ( -- confirmed messages that wait until they are due; a row goes when it is published
  message_id TEXT NOT NULL, -- id under which it is published
  gid TEXT NOT NULL, -- the transaction, which is finished
  branch_id TEXT NOT NULL, -- the branch
  destination TEXT NOT NULL, -- stream that it is for
  subject TEXT NOT NULL, -- subject it is published on
  headers TEXT NOT NULL, -- headers, JSON object of lists
  data BLOB NOT NULL, -- the message itself
  due_at TEXT NOT NULL, -- not before this time it is published
  claimed_by TEXT NOT NULL DEFAULT '', -- the attempt that publishes it
  claimed_until TEXT, -- until when no other attempt takes it
  failures INTEGER NOT NULL DEFAULT 0, -- failed attempts
  error TEXT NOT NULL DEFAULT '', -- how the last one failed
  PRIMARY KEY (message_id)
);
CREATE INDEX IF NOT EXISTS saga_outbox_delayed_due ON saga_outbox_delayed (destination, due_at);

UPDATE saga_schema SET log_id = lower(hex(randomblob(16))) WHERE id = 1 AND log_id = '';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
