-- From version 1 to version 2 of the schema of tccsaga for PostgreSQL.
-- Every statement may run again.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema
  ADD COLUMN IF NOT EXISTS log_id VARCHAR(64) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_schema.log_id IS 'id of this log, which its engine sends with its calls; made at installation';

ALTER TABLE saga_transactions
  ADD COLUMN IF NOT EXISTS reason_code VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS reason_branch VARCHAR(32) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_transactions.reason_code IS 'the same for programs: the code of the branch that rejected, or a code of the engine; empty if it is not cancelled';
COMMENT ON COLUMN saga_transactions.reason_branch IS 'the branch with the Try that was the reason; empty if no Try was';

ALTER TABLE saga_attempts
  ADD COLUMN IF NOT EXISTS code VARCHAR(64) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_attempts.code IS 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; otherwise empty';

ALTER TABLE saga_acts
  ADD COLUMN IF NOT EXISTS branch_id VARCHAR(32) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS believed VARCHAR(16) NOT NULL DEFAULT '';
COMMENT ON COLUMN saga_acts.branch_id IS 'the branch of an action on one branch; empty for other actions';
COMMENT ON COLUMN saga_acts.believed IS 'state of the branch that the operator believes: confirmed or cancelled; empty for other actions';

ALTER TABLE saga_barrier
  ADD COLUMN IF NOT EXISTS caller VARCHAR(128) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS kind VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS input VARCHAR(32) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_op VARCHAR(16) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_by VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS call_since TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS call_until TIMESTAMPTZ;
COMMENT ON COLUMN saga_barrier.caller IS 'log id of the engine that called, see saga_schema; empty if the call had none';
COMMENT ON COLUMN saga_barrier.kind IS 'kind of the branch';
COMMENT ON COLUMN saga_barrier.input IS 'the first half of the SHA-256 of the payload, in hexadecimal';
COMMENT ON COLUMN saga_barrier.call_op IS 'operation of an external branch that is under way or has an unknown end; empty otherwise';
COMMENT ON COLUMN saga_barrier.call_by IS 'instance that makes this call';
COMMENT ON COLUMN saga_barrier.call_since IS 'when this call began';
COMMENT ON COLUMN saga_barrier.call_until IS 'latest end of this call';

ALTER TABLE saga_outbox
  ADD COLUMN IF NOT EXISTS message_id VARCHAR(200) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS destination VARCHAR(255) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS order_key VARCHAR(255) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS delay BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN saga_outbox.message_id IS 'id of the message, made by Try; empty in rows of schema version 1, which have the id gid/branch_id';
COMMENT ON COLUMN saga_outbox.destination IS 'stream to publish it on';
COMMENT ON COLUMN saga_outbox.order_key IS 'ordering key; empty if it has none';
COMMENT ON COLUMN saga_outbox.delay IS 'delay of its publishing after its Confirm, in microseconds';

CREATE TABLE IF NOT EXISTS saga_outbox_order (
  destination VARCHAR(255) NOT NULL,
  order_key VARCHAR(255) NOT NULL,
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  PRIMARY KEY (destination, order_key, gid, branch_id)
);
COMMENT ON TABLE saga_outbox_order IS 'messages with an ordering key that are neither published nor discarded';
COMMENT ON COLUMN saga_outbox_order.destination IS 'the stream';
COMMENT ON COLUMN saga_outbox_order.order_key IS 'the ordering key';
COMMENT ON COLUMN saga_outbox_order.gid IS 'the transaction';
COMMENT ON COLUMN saga_outbox_order.branch_id IS 'the branch';

CREATE TABLE IF NOT EXISTS saga_outbox_delayed (
  message_id VARCHAR(200) NOT NULL,
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  destination VARCHAR(255) NOT NULL,
  subject VARCHAR(255) NOT NULL,
  headers TEXT NOT NULL,
  data BYTEA NOT NULL,
  due_at TIMESTAMPTZ NOT NULL,
  claimed_by VARCHAR(64) NOT NULL DEFAULT '',
  claimed_until TIMESTAMPTZ,
  failures INT NOT NULL DEFAULT 0,
  error VARCHAR(1024) NOT NULL DEFAULT '',
  PRIMARY KEY (message_id)
);
CREATE INDEX IF NOT EXISTS saga_outbox_delayed_due ON saga_outbox_delayed (destination, due_at);
COMMENT ON TABLE saga_outbox_delayed IS 'confirmed messages that wait until they are due; a row is removed when its message is published';
COMMENT ON COLUMN saga_outbox_delayed.message_id IS 'id of the message';
COMMENT ON COLUMN saga_outbox_delayed.gid IS 'the transaction, which is finished';
COMMENT ON COLUMN saga_outbox_delayed.branch_id IS 'the branch';
COMMENT ON COLUMN saga_outbox_delayed.destination IS 'stream to publish it on';
COMMENT ON COLUMN saga_outbox_delayed.subject IS 'subject of the message';
COMMENT ON COLUMN saga_outbox_delayed.headers IS 'headers, JSON object of lists';
COMMENT ON COLUMN saga_outbox_delayed.data IS 'the message itself';
COMMENT ON COLUMN saga_outbox_delayed.due_at IS 'earliest time to publish it';
COMMENT ON COLUMN saga_outbox_delayed.claimed_by IS 'the attempt that publishes it';
COMMENT ON COLUMN saga_outbox_delayed.claimed_until IS 'until when no other attempt may take it';
COMMENT ON COLUMN saga_outbox_delayed.failures IS 'failed attempts';
COMMENT ON COLUMN saga_outbox_delayed.error IS 'error of the last attempt';

ALTER TABLE saga_inbox
  ALTER COLUMN handled_at DROP NOT NULL,
  ADD COLUMN IF NOT EXISTS stream VARCHAR(255) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS sequence BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS received_at TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS attempts INT NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS error VARCHAR(1024) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS begun_by VARCHAR(64) NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS buried_at TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS resent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE saga_inbox
  DROP CONSTRAINT IF EXISTS saga_inbox_pkey,
  ADD CONSTRAINT saga_inbox_pkey PRIMARY KEY (consumer, stream, message_id);
COMMENT ON TABLE saga_inbox IS 'messages that each consumer has received: handled, failed so far, or dead letters';
COMMENT ON COLUMN saga_inbox.stream IS 'the stream; empty in a row of schema version 1';
COMMENT ON COLUMN saga_inbox.sequence IS 'highest sequence of its deliveries in that stream; 0 if it came from the dead letters';
COMMENT ON COLUMN saga_inbox.received_at IS 'when it first came; NULL in a row of schema version 1';
COMMENT ON COLUMN saga_inbox.handled_at IS 'when its handler succeeded, written in the same local transaction; NULL before';
COMMENT ON COLUMN saga_inbox.attempts IS 'number of times that its handler failed or ended the process';
COMMENT ON COLUMN saga_inbox.error IS 'error of the last attempt';
COMMENT ON COLUMN saga_inbox.begun_by IS 'process with a handler that has begun and not ended, with a plus if several messages share its local transaction; empty otherwise';
COMMENT ON COLUMN saga_inbox.buried_at IS 'when it became a dead letter; NULL otherwise';
COMMENT ON COLUMN saga_inbox.resent IS 'sequence of the last letter that was sent again and received, in the stream of the dead letters; 0 if there is none';

CREATE TABLE IF NOT EXISTS saga_inbox_cleaning (
  consumer VARCHAR(64) NOT NULL,
  stream VARCHAR(255) NOT NULL,
  after_id VARCHAR(200) NOT NULL,
  next_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (consumer, stream)
);
COMMENT ON TABLE saga_inbox_cleaning IS 'progress of the removal of old inbox rows; one row per consumer and stream';
COMMENT ON COLUMN saga_inbox_cleaning.consumer IS 'durable name of the consumer';
COMMENT ON COLUMN saga_inbox_cleaning.stream IS 'the stream';
COMMENT ON COLUMN saga_inbox_cleaning.after_id IS 'last message that was looked at in this round';
COMMENT ON COLUMN saga_inbox_cleaning.next_at IS 'when any process may take the next page';

CREATE TABLE IF NOT EXISTS saga_letter_acts (
  stream VARCHAR(255) NOT NULL,
  consumer VARCHAR(64) NOT NULL,
  message_id VARCHAR(200) NOT NULL,
  number INT NOT NULL,
  act VARCHAR(16) NOT NULL,
  letter BIGINT NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  acted_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (stream, consumer, message_id, number)
);
COMMENT ON TABLE saga_letter_acts IS 'actions of operators on dead letters, and why';
COMMENT ON COLUMN saga_letter_acts.stream IS 'the stream that the message came from';
COMMENT ON COLUMN saga_letter_acts.consumer IS 'the consumer that failed to handle it';
COMMENT ON COLUMN saga_letter_acts.message_id IS 'the message';
COMMENT ON COLUMN saga_letter_acts.number IS 'number of the action on it, from 1';
COMMENT ON COLUMN saga_letter_acts.act IS 'the action: resend or delete';
COMMENT ON COLUMN saga_letter_acts.letter IS 'sequence of the dead letter in its stream';
COMMENT ON COLUMN saga_letter_acts.who IS 'who did it';
COMMENT ON COLUMN saga_letter_acts.why IS 'why';
COMMENT ON COLUMN saga_letter_acts.acted_at IS 'when';

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
COMMENT ON TABLE saga_stock_holds IS 'pieces that each transaction holds or has bought, if the stock keeps holds';
COMMENT ON COLUMN saga_stock_holds.gid IS 'the transaction that locked';
COMMENT ON COLUMN saga_stock_holds.branch_id IS 'the branch within it';
COMMENT ON COLUMN saga_stock_holds.sku IS 'the article';
COMMENT ON COLUMN saga_stock_holds.locked_at IS 'when it was locked; a gid that is used again after the retention of the log has another row';
COMMENT ON COLUMN saga_stock_holds.quantity IS 'pieces that were locked';
COMMENT ON COLUMN saga_stock_holds.locked IS 'pieces that are locked now; less than quantity after an adjust, see saga_stock_acts';
COMMENT ON COLUMN saga_stock_holds.sold IS 'pieces that the Confirm sold';
COMMENT ON COLUMN saga_stock_holds.returned IS 'sold pieces that were returned';
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
COMMENT ON TABLE saga_stock_acts IS 'actions of people on holds, and why';
COMMENT ON COLUMN saga_stock_acts.gid IS 'the transaction of the hold';
COMMENT ON COLUMN saga_stock_acts.branch_id IS 'its branch';
COMMENT ON COLUMN saga_stock_acts.sku IS 'its article';
COMMENT ON COLUMN saga_stock_acts.number IS 'number of the action on it, from 1';
COMMENT ON COLUMN saga_stock_acts.act IS 'the action: adjust, before the Confirm, or return, after it';
COMMENT ON COLUMN saga_stock_acts.pieces IS 'number of pieces that became available';
COMMENT ON COLUMN saga_stock_acts.who IS 'who did it';
COMMENT ON COLUMN saga_stock_acts.why IS 'why';
COMMENT ON COLUMN saga_stock_acts.acted_at IS 'when';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
