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

-- SQLite changes no primary key: the table is copied.
ALTER TABLE saga_inbox ADD COLUMN stream TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_inbox ADD COLUMN received_at TEXT;
ALTER TABLE saga_inbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_inbox ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN begun_by TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN buried_at TEXT;
ALTER TABLE saga_inbox ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS saga_inbox_2 ( -- messages that each consumer has received: handled, failed so far, or put aside
  consumer TEXT NOT NULL, -- the consumer, by its durable name
  stream TEXT NOT NULL DEFAULT '', -- the stream; empty in a row of schema version 1
  message_id TEXT NOT NULL, -- id of the message, the same in every delivery
  sequence INTEGER NOT NULL DEFAULT 0, -- its highest sequence in that stream, of all of its deliveries; 0 if it came out of the dead letters
  received_at TEXT, -- when it came first; NULL in a row of schema version 1
  handled_at TEXT, -- when its handler was done, which its local transaction has written; NULL before
  attempts INTEGER NOT NULL DEFAULT 0, -- how often its handler has failed, or ended the process
  error TEXT NOT NULL DEFAULT '', -- how the last attempt failed
  begun_by TEXT NOT NULL DEFAULT '', -- process whose handler has begun and not ended yet, with a plus if several messages share its local transaction; empty otherwise
  buried_at TEXT, -- when it became a dead letter; NULL if it is none
  resent INTEGER NOT NULL DEFAULT 0, -- the last sending from the dead letters that has come, by its sequence there; 0 if there was none
  PRIMARY KEY (consumer, stream, message_id)
);
INSERT OR IGNORE INTO saga_inbox_2 (consumer, stream, message_id, sequence, received_at, handled_at, attempts, error, begun_by, buried_at, resent) SELECT consumer, stream, message_id, sequence, received_at, handled_at, attempts, error, begun_by, buried_at, resent FROM saga_inbox;
DROP TABLE saga_inbox;
ALTER TABLE saga_inbox_2 RENAME TO saga_inbox;

CREATE TABLE IF NOT EXISTS saga_inbox_cleaning ( -- how far the removal of old inbox rows has come; one row per consumer and stream
  consumer TEXT NOT NULL, -- the consumer, by its durable name
  stream TEXT NOT NULL, -- the stream
  after_id TEXT NOT NULL, -- rows up to this message have been looked at in this round
  next_at TEXT NOT NULL, -- when the next page may be taken, by any process
  PRIMARY KEY (consumer, stream)
);

CREATE TABLE IF NOT EXISTS saga_letter_acts ( -- what operators have done to dead letters, and why
  stream TEXT NOT NULL, -- the stream that the message came from
  consumer TEXT NOT NULL, -- the consumer that had failed to handle it
  message_id TEXT NOT NULL, -- the message
  number INTEGER NOT NULL, -- number of the act on it, from 1
  act TEXT NOT NULL, -- what was done: resend or delete
  letter INTEGER NOT NULL, -- sequence of the dead letter in its stream
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  acted_at TEXT NOT NULL, -- when
  PRIMARY KEY (stream, consumer, message_id, number)
);

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
