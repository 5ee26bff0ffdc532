-- Schema of tccsaga for PostgreSQL 12 and newer.
-- Every statement may run again.

-- version 1

CREATE TABLE IF NOT EXISTS saga_schema (
  id SMALLINT NOT NULL,
  version INT NOT NULL,
  complete SMALLINT NOT NULL,
  PRIMARY KEY (id)
);
COMMENT ON TABLE saga_schema IS 'which version of this schema is installed';
COMMENT ON COLUMN saga_schema.id IS 'always 1, so that there is one row';
COMMENT ON COLUMN saga_schema.version IS 'version of the schema that is, or is being, installed';
COMMENT ON COLUMN saga_schema.complete IS '0 while a migration is under way or was broken off, 1 after it';

INSERT INTO saga_schema (id, version, complete) VALUES (1, 1, 0) ON CONFLICT (id) DO UPDATE SET version = 1, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions (
  gid VARCHAR(128) NOT NULL,
  pattern VARCHAR(16) NOT NULL,
  state VARCHAR(16) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  reason VARCHAR(1024) NOT NULL DEFAULT '',
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
  PRIMARY KEY (gid)
);
CREATE INDEX IF NOT EXISTS saga_transactions_due ON saga_transactions (due_at);
COMMENT ON TABLE saga_transactions IS 'one row per global transaction: its state and its decision';
COMMENT ON COLUMN saga_transactions.gid IS 'global id of the transaction, chosen by the caller';
COMMENT ON COLUMN saga_transactions.pattern IS 'the pattern it follows: tcc';
COMMENT ON COLUMN saga_transactions.state IS 'trying, then confirming and confirmed, or cancelling and cancelled';
COMMENT ON COLUMN saga_transactions.digest IS 'SHA-256 of the plan, which a repeated start must match; empty when begun without a plan';
COMMENT ON COLUMN saga_transactions.reason IS 'why it was cancelled; empty otherwise';
COMMENT ON COLUMN saga_transactions.decided_by IS 'who decided: caller, deadline, recovery or operator; empty before the decision';
COMMENT ON COLUMN saga_transactions.attention IS 'why a person should look at it; empty when nobody has to';
COMMENT ON COLUMN saga_transactions.owner IS 'instance that drives it, see saga_instances; empty while an open transaction waits for its decision';
COMMENT ON COLUMN saga_transactions.epoch IS 'goes up with every change of driver; a write by a driver with an older epoch has no effect';
COMMENT ON COLUMN saga_transactions.failures IS 'failed branch calls so far, see saga_attempts';
COMMENT ON COLUMN saga_transactions.created_at IS 'when it began';
COMMENT ON COLUMN saga_transactions.deadline_at IS 'when it is cancelled if it is still undecided';
COMMENT ON COLUMN saga_transactions.due_at IS 'when somebody has to look at it next; NULL once it is finished';
COMMENT ON COLUMN saga_transactions.decided_at IS 'when it was decided';
COMMENT ON COLUMN saga_transactions.finished_at IS 'when the last branch was confirmed or cancelled';
COMMENT ON COLUMN saga_transactions.paused_at IS 'since when an operator has paused it; NULL otherwise';

CREATE TABLE IF NOT EXISTS saga_branches (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  payload TEXT NOT NULL,
  tried_at TIMESTAMPTZ,
  done_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_branches IS 'the branches of each transaction, named before they are called';
COMMENT ON COLUMN saga_branches.gid IS 'the transaction';
COMMENT ON COLUMN saga_branches.branch_id IS 'the branch within it: 01, 02, ...';
COMMENT ON COLUMN saga_branches.kind IS 'kind of branch, as registered: stock.lock, message.publish, ...';
COMMENT ON COLUMN saga_branches.payload IS 'what Try, Confirm and Cancel are called with, JSON';
COMMENT ON COLUMN saga_branches.tried_at IS 'when its Try had succeeded, in an open transaction, which cannot be confirmed before; NULL in one with a plan';
COMMENT ON COLUMN saga_branches.done_at IS 'when it was confirmed or cancelled, if that was before its transaction finished as a whole';

CREATE TABLE IF NOT EXISTS saga_attempts (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  operation VARCHAR(16) NOT NULL,
  attempt INT NOT NULL,
  error VARCHAR(2048) NOT NULL,
  instance VARCHAR(64) NOT NULL,
  failed_at TIMESTAMPTZ NOT NULL,
  next_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id, operation, attempt)
);
COMMENT ON TABLE saga_attempts IS 'failed branch calls; no row where nothing failed';
COMMENT ON COLUMN saga_attempts.gid IS 'the transaction';
COMMENT ON COLUMN saga_attempts.branch_id IS 'the branch';
COMMENT ON COLUMN saga_attempts.operation IS 'the operation that failed: try, confirm or cancel';
COMMENT ON COLUMN saga_attempts.attempt IS 'number of the attempt, from 1; the oldest rows of a branch go when there are many';
COMMENT ON COLUMN saga_attempts.error IS 'what the call said';
COMMENT ON COLUMN saga_attempts.instance IS 'instance that made the call';
COMMENT ON COLUMN saga_attempts.failed_at IS 'when it failed';
COMMENT ON COLUMN saga_attempts.next_at IS 'not before this time it is called again; NULL for a Try, which is not';

CREATE TABLE IF NOT EXISTS saga_instances (
  instance VARCHAR(64) NOT NULL,
  host VARCHAR(255) NOT NULL,
  pid BIGINT NOT NULL,
  started_at TIMESTAMPTZ NOT NULL,
  lease_until TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (instance)
);
COMMENT ON TABLE saga_instances IS 'running orchestrators and their leases';
COMMENT ON COLUMN saga_instances.instance IS 'id of a running orchestrator, new at every start';
COMMENT ON COLUMN saga_instances.host IS 'machine it runs on';
COMMENT ON COLUMN saga_instances.pid IS 'process it runs in';
COMMENT ON COLUMN saga_instances.started_at IS 'when it started';
COMMENT ON COLUMN saga_instances.lease_until IS 'until when its transactions are its own; renewed by its heartbeat';

CREATE TABLE IF NOT EXISTS saga_kinds (
  kind VARCHAR(64) NOT NULL,
  paused_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (kind)
);
COMMENT ON TABLE saga_kinds IS 'kinds of branch that an operator has paused';
COMMENT ON COLUMN saga_kinds.kind IS 'the kind of branch';
COMMENT ON COLUMN saga_kinds.paused_at IS 'since when it is paused';

CREATE TABLE IF NOT EXISTS saga_acts (
  gid VARCHAR(128) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  number INT NOT NULL,
  act VARCHAR(16) NOT NULL,
  who VARCHAR(128) NOT NULL,
  why VARCHAR(1024) NOT NULL,
  acted_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (gid, kind, number)
);
COMMENT ON TABLE saga_acts IS 'what operators have done, and why';
COMMENT ON COLUMN saga_acts.gid IS 'the transaction; empty when it was done to a kind of branch';
COMMENT ON COLUMN saga_acts.kind IS 'the kind of branch; empty when it was done to a transaction';
COMMENT ON COLUMN saga_acts.number IS 'number of the act on it, from 1';
COMMENT ON COLUMN saga_acts.act IS 'what was done: retry, pause, resume, confirm or cancel';
COMMENT ON COLUMN saga_acts.who IS 'who did it';
COMMENT ON COLUMN saga_acts.why IS 'why';
COMMENT ON COLUMN saga_acts.acted_at IS 'when';

CREATE TABLE IF NOT EXISTS saga_cleaning (
  id SMALLINT NOT NULL,
  after_gid VARCHAR(128) NOT NULL,
  next_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (id)
);
COMMENT ON TABLE saga_cleaning IS 'how far the removal of old transactions has come; one row';
COMMENT ON COLUMN saga_cleaning.id IS 'always 1, so that there is one row';
COMMENT ON COLUMN saga_cleaning.after_gid IS 'transactions up to this gid have been looked at in this round';
COMMENT ON COLUMN saga_cleaning.next_at IS 'when the next batch may be taken, by any instance';

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', CURRENT_TIMESTAMP) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS saga_barrier (
  gid VARCHAR(128) NOT NULL,
  branch_id VARCHAR(32) NOT NULL,
  state VARCHAR(16) NOT NULL,
  tried_at TIMESTAMPTZ,
  confirmed_at TIMESTAMPTZ,
  cancelled_at TIMESTAMPTZ,
  turned_away INT NOT NULL DEFAULT 0,
  turned_away_at TIMESTAMPTZ,
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_barrier IS 'what each branch has done, written in its own local transaction';
COMMENT ON COLUMN saga_barrier.gid IS 'the transaction';
COMMENT ON COLUMN saga_barrier.branch_id IS 'the branch within it';
COMMENT ON COLUMN saga_barrier.state IS 'tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a Try that comes now is refused';
COMMENT ON COLUMN saga_barrier.tried_at IS 'when Try ran; NULL if it never did';
COMMENT ON COLUMN saga_barrier.confirmed_at IS 'when Confirm ran';
COMMENT ON COLUMN saga_barrier.cancelled_at IS 'when Cancel ran, or when it found nothing to cancel';
COMMENT ON COLUMN saga_barrier.turned_away IS 'calls refused or skipped since: repeated, late or in conflict';
COMMENT ON COLUMN saga_barrier.turned_away_at IS 'when the last of them came';

CREATE TABLE IF NOT EXISTS saga_stock (
  sku VARCHAR(64) NOT NULL,
  available BIGINT NOT NULL,
  locked BIGINT NOT NULL,
  sold BIGINT NOT NULL,
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
);
COMMENT ON TABLE saga_stock IS 'stock of the branch stock.lock; available + locked + sold is what was put in';
COMMENT ON COLUMN saga_stock.sku IS 'the article';
COMMENT ON COLUMN saga_stock.available IS 'free to be locked';
COMMENT ON COLUMN saga_stock.locked IS 'locked by transactions that are not finished';
COMMENT ON COLUMN saga_stock.sold IS 'taken by confirmed transactions';

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
  PRIMARY KEY (gid, branch_id)
);
COMMENT ON TABLE saga_outbox IS 'messages of the branch message.publish';
COMMENT ON COLUMN saga_outbox.gid IS 'the transaction';
COMMENT ON COLUMN saga_outbox.branch_id IS 'the branch; gid/branch_id is the id of the message';
COMMENT ON COLUMN saga_outbox.state IS 'prepared: not to be seen by anybody yet; published; or discarded';
COMMENT ON COLUMN saga_outbox.subject IS 'subject it is published on';
COMMENT ON COLUMN saga_outbox.headers IS 'headers, JSON object of lists';
COMMENT ON COLUMN saga_outbox.data IS 'the message itself';
COMMENT ON COLUMN saga_outbox.prepared_at IS 'when Try wrote it';
COMMENT ON COLUMN saga_outbox.published_at IS 'when the broker had acknowledged it';
COMMENT ON COLUMN saga_outbox.discarded_at IS 'when Cancel discarded it';
COMMENT ON COLUMN saga_outbox.stream IS 'stream that took it; empty before';
COMMENT ON COLUMN saga_outbox.sequence IS 'its sequence in that stream; 0 before';

CREATE TABLE IF NOT EXISTS saga_inbox (
  consumer VARCHAR(64) NOT NULL,
  message_id VARCHAR(200) NOT NULL,
  handled_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (consumer, message_id)
);
COMMENT ON TABLE saga_inbox IS 'messages handled by each consumer, written in the local transaction of its handler';
COMMENT ON COLUMN saga_inbox.consumer IS 'the consumer, by its durable name';
COMMENT ON COLUMN saga_inbox.message_id IS 'id of the message, the same in every delivery';
COMMENT ON COLUMN saga_inbox.handled_at IS 'when its handler was done';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 1;
