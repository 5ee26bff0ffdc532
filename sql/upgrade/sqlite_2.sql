-- From version 1 to version 2 of the schema of tccsaga for SQLite.
-- Every statement may run again. One that adds columns may then fail, because they exist.

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

CREATE TABLE IF NOT EXISTS saga_outbox_delayed ( -- confirmed messages that wait until they are due; a row is removed when its message is published
  message_id TEXT NOT NULL, -- id of the message
  gid TEXT NOT NULL, -- the transaction, which is finished
  branch_id TEXT NOT NULL, -- the branch
  destination TEXT NOT NULL, -- stream to publish it on
  subject TEXT NOT NULL, -- subject of the message
  headers TEXT NOT NULL, -- headers, JSON object of lists
  data BLOB NOT NULL, -- the message itself
  due_at TEXT NOT NULL, -- earliest time to publish it
  claimed_by TEXT NOT NULL DEFAULT '', -- the attempt that publishes it
  claimed_until TEXT, -- until when no other attempt may take it
  failures INTEGER NOT NULL DEFAULT 0, -- failed attempts
  error TEXT NOT NULL DEFAULT '', -- error of the last attempt
  PRIMARY KEY (message_id)
);
CREATE INDEX IF NOT EXISTS saga_outbox_delayed_due ON saga_outbox_delayed (destination, due_at);

-- SQLite cannot change a primary key, so the table is copied.
ALTER TABLE saga_inbox ADD COLUMN stream TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_inbox ADD COLUMN received_at TEXT;
ALTER TABLE saga_inbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE saga_inbox ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN begun_by TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_inbox ADD COLUMN buried_at TEXT;
ALTER TABLE saga_inbox ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS saga_inbox_2 ( -- messages that each consumer has received: handled, failed so far, or dead letters
  consumer TEXT NOT NULL, -- durable name of the consumer
  stream TEXT NOT NULL DEFAULT '', -- the stream; empty in a row of schema version 1
  message_id TEXT NOT NULL, -- id of the message, the same in every delivery
  sequence INTEGER NOT NULL DEFAULT 0, -- highest sequence of its deliveries in that stream; 0 if it came from the dead letters
  received_at TEXT, -- when it first came; NULL in a row of schema version 1
  handled_at TEXT, -- when its handler succeeded, written in the same local transaction; NULL before
  attempts INTEGER NOT NULL DEFAULT 0, -- number of times that its handler failed or ended the process
  error TEXT NOT NULL DEFAULT '', -- error of the last attempt
  begun_by TEXT NOT NULL DEFAULT '', -- process with a handler that has begun and not ended, with a plus if several messages share its local transaction; empty otherwise
  buried_at TEXT, -- when it became a dead letter; NULL otherwise
  resent INTEGER NOT NULL DEFAULT 0, -- sequence of the last letter that was sent again and received, in the stream of the dead letters; 0 if there is none
  PRIMARY KEY (consumer, stream, message_id)
);
INSERT OR IGNORE INTO saga_inbox_2 (consumer, stream, message_id, sequence, received_at, handled_at, attempts, error, begun_by, buried_at, resent) SELECT consumer, stream, message_id, sequence, received_at, handled_at, attempts, error, begun_by, buried_at, resent FROM saga_inbox;
DROP TABLE saga_inbox;
ALTER TABLE saga_inbox_2 RENAME TO saga_inbox;

CREATE TABLE IF NOT EXISTS saga_inbox_cleaning ( -- progress of the removal of old inbox rows; one row per consumer and stream
  consumer TEXT NOT NULL, -- durable name of the consumer
  stream TEXT NOT NULL, -- the stream
  after_id TEXT NOT NULL, -- last message that was looked at in this round
  next_at TEXT NOT NULL, -- when any process may take the next page
  PRIMARY KEY (consumer, stream)
);

CREATE TABLE IF NOT EXISTS saga_letter_acts ( -- actions of operators on dead letters, and why
  stream TEXT NOT NULL, -- the stream that the message came from
  consumer TEXT NOT NULL, -- the consumer that failed to handle it
  message_id TEXT NOT NULL, -- the message
  number INTEGER NOT NULL, -- number of the action on it, from 1
  act TEXT NOT NULL, -- the action: resend or delete
  letter INTEGER NOT NULL, -- sequence of the dead letter in its stream
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  acted_at TEXT NOT NULL, -- when
  PRIMARY KEY (stream, consumer, message_id, number)
);

UPDATE saga_schema SET log_id = lower(hex(randomblob(16))) WHERE id = 1 AND log_id = '';

CREATE TABLE IF NOT EXISTS saga_stock_holds ( -- pieces that each transaction holds or has bought, if the stock keeps holds
  gid TEXT NOT NULL, -- the transaction that locked
  branch_id TEXT NOT NULL, -- the branch within it
  sku TEXT NOT NULL, -- the article
  locked_at TEXT NOT NULL, -- when it was locked; a gid that is used again after the retention of the log has another row
  quantity INTEGER NOT NULL, -- pieces that were locked
  locked INTEGER NOT NULL, -- pieces that are locked now; less than quantity after an adjust, see saga_stock_acts
  sold INTEGER NOT NULL DEFAULT 0, -- pieces that the Confirm sold
  returned INTEGER NOT NULL DEFAULT 0, -- sold pieces that were returned
  ended_at TEXT, -- when it was confirmed or cancelled; NULL before
  PRIMARY KEY (gid, branch_id, sku, locked_at),
  CONSTRAINT saga_stock_holds_adds_up CHECK (locked >= 0 AND returned >= 0 AND sold >= returned AND locked + sold <= quantity)
);
CREATE INDEX IF NOT EXISTS saga_stock_holds_ended ON saga_stock_holds (ended_at, sku);

CREATE TABLE IF NOT EXISTS saga_stock_acts ( -- actions of people on holds, and why
  gid TEXT NOT NULL, -- the transaction of the hold
  branch_id TEXT NOT NULL, -- its branch
  sku TEXT NOT NULL, -- its article
  number INTEGER NOT NULL, -- number of the action on it, from 1
  act TEXT NOT NULL, -- the action: adjust, before the Confirm, or return, after it
  pieces INTEGER NOT NULL, -- number of pieces that became available
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  acted_at TEXT NOT NULL, -- when
  PRIMARY KEY (gid, branch_id, sku, number)
);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
