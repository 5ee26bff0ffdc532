-- Schema of tccsaga for SQLite 3.35 and newer, in rollback or WAL mode.
-- Times are UTC, '2006-01-02 15:04:05.000'. Every statement may run again.

-- version 1

CREATE TABLE IF NOT EXISTS saga_schema ( -- which version of this schema is installed
  id INTEGER NOT NULL, -- always 1, so that there is one row
  version INTEGER NOT NULL, -- version of the schema that is, or is being, installed
  complete INTEGER NOT NULL, -- 0 while a migration is under way or was broken off, 1 after it
  PRIMARY KEY (id)
);

INSERT INTO saga_schema (id, version, complete) VALUES (1, 1, 0) ON CONFLICT (id) DO UPDATE SET version = 1, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions ( -- one row per global transaction: its state and its decision
  gid TEXT NOT NULL, -- global id of the transaction, chosen by the caller
  pattern TEXT NOT NULL, -- the pattern it follows: tcc
  state TEXT NOT NULL, -- trying, then confirming and confirmed, or cancelling and cancelled
  digest TEXT NOT NULL, -- SHA-256 of the plan, which a repeated start must match; empty when begun without a plan
  reason TEXT NOT NULL DEFAULT '', -- why it was cancelled; empty otherwise
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
  act TEXT NOT NULL, -- what was done: retry, pause, resume, confirm or cancel
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
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
  tried_at TEXT, -- when Try ran; NULL if it never did
  confirmed_at TEXT, -- when Confirm ran
  cancelled_at TEXT, -- when Cancel ran, or when it found nothing to cancel
  turned_away INTEGER NOT NULL DEFAULT 0, -- calls refused or skipped since: repeated, late or in conflict
  turned_away_at TEXT, -- when the last of them came
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

CREATE TABLE IF NOT EXISTS saga_outbox ( -- messages of the branch message.publish
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch; gid/branch_id is the id of the message
  state TEXT NOT NULL, -- prepared: not to be seen by anybody yet; published; or discarded
  subject TEXT NOT NULL, -- subject it is published on
  headers TEXT NOT NULL, -- headers, JSON object of lists
  data BLOB NOT NULL, -- the message itself
  prepared_at TEXT NOT NULL, -- when Try wrote it
  published_at TEXT, -- when the broker had acknowledged it
  discarded_at TEXT, -- when Cancel discarded it
  stream TEXT NOT NULL DEFAULT '', -- stream that took it; empty before
  sequence INTEGER NOT NULL DEFAULT 0, -- its sequence in that stream; 0 before
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_inbox ( -- messages handled by each consumer, written in the local transaction of its handler
  consumer TEXT NOT NULL, -- the consumer, by its durable name
  message_id TEXT NOT NULL, -- id of the message, the same in every delivery
  handled_at TEXT NOT NULL, -- when its handler was done
  PRIMARY KEY (consumer, message_id)
);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 1;
