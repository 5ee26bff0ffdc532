-- Schema of tccsaga for PostgreSQL 12 and newer.
-- Every statement may run again.

-- This is the complete version 3. Folder upgrade has the steps from older versions.

CREATE TABLE IF NOT EXISTS saga_schema (
  id SMALLINT NOT NULL,
  version INT NOT NULL,
  complete SMALLINT NOT NULL,
  log_id VARCHAR(64) NOT NULL DEFAULT '',
  PRIMARY KEY (id)
);
COMMENT ON TABLE saga_schema IS 'the installed version of this schema';
COMMENT ON COLUMN saga_schema.id IS 'always 1, so that there is one row';
COMMENT ON COLUMN saga_schema.version IS 'version of the installed schema, or of the one that a migration installs';
COMMENT ON COLUMN saga_schema.complete IS '0 while a migration runs or after it broke off, 1 after it completed';
COMMENT ON COLUMN saga_schema.log_id IS 'id of this log, which its engine sends with its calls; made at installation';

INSERT INTO saga_schema (id, version, complete, log_id) VALUES (1, 3, 0, md5(random()::text || clock_timestamp()::text)) ON CONFLICT (id) DO UPDATE SET version = 3, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions (
  gid VARCHAR(128) NOT NULL,
  pattern VARCHAR(16) NOT NULL,
  state VARCHAR(16) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  reason VARCHAR(1024) NOT NULL DEFAULT '',
  reason_code VARCHAR(64) NOT NULL DEFAULT '',
  reason_branch VARCHAR(32) NOT NULL DEFAULT '',
  decided_by VARCHAR(16) NOT NULL,
  attention VARCHAR(1024) NOT NULL DEFAULT '',
  owner VARCHAR(64) NOT NULL,
  epoch BIGINT NOT NULL DEFAULT 1,
  failures INT NOT NULL DEFAULT 0,
  created_at TIMESTAMPTZ NOT NULL,
  deadline_at TIMESTAMPTZ NOT NULL,
  due_at TIMESTAMPTZ,
  decided_at TIMESTAMPTZ,
  finished_at TIMESTAMPTZ,
  paused_at TIMESTAMPTZ,
  try_attempts INT NOT NULL DEFAULT 0,
  parent VARCHAR(255) NOT NULL DEFAULT '',
  prepared_at TIMESTAMPTZ,
  trace VARCHAR(255) NOT NULL DEFAULT '',
  PRIMARY KEY (gid)
);
CREATE INDEX IF NOT EXISTS saga_transactions_due ON saga_transactions (due_at);
CREATE INDEX IF NOT EXISTS saga_transactions_created ON saga_transactions (created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_finished ON saga_transactions (finished_at, created_at, gid);
COMMENT ON TABLE saga_transactions IS 'one row per global transaction: its state and its decision';
COMMENT ON COLUMN saga_transactions.gid IS 'global id of the transaction, chosen by the caller';
COMMENT ON COLUMN saga_transactions.pattern IS 'the pattern: tcc, saga, ...';
COMMENT ON COLUMN saga_transactions.state IS 'trying, then confirming and confirmed, or cancelling and cancelled';
COMMENT ON COLUMN saga_transactions.digest IS 'SHA-256 of the plan, which a repeated request must match; empty if it began without a plan';
COMMENT ON COLUMN saga_transactions.reason IS 'why it was cancelled; empty otherwise';
COMMENT ON COLUMN saga_transactions.reason_code IS 'the same for programs: the code of the branch that rejected, or a code of the engine; empty if it is not cancelled';
COMMENT ON COLUMN saga_transactions.reason_branch IS 'the branch with the Try that was the reason; empty if no Try was';
COMMENT ON COLUMN saga_transactions.decided_by IS 'who decided: caller, deadline, recovery or operator; empty before the decision';
COMMENT ON COLUMN saga_transactions.attention IS 'why a person should look at it; empty otherwise';
COMMENT ON COLUMN saga_transactions.owner IS 'instance that drives it, see saga_instances; empty while an open transaction waits for its decision';
COMMENT ON COLUMN saga_transactions.epoch IS 'rises with every claim by an instance; a write with an older epoch has no effect';
COMMENT ON COLUMN saga_transactions.failures IS 'failed branch calls so far, see saga_attempts';
COMMENT ON COLUMN saga_transactions.created_at IS 'when it began';
COMMENT ON COLUMN saga_transactions.deadline_at IS 'when it is cancelled if it is still undecided';
COMMENT ON COLUMN saga_transactions.due_at IS 'when an instance has to look at it next; NULL once it is finished';
COMMENT ON COLUMN saga_transactions.decided_at IS 'when it was decided';
COMMENT ON COLUMN saga_transactions.finished_at IS 'when the last branch was confirmed or cancelled';
COMMENT ON COLUMN saga_transactions.paused_at IS 'when an operator paused it; NULL if it is not paused';
COMMENT ON COLUMN saga_transactions.try_attempts IS 'how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it';
COMMENT ON COLUMN saga_transactions.parent IS 'of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise';
COMMENT ON COLUMN saga_transactions.prepared_at IS 'when a nested transaction was prepared: it has no deadline from then on; NULL otherwise';
COMMENT ON COLUMN saga_transactions.trace IS 'trace context of the caller that began it, as W3C traceparent; empty if it had none';

CREATE TABLE IF NOT EXISTS saga_branches (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  payload TEXT NOT NULL,
  stage INT NOT NULL DEFAULT 0,
  role VARCHAR(16) NOT NULL DEFAULT '',
  tried_at TIMESTAMPTZ,
  done_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_branches IS 'the branches of each transaction, recorded before they are called';
COMMENT ON COLUMN saga_branches.gid IS 'the transaction';
COMMENT ON COLUMN saga_branches.branch_id IS 'the branch within it: 01, 02, ...';
COMMENT ON COLUMN saga_branches.kind IS 'kind of branch, as registered: stock.lock, message.publish, ...';
COMMENT ON COLUMN saga_branches.payload IS 'input of Try, Confirm and Cancel, JSON';
COMMENT ON COLUMN saga_branches.stage IS 'place in the order of the calls: branches of one stage are called in parallel; 0 in a transaction without an order of Cancels';
COMMENT ON COLUMN saga_branches.role IS 'decides: the COMMIT of its Try is the decision; after: its Try is called after the decision; empty for the others';
COMMENT ON COLUMN saga_branches.tried_at IS 'when its Try succeeded, in an open transaction, which cannot be confirmed before; NULL in a transaction with a plan';
COMMENT ON COLUMN saga_branches.done_at IS 'when it was confirmed or cancelled, if that was before the end of its transaction';

CREATE TABLE IF NOT EXISTS saga_results (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  result TEXT NOT NULL,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_results IS 'results of Trys, which later calls of the transaction get';
COMMENT ON COLUMN saga_results.gid IS 'the transaction';
COMMENT ON COLUMN saga_results.branch_id IS 'the branch';
COMMENT ON COLUMN saga_results.result IS 'what its Try returned, JSON';

CREATE TABLE IF NOT EXISTS saga_attempts (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  operation VARCHAR(16) NOT NULL,
  attempt INT NOT NULL,
  error VARCHAR(2048) NOT NULL,
  code VARCHAR(64) NOT NULL DEFAULT '',
  instance VARCHAR(64) NOT NULL,
  failed_at TIMESTAMPTZ NOT NULL,
  next_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id, operation, attempt)
);
COMMENT ON TABLE saga_attempts IS 'failed branch calls; no row without a failure';
COMMENT ON COLUMN saga_attempts.gid IS 'the transaction';
COMMENT ON COLUMN saga_attempts.branch_id IS 'the branch';
COMMENT ON COLUMN saga_attempts.operation IS 'the operation that failed: try, confirm or cancel';
COMMENT ON COLUMN saga_attempts.attempt IS 'number of the attempt, from 1; the oldest rows of a branch are removed if there are many';
COMMENT ON COLUMN saga_attempts.error IS 'error of the call';
COMMENT ON COLUMN saga_attempts.code IS 'the same for programs: conflict, if no repetition can succeed; the code of a rejection; otherwise empty';
COMMENT ON COLUMN saga_attempts.instance IS 'instance that made the call';
COMMENT ON COLUMN saga_attempts.failed_at IS 'when it failed';
COMMENT ON COLUMN saga_attempts.next_at IS 'earliest time of the next call; NULL for a Try, which is not repeated';

CREATE TABLE IF NOT EXISTS saga_instances (
  instance VARCHAR(64) NOT NULL,
  host VARCHAR(255) NOT NULL,
  pid BIGINT NOT NULL,
  started_at TIMESTAMPTZ NOT NULL,
  lease_until TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (instance)
);
COMMENT ON TABLE saga_instances IS 'running engines and their leases';
COMMENT ON COLUMN saga_instances.instance IS 'id of a running engine, new at every start';
COMMENT ON COLUMN saga_instances.host IS 'machine it runs on';
COMMENT ON COLUMN saga_instances.pid IS 'process it runs in';
COMMENT ON COLUMN saga_instances.started_at IS 'when it started';
COMMENT ON COLUMN saga_instances.lease_until IS 'end of its lease of its transactions; renewed by its heartbeat';

CREATE TABLE IF NOT EXISTS saga_kinds (
  kind VARCHAR(64) NOT NULL,
  paused_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (kind)
);
COMMENT ON TABLE saga_kinds IS 'kinds of branch that an operator has paused';
COMMENT ON COLUMN saga_kinds.kind IS 'the kind of branch';
COMMENT ON COLUMN saga_kinds.paused_at IS 'when it was paused';

CREATE TABLE IF NOT EXISTS saga_acts (
  gid VARCHAR(128) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  number INT NOT NULL,
  act VARCHAR(16) NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  branch_id VARCHAR(32) NOT NULL DEFAULT '',
  believed VARCHAR(16) NOT NULL DEFAULT '',
  acted_at TIMESTAMPTZ NOT NULL,
  bulk_id VARCHAR(36) NOT NULL DEFAULT '',
  PRIMARY KEY (gid, kind, number)
);
CREATE INDEX IF NOT EXISTS saga_acts_acted ON saga_acts (acted_at);
COMMENT ON TABLE saga_acts IS 'actions of operators, and why';
COMMENT ON COLUMN saga_acts.gid IS 'the transaction; empty for an action on a kind of branch';
COMMENT ON COLUMN saga_acts.kind IS 'the kind of branch; empty for an action on a transaction';
COMMENT ON COLUMN saga_acts.number IS 'number of the action on it, from 1';
COMMENT ON COLUMN saga_acts.act IS 'the action: retry, pause, resume, confirm, cancel or resolve';
COMMENT ON COLUMN saga_acts.who IS 'who did it';
COMMENT ON COLUMN saga_acts.why IS 'why';
COMMENT ON COLUMN saga_acts.branch_id IS 'the branch of an action on one branch; empty for other actions';
COMMENT ON COLUMN saga_acts.believed IS 'state of the branch that the operator believes: confirmed or cancelled; empty for other actions';
COMMENT ON COLUMN saga_acts.acted_at IS 'when';
COMMENT ON COLUMN saga_acts.bulk_id IS 'the bulk action that it is part of, see saga_bulk_acts; empty if it is none';

CREATE TABLE IF NOT EXISTS saga_labels (
  name VARCHAR(32) NOT NULL,
  value VARCHAR(128) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  gid VARCHAR(128) NOT NULL,
  PRIMARY KEY (gid, name)
);
CREATE INDEX IF NOT EXISTS saga_labels_value ON saga_labels (value, created_at, gid);
COMMENT ON TABLE saga_labels IS 'labels that callers gave to transactions, such as order numbers';
COMMENT ON COLUMN saga_labels.name IS 'the name: customer, order, ...';
COMMENT ON COLUMN saga_labels.value IS 'the value';
COMMENT ON COLUMN saga_labels.created_at IS 'when the transaction began';
COMMENT ON COLUMN saga_labels.gid IS 'the transaction';

CREATE TABLE IF NOT EXISTS saga_bulk_acts (
  id VARCHAR(36) NOT NULL,
  act VARCHAR(16) NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  query TEXT NOT NULL,
  total INT NOT NULL,
  done INT NOT NULL DEFAULT 0,
  refused INT NOT NULL DEFAULT 0,
  failed INT NOT NULL DEFAULT 0,
  created_at TIMESTAMPTZ NOT NULL,
  started_at TIMESTAMPTZ,
  finished_at TIMESTAMPTZ,
  PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS saga_bulk_acts_created ON saga_bulk_acts (created_at);
COMMENT ON TABLE saga_bulk_acts IS 'actions of operators on many transactions, each with a fixed list';
COMMENT ON COLUMN saga_bulk_acts.id IS 'id of the bulk action';
COMMENT ON COLUMN saga_bulk_acts.act IS 'the action: retry, pause, resume, confirm or cancel';
COMMENT ON COLUMN saga_bulk_acts.who IS 'who does it';
COMMENT ON COLUMN saga_bulk_acts.why IS 'why';
COMMENT ON COLUMN saga_bulk_acts.query IS 'the conditions that selected the transactions, JSON';
COMMENT ON COLUMN saga_bulk_acts.total IS 'number of transactions in the list; -1 while the list is being written or removed';
COMMENT ON COLUMN saga_bulk_acts.done IS 'of these, how many were acted on; written at the end';
COMMENT ON COLUMN saga_bulk_acts.refused IS 'of these, how many the action had no effect on any more; written at the end';
COMMENT ON COLUMN saga_bulk_acts.failed IS 'of these, how many the action failed on; written at the end';
COMMENT ON COLUMN saga_bulk_acts.created_at IS 'when the list was made';
COMMENT ON COLUMN saga_bulk_acts.started_at IS 'when a person confirmed the number, and it began; NULL before';
COMMENT ON COLUMN saga_bulk_acts.finished_at IS 'when every transaction of the list was acted on; NULL before';

CREATE TABLE IF NOT EXISTS saga_bulk_targets (
  bulk_id VARCHAR(36) NOT NULL,
  number INT NOT NULL,
  gid VARCHAR(128) NOT NULL,
  result VARCHAR(16) NOT NULL DEFAULT '',
  error VARCHAR(1024) NOT NULL DEFAULT '',
  acted_at TIMESTAMPTZ,
  PRIMARY KEY (bulk_id, number)
);
COMMENT ON TABLE saga_bulk_targets IS 'the transactions of each bulk action, and what was done to each';
COMMENT ON COLUMN saga_bulk_targets.bulk_id IS 'the bulk action';
COMMENT ON COLUMN saga_bulk_targets.number IS 'place in the list, from 1';
COMMENT ON COLUMN saga_bulk_targets.gid IS 'the transaction';
COMMENT ON COLUMN saga_bulk_targets.result IS 'done, refused or failed; empty before';
COMMENT ON COLUMN saga_bulk_targets.error IS 'why it was refused or failed';
COMMENT ON COLUMN saga_bulk_targets.acted_at IS 'when; NULL before';

CREATE TABLE IF NOT EXISTS saga_cleaning (
  id SMALLINT NOT NULL,
  after_gid VARCHAR(128) NOT NULL,
  next_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (id)
);
COMMENT ON TABLE saga_cleaning IS 'progress of the removal of old transactions; one row';
COMMENT ON COLUMN saga_cleaning.id IS 'always 1, so that there is one row';
COMMENT ON COLUMN saga_cleaning.after_gid IS 'last gid that was looked at in this round';
COMMENT ON COLUMN saga_cleaning.next_at IS 'when any instance may take the next batch';

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', CURRENT_TIMESTAMP) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS saga_barrier (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  state VARCHAR(16) NOT NULL,
  caller VARCHAR(128) NOT NULL DEFAULT '',
  kind VARCHAR(64) NOT NULL DEFAULT '',
  input VARCHAR(32) NOT NULL DEFAULT '',
  tried_at TIMESTAMPTZ,
  confirmed_at TIMESTAMPTZ,
  cancelled_at TIMESTAMPTZ,
  turned_away INT NOT NULL DEFAULT 0,
  turned_away_at TIMESTAMPTZ,
  call_op VARCHAR(16) NOT NULL DEFAULT '',
  call_by VARCHAR(64) NOT NULL DEFAULT '',
  call_since TIMESTAMPTZ,
  call_until TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_barrier IS 'operations of each branch, written in the local transaction of the branch';
COMMENT ON COLUMN saga_barrier.gid IS 'the transaction';
COMMENT ON COLUMN saga_barrier.branch_id IS 'the branch within it';
COMMENT ON COLUMN saga_barrier.state IS 'tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a later Try is refused';
COMMENT ON COLUMN saga_barrier.caller IS 'log id of the engine that called, see saga_schema; empty if the call had none';
COMMENT ON COLUMN saga_barrier.kind IS 'kind of the branch';
COMMENT ON COLUMN saga_barrier.input IS 'the first half of the SHA-256 of the payload, in hexadecimal';
COMMENT ON COLUMN saga_barrier.tried_at IS 'when Try ran; NULL if it never did';
COMMENT ON COLUMN saga_barrier.confirmed_at IS 'when Confirm ran';
COMMENT ON COLUMN saga_barrier.cancelled_at IS 'when Cancel ran, or when it found nothing to cancel';
COMMENT ON COLUMN saga_barrier.turned_away IS 'number of calls that were refused or skipped: repeated, late or in conflict';
COMMENT ON COLUMN saga_barrier.turned_away_at IS 'when the last of these calls came';
COMMENT ON COLUMN saga_barrier.call_op IS 'operation of an external branch that is under way or has an unknown end; empty otherwise';
COMMENT ON COLUMN saga_barrier.call_by IS 'instance that makes this call';
COMMENT ON COLUMN saga_barrier.call_since IS 'when this call began';
COMMENT ON COLUMN saga_barrier.call_until IS 'latest end of this call';

CREATE TABLE IF NOT EXISTS saga_inputs (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  payload TEXT NOT NULL,
  tried_at TIMESTAMPTZ NOT NULL,
  ask_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (gid, branch_id)
);
CREATE INDEX IF NOT EXISTS saga_inputs_ask ON saga_inputs (ask_at);
COMMENT ON TABLE saga_inputs IS 'inputs of branches of a service that asks the engine for outcomes';
COMMENT ON COLUMN saga_inputs.gid IS 'the transaction';
COMMENT ON COLUMN saga_inputs.branch_id IS 'the branch';
COMMENT ON COLUMN saga_inputs.payload IS 'input of Try, Confirm and Cancel, JSON';
COMMENT ON COLUMN saga_inputs.tried_at IS 'when its Try ran';
COMMENT ON COLUMN saga_inputs.ask_at IS 'earliest time to ask for the outcome';

CREATE TABLE IF NOT EXISTS saga_stock (
  sku VARCHAR(64) COLLATE "C" NOT NULL,
  available BIGINT NOT NULL,
  locked BIGINT NOT NULL,
  sold BIGINT NOT NULL,
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
);
COMMENT ON TABLE saga_stock IS 'stock of the branch stock.lock; available + locked + sold is the number of pieces put in';
COMMENT ON COLUMN saga_stock.sku IS 'the article';
COMMENT ON COLUMN saga_stock.available IS 'free to be locked';
COMMENT ON COLUMN saga_stock.locked IS 'locked by transactions that are not finished';
COMMENT ON COLUMN saga_stock.sold IS 'sold by confirmed transactions';

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

CREATE TABLE IF NOT EXISTS saga_outbox (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  state VARCHAR(16) NOT NULL,
  subject VARCHAR(255) NOT NULL,
  headers TEXT NOT NULL,
  data BYTEA NOT NULL,
  prepared_at TIMESTAMPTZ NOT NULL,
  published_at TIMESTAMPTZ,
  discarded_at TIMESTAMPTZ,
  stream VARCHAR(255) NOT NULL DEFAULT '',
  sequence BIGINT NOT NULL DEFAULT 0,
  message_id VARCHAR(200) NOT NULL DEFAULT '',
  destination VARCHAR(255) NOT NULL DEFAULT '',
  order_key VARCHAR(255) NOT NULL DEFAULT '',
  delay BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_outbox IS 'messages of the branch message.publish';
COMMENT ON COLUMN saga_outbox.gid IS 'the transaction';
COMMENT ON COLUMN saga_outbox.branch_id IS 'the branch';
COMMENT ON COLUMN saga_outbox.state IS 'prepared: not visible to anybody yet; delayed: confirmed and not due yet; published; or discarded';
COMMENT ON COLUMN saga_outbox.subject IS 'subject of the message';
COMMENT ON COLUMN saga_outbox.headers IS 'headers, JSON object of lists';
COMMENT ON COLUMN saga_outbox.data IS 'the message itself';
COMMENT ON COLUMN saga_outbox.prepared_at IS 'when Try wrote it';
COMMENT ON COLUMN saga_outbox.published_at IS 'when the broker acknowledged it';
COMMENT ON COLUMN saga_outbox.discarded_at IS 'when Cancel discarded it';
COMMENT ON COLUMN saga_outbox.stream IS 'stream that stored it; empty before';
COMMENT ON COLUMN saga_outbox.sequence IS 'its sequence in that stream; 0 before';
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
  after_id VARCHAR(200) NOT NULL DEFAULT '',
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
COMMENT ON TABLE saga_outbox_delayed IS 'messages that wait to be published: of confirmed transactions until they are due, and of PublishIn; a row is removed when its message is published';
COMMENT ON COLUMN saga_outbox_delayed.message_id IS 'id of the message';
COMMENT ON COLUMN saga_outbox_delayed.gid IS 'the transaction, which is finished; empty if PublishIn wrote it';
COMMENT ON COLUMN saga_outbox_delayed.branch_id IS 'the branch; empty if PublishIn wrote it';
COMMENT ON COLUMN saga_outbox_delayed.after_id IS 'message of the same call and subject that has to be published before it; empty if there is none';
COMMENT ON COLUMN saga_outbox_delayed.destination IS 'stream to publish it on';
COMMENT ON COLUMN saga_outbox_delayed.subject IS 'subject of the message';
COMMENT ON COLUMN saga_outbox_delayed.headers IS 'headers, JSON object of lists';
COMMENT ON COLUMN saga_outbox_delayed.data IS 'the message itself';
COMMENT ON COLUMN saga_outbox_delayed.due_at IS 'earliest time to publish it';
COMMENT ON COLUMN saga_outbox_delayed.claimed_by IS 'the attempt that publishes it';
COMMENT ON COLUMN saga_outbox_delayed.claimed_until IS 'until when no other attempt may take it';
COMMENT ON COLUMN saga_outbox_delayed.failures IS 'failed attempts';
COMMENT ON COLUMN saga_outbox_delayed.error IS 'error of the last attempt';

CREATE TABLE IF NOT EXISTS saga_inbox (
  consumer VARCHAR(64) NOT NULL,
  stream VARCHAR(255) NOT NULL DEFAULT '',
  message_id VARCHAR(200) NOT NULL,
  sequence BIGINT NOT NULL DEFAULT 0,
  received_at TIMESTAMPTZ,
  handled_at TIMESTAMPTZ,
  attempts INT NOT NULL DEFAULT 0,
  error VARCHAR(1024) NOT NULL DEFAULT '',
  begun_by VARCHAR(64) NOT NULL DEFAULT '',
  buried_at TIMESTAMPTZ,
  resent BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (consumer, stream, message_id)
);
COMMENT ON TABLE saga_inbox IS 'messages that each consumer has received: handled, failed so far, or dead letters';
COMMENT ON COLUMN saga_inbox.consumer IS 'durable name of the consumer';
COMMENT ON COLUMN saga_inbox.stream IS 'the stream; empty in a row of schema version 1';
COMMENT ON COLUMN saga_inbox.message_id IS 'id of the message, the same in every delivery';
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
CREATE INDEX IF NOT EXISTS saga_letter_acts_acted ON saga_letter_acts (stream, acted_at);
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

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
