-- Schema of tccsaga for SQLite 3.35 and newer, in rollback or WAL mode.
-- Times are UTC, '2006-01-02 15:04:05.000'. Every statement may run again.

-- version 2, complete; upgrade/ has the steps from older ones

CREATE TABLE IF NOT EXISTS saga_schema ( -- which version of this schema is installed
  id INTEGER NOT NULL, -- always 1, so that there is one row
  version INTEGER NOT NULL, -- version of the schema that is, or is being, installed
  complete INTEGER NOT NULL, -- 0 while a migration is under way or was broken off, 1 after it
  log_id TEXT NOT NULL DEFAULT '', -- names the log in this database, in the calls that its engine makes; made when it is installed
  PRIMARY KEY (id)
);

INSERT INTO saga_schema (id, version, complete, log_id) VALUES (1, 2, 0, lower(hex(randomblob(16)))) ON CONFLICT (id) DO UPDATE SET version = 2, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions ( -- one row per global transaction: its state and its decision
  gid TEXT NOT NULL, -- global id of the transaction, chosen by the caller
  pattern TEXT NOT NULL, -- the pattern it follows: tcc
  state TEXT NOT NULL, -- trying, then confirming and confirmed, or cancelling and cancelled
  digest TEXT NOT NULL, -- SHA-256 of the plan, which a repeated start must match; empty when begun without a plan
  reason TEXT NOT NULL DEFAULT '', -- why it was cancelled; empty otherwise
  reason_code TEXT NOT NULL DEFAULT '', -- the same for programs: a code of the branch that rejected, or one of the framework; empty if it is not cancelled
  reason_branch TEXT NOT NULL DEFAULT '', -- the branch whose Try was the reason; empty if it was none
  decided_by TEXT NOT NULL, -- who decided: caller, deadline, recovery or operator; empty before the decision
  attention TEXT NOT NULL DEFAULT '', -- why a person should look at it; empty when nobody has to
  owner TEXT NOT NULL, -- instance that drives it, see saga_instances; empty while an open transaction waits for its decision
  epoch INTEGER NOT NULL DEFAULT 1, -- goes up with every change of driver; a write by a driver with an older epoch has no effect
  failures INTEGER NOT NULL DEFAULT 0, -- failed branch calls so far, see saga_attempts
  created_at TEXT NOT NULL, -- when it began
  deadline_at TEXT NOT NULL, -- when it is cancelled if it is still undecided
  due_at TEXT, -- when somebody has to look at it next; NULL once it is finished
  decided_at TEXT, -- when it was decided
  finished_at TEXT, -- when the last branch was confirmed or cancelled
  paused_at TEXT, -- since when an operator has paused it; NULL otherwise
  PRIMARY KEY (gid)
);
CREATE INDEX IF NOT EXISTS saga_transactions_due ON saga_transactions (due_at);

CREATE TABLE IF NOT EXISTS saga_branches ( -- the branches of each transaction, named before they are called
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch within it: 01, 02, ...
  kind TEXT NOT NULL, -- kind of branch, as registered: stock.lock, message.publish, ...
  payload TEXT NOT NULL, -- what Try, Confirm and Cancel are called with, JSON
  tried_at TEXT, -- when its Try had succeeded, in an open transaction, which cannot be confirmed before; NULL in one with a plan
  done_at TEXT, -- when it was confirmed or cancelled, if that was before its transaction finished as a whole
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_attempts ( -- failed branch calls; no row where nothing failed
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  operation TEXT NOT NULL, -- the operation that failed: try, confirm or cancel
  attempt INTEGER NOT NULL, -- number of the attempt, from 1; the oldest rows of a branch go when there are many
  error TEXT NOT NULL, -- what the call said
  code TEXT NOT NULL DEFAULT '', -- the same for programs: conflict, if no repetition can succeed; the code of a rejection; else empty
  instance TEXT NOT NULL, -- instance that made the call
  failed_at TEXT NOT NULL, -- when it failed
  next_at TEXT, -- not before this time it is called again; NULL for a Try, which is not
  PRIMARY KEY (gid, branch_id, operation, attempt)
);

CREATE TABLE IF NOT EXISTS saga_instances ( -- running orchestrators and their leases
  instance TEXT NOT NULL, -- id of a running orchestrator, new at every start
  host TEXT NOT NULL, -- machine it runs on
  pid INTEGER NOT NULL, -- process it runs in
  started_at TEXT NOT NULL, -- when it started
  lease_until TEXT NOT NULL, -- until when its transactions are its own; renewed by its heartbeat
  PRIMARY KEY (instance)
);

CREATE TABLE IF NOT EXISTS saga_kinds ( -- kinds of branch that an operator has paused
  kind TEXT NOT NULL, -- the kind of branch
  paused_at TEXT NOT NULL, -- since when it is paused
  PRIMARY KEY (kind)
);

CREATE TABLE IF NOT EXISTS saga_acts ( -- what operators have done, and why
  gid TEXT NOT NULL, -- the transaction; empty when it was done to a kind of branch
  kind TEXT NOT NULL, -- the kind of branch; empty when it was done to a transaction
  number INTEGER NOT NULL, -- number of the act on it, from 1
  act TEXT NOT NULL, -- what was done: retry, pause, resume, confirm, cancel or resolve
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  branch_id TEXT NOT NULL DEFAULT '', -- the branch that it was done to; empty when it was done to the whole
  believed TEXT NOT NULL DEFAULT '', -- what the operator believes has become of the branch: confirmed or cancelled; empty for other acts
  acted_at TEXT NOT NULL, -- when
  PRIMARY KEY (gid, kind, number)
);

CREATE TABLE IF NOT EXISTS saga_cleaning ( -- how far the removal of old transactions has come; one row
  id INTEGER NOT NULL, -- always 1, so that there is one row
  after_gid TEXT NOT NULL, -- transactions up to this gid have been looked at in this round
  next_at TEXT NOT NULL, -- when the next batch may be taken, by any instance
  PRIMARY KEY (id)
);

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', strftime('%Y-%m-%d %H:%M:%f', 'now')) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS saga_barrier ( -- what each branch has done, written in its own local transaction
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch within it
  state TEXT NOT NULL, -- tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a Try that comes now is refused
  caller TEXT NOT NULL DEFAULT '', -- log id of the engine whose call it was, see saga_schema; empty if it did not say
  kind TEXT NOT NULL DEFAULT '', -- kind of branch that was called
  input TEXT NOT NULL DEFAULT '', -- the first half of the SHA-256 of the payload, in hexadecimal
  tried_at TEXT, -- when Try ran; NULL if it never did
  confirmed_at TEXT, -- when Confirm ran
  cancelled_at TEXT, -- when Cancel ran, or when it found nothing to cancel
  turned_away INTEGER NOT NULL DEFAULT 0, -- calls refused or skipped since: repeated, late or in conflict
  turned_away_at TEXT, -- when the last of them came
  call_op TEXT NOT NULL DEFAULT '', -- operation of a branch without a database that is under way, or whose end is not known; empty otherwise
  call_by TEXT NOT NULL DEFAULT '', -- instance that makes that call
  call_since TEXT, -- since when it is under way
  call_until TEXT, -- until when it may be under way
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_stock ( -- stock of the branch stock.lock; available + locked + sold is what was put in
  sku TEXT NOT NULL, -- the article
  available INTEGER NOT NULL, -- free to be locked
  locked INTEGER NOT NULL, -- locked by transactions that are not finished
  sold INTEGER NOT NULL, -- taken by confirmed transactions
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
);

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

CREATE TABLE IF NOT EXISTS saga_outbox ( -- messages of the branch message.publish
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  state TEXT NOT NULL, -- prepared: not to be seen by anybody yet; delayed: confirmed and not due yet; published; or discarded
  subject TEXT NOT NULL, -- subject it is published on
  headers TEXT NOT NULL, -- headers, JSON object of lists
  data BLOB NOT NULL, -- the message itself
  prepared_at TEXT NOT NULL, -- when Try wrote it
  published_at TEXT, -- when the broker had acknowledged it
  discarded_at TEXT, -- when Cancel discarded it
  stream TEXT NOT NULL DEFAULT '', -- stream that took it; empty before
  sequence INTEGER NOT NULL DEFAULT 0, -- its sequence in that stream; 0 before
  message_id TEXT NOT NULL DEFAULT '', -- id under which it is published, made by Try; empty in rows of schema version 1, whose id is gid/branch_id
  destination TEXT NOT NULL DEFAULT '', -- stream that it is for
  order_key TEXT NOT NULL DEFAULT '', -- ordering key; empty if it has none
  delay INTEGER NOT NULL DEFAULT 0, -- microseconds after its Confirm before which it is not published
  PRIMARY KEY (gid, branch_id)
);

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

CREATE TABLE IF NOT EXISTS saga_inbox ( -- messages that each consumer has received: handled, failed so far, or put aside
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

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
