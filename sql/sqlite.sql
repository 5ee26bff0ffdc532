-- Schema of tccsaga for SQLite 3.35 and newer, in rollback or WAL mode.
-- Times are UTC, '2006-01-02 15:04:05.000'. Every statement may run again.

-- This is the complete version 3. Folder upgrade has the steps from older versions.

CREATE TABLE IF NOT EXISTS saga_schema ( -- the installed version of this schema
  id INTEGER NOT NULL, -- always 1, so that there is one row
  version INTEGER NOT NULL, -- version of the installed schema, or of the one that a migration installs
  complete INTEGER NOT NULL, -- 0 while a migration runs or after it broke off, 1 after it completed
  log_id TEXT NOT NULL DEFAULT '', -- id of this log, which its engine sends with its calls; made at installation
  PRIMARY KEY (id)
);

INSERT INTO saga_schema (id, version, complete, log_id) VALUES (1, 3, 0, lower(hex(randomblob(16)))) ON CONFLICT (id) DO UPDATE SET version = 3, complete = 0;

CREATE TABLE IF NOT EXISTS saga_transactions ( -- one row per global transaction: its state and its decision
  gid TEXT NOT NULL, -- global id of the transaction, chosen by the caller
  pattern TEXT NOT NULL, -- the pattern: tcc, saga, ...
  state TEXT NOT NULL, -- trying, then confirming and confirmed, or cancelling and cancelled
  digest TEXT NOT NULL, -- SHA-256 of the plan, which a repeated request must match; empty if it began without a plan
  reason TEXT NOT NULL DEFAULT '', -- why it was cancelled; empty otherwise
  reason_code TEXT NOT NULL DEFAULT '', -- the same for programs: the code of the branch that rejected, or a code of the engine; empty if it is not cancelled
  reason_branch TEXT NOT NULL DEFAULT '', -- the branch with the Try that was the reason; empty if no Try was
  decided_by TEXT NOT NULL, -- who decided: caller, deadline, recovery or operator; empty before the decision
  attention TEXT NOT NULL DEFAULT '', -- why a person should look at it; empty otherwise
  owner TEXT NOT NULL, -- instance that drives it, see saga_instances; empty while an open transaction waits for its decision
  epoch INTEGER NOT NULL DEFAULT 1, -- rises with every claim by an instance; a write with an older epoch has no effect
  failures INTEGER NOT NULL DEFAULT 0, -- failed branch calls so far, see saga_attempts
  created_at TEXT NOT NULL, -- when it began
  deadline_at TEXT NOT NULL, -- when it is cancelled if it is still undecided
  due_at TEXT, -- when an instance has to look at it next; NULL once it is finished
  decided_at TEXT, -- when it was decided; within a millisecond, with a counter behind it
  finished_at TEXT, -- when the last branch was confirmed or cancelled
  paused_at TEXT, -- when an operator paused it; NULL if it is not paused
  try_attempts INTEGER NOT NULL DEFAULT 0, -- how often each Try may be called: 0 for once, -1 for no limit; with more than once, another instance continues an undecided transaction instead of cancelling it
  parent TEXT NOT NULL DEFAULT '', -- of a nested transaction: the branch of its parent that decides it, written log/gid/branch; empty otherwise
  prepared_at TEXT, -- when a nested transaction was prepared: it has no deadline from then on; NULL otherwise
  trace TEXT NOT NULL DEFAULT '', -- trace context of the caller that began it, as W3C traceparent; empty if it had none
  PRIMARY KEY (gid)
);
CREATE INDEX IF NOT EXISTS saga_transactions_due ON saga_transactions (due_at);
CREATE INDEX IF NOT EXISTS saga_transactions_created ON saga_transactions (created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_finished ON saga_transactions (finished_at, created_at, gid);
CREATE INDEX IF NOT EXISTS saga_transactions_decided ON saga_transactions (decided_at);

CREATE TABLE IF NOT EXISTS saga_branches ( -- the branches of each transaction, recorded before they are called
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch within it: 01, 02, ...
  kind TEXT NOT NULL, -- kind of branch, as registered: stock.lock, message.publish, ...
  payload TEXT NOT NULL, -- input of Try, Confirm and Cancel, JSON
  stage INTEGER NOT NULL DEFAULT 0, -- place in the order of the calls: branches of one stage are called in parallel; 0 in a transaction without an order of Cancels
  role TEXT NOT NULL DEFAULT '', -- decides: the COMMIT of its Try is the decision; after: its Try is called after the decision; empty for the others
  tried_at TEXT, -- when its Try succeeded, in an open transaction, which cannot be confirmed before; NULL in a transaction with a plan
  done_at TEXT, -- when it was confirmed or cancelled, if that was before the end of its transaction
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_results ( -- results of Trys, which later calls of the transaction get
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  result TEXT NOT NULL, -- what its Try returned, JSON
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_attempts ( -- failed branch calls; no row without a failure
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  operation TEXT NOT NULL, -- the operation that failed: try, confirm or cancel
  attempt INTEGER NOT NULL, -- number of the attempt, from 1; the oldest rows of a branch are removed if there are many
  error TEXT NOT NULL, -- error of the call
  code TEXT NOT NULL DEFAULT '', -- the same for programs: conflict, if no repetition can succeed; the code of a rejection; otherwise empty
  instance TEXT NOT NULL, -- instance that made the call
  failed_at TEXT NOT NULL, -- when it failed
  next_at TEXT, -- earliest time of the next call; NULL for a Try, which is not repeated
  PRIMARY KEY (gid, branch_id, operation, attempt)
);

CREATE TABLE IF NOT EXISTS saga_instances ( -- running engines and their leases
  instance TEXT NOT NULL, -- id of a running engine, new at every start
  host TEXT NOT NULL, -- machine it runs on
  pid INTEGER NOT NULL, -- process it runs in
  started_at TEXT NOT NULL, -- when it started
  lease_until TEXT NOT NULL, -- end of its lease of its transactions; renewed by its heartbeat
  PRIMARY KEY (instance)
);

CREATE TABLE IF NOT EXISTS saga_kinds ( -- kinds of branch that an operator has paused
  kind TEXT NOT NULL, -- the kind of branch
  paused_at TEXT NOT NULL, -- when it was paused
  PRIMARY KEY (kind)
);

CREATE TABLE IF NOT EXISTS saga_acts ( -- actions of operators, and why
  gid TEXT NOT NULL, -- the transaction; empty for an action on a kind of branch
  kind TEXT NOT NULL, -- the kind of branch; empty for an action on a transaction
  number INTEGER NOT NULL, -- number of the action on it, from 1
  act TEXT NOT NULL, -- the action: retry, pause, resume, confirm, cancel or resolve
  who TEXT NOT NULL, -- who did it
  why TEXT NOT NULL, -- why
  branch_id TEXT NOT NULL DEFAULT '', -- the branch of an action on one branch; empty for other actions
  believed TEXT NOT NULL DEFAULT '', -- state of the branch that the operator believes: confirmed or cancelled; empty for other actions
  acted_at TEXT NOT NULL, -- when
  bulk_id TEXT NOT NULL DEFAULT '', -- the bulk action that it is part of, see saga_bulk_acts; empty if it is none
  PRIMARY KEY (gid, kind, number)
);
CREATE INDEX IF NOT EXISTS saga_acts_acted ON saga_acts (acted_at);

CREATE TABLE IF NOT EXISTS saga_labels ( -- labels that callers gave to transactions, such as order numbers
  name TEXT NOT NULL, -- the name: customer, order, ...
  value TEXT NOT NULL, -- the value
  created_at TEXT NOT NULL, -- when the transaction began
  gid TEXT NOT NULL, -- the transaction
  PRIMARY KEY (gid, name)
);
CREATE INDEX IF NOT EXISTS saga_labels_value ON saga_labels (value, created_at, gid);

CREATE TABLE IF NOT EXISTS saga_bulk_acts ( -- actions of operators on many transactions, each with a fixed list
  id TEXT NOT NULL, -- id of the bulk action
  act TEXT NOT NULL, -- the action: retry, pause, resume, confirm or cancel
  who TEXT NOT NULL, -- who does it
  why TEXT NOT NULL, -- why
  query TEXT NOT NULL, -- the conditions that selected the transactions, JSON
  total INTEGER NOT NULL, -- number of transactions in the list; -1 while the list is being written or removed
  done INTEGER NOT NULL DEFAULT 0, -- of these, how many were acted on; written at the end
  refused INTEGER NOT NULL DEFAULT 0, -- of these, how many the action had no effect on any more; written at the end
  failed INTEGER NOT NULL DEFAULT 0, -- of these, how many the action failed on; written at the end
  created_at TEXT NOT NULL, -- when the list was made
  started_at TEXT, -- when a person confirmed the number, and it began; NULL before
  finished_at TEXT, -- when every transaction of the list was acted on; NULL before
  PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS saga_bulk_acts_created ON saga_bulk_acts (created_at);

CREATE TABLE IF NOT EXISTS saga_bulk_targets ( -- the transactions of each bulk action, and what was done to each
  bulk_id TEXT NOT NULL, -- the bulk action
  number INTEGER NOT NULL, -- place in the list, from 1
  gid TEXT NOT NULL, -- the transaction
  result TEXT NOT NULL DEFAULT '', -- done, refused or failed; empty before
  error TEXT NOT NULL DEFAULT '', -- why it was refused or failed
  acted_at TEXT, -- when; NULL before
  PRIMARY KEY (bulk_id, number)
);

CREATE TABLE IF NOT EXISTS saga_cleaning ( -- progress of the removal of old transactions; one row
  id INTEGER NOT NULL, -- always 1, so that there is one row
  after_gid TEXT NOT NULL, -- last gid that was looked at in this round
  next_at TEXT NOT NULL, -- when any instance may take the next batch
  PRIMARY KEY (id)
);

INSERT INTO saga_cleaning (id, after_gid, next_at) VALUES (1, '', strftime('%Y-%m-%d %H:%M:%f', 'now')) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS saga_barrier ( -- operations of each branch, written in the local transaction of the branch
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch within it
  state TEXT NOT NULL, -- tried, confirmed, cancelled, or suspended: a Cancel came before any Try, and a later Try is refused
  caller TEXT NOT NULL DEFAULT '', -- log id of the engine that called, see saga_schema; empty if the call had none
  kind TEXT NOT NULL DEFAULT '', -- kind of the branch
  input TEXT NOT NULL DEFAULT '', -- the first half of the SHA-256 of the payload, in hexadecimal
  tried_at TEXT, -- when Try ran; NULL if it never did
  confirmed_at TEXT, -- when Confirm ran
  cancelled_at TEXT, -- when Cancel ran, or when it found nothing to cancel
  turned_away INTEGER NOT NULL DEFAULT 0, -- number of calls that were refused or skipped: repeated, late or in conflict
  turned_away_at TEXT, -- when the last of these calls came
  call_op TEXT NOT NULL DEFAULT '', -- operation of an external branch that is under way or has an unknown end; empty otherwise
  call_by TEXT NOT NULL DEFAULT '', -- instance that makes this call
  call_since TEXT, -- when this call began
  call_until TEXT, -- latest end of this call
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_inputs ( -- inputs of branches of a service that asks the engine for outcomes
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  payload TEXT NOT NULL, -- input of Try, Confirm and Cancel, JSON
  tried_at TEXT NOT NULL, -- when its Try ran
  ask_at TEXT NOT NULL, -- earliest time to ask for the outcome
  PRIMARY KEY (gid, branch_id)
);
CREATE INDEX IF NOT EXISTS saga_inputs_ask ON saga_inputs (ask_at);

CREATE TABLE IF NOT EXISTS saga_stock ( -- stock of the branch stock.lock; available + locked + sold is the number of pieces put in
  sku TEXT NOT NULL, -- the article
  available INTEGER NOT NULL, -- free to be locked
  locked INTEGER NOT NULL, -- locked by transactions that are not finished
  sold INTEGER NOT NULL, -- sold by confirmed transactions
  PRIMARY KEY (sku),
  CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0)
);

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

CREATE TABLE IF NOT EXISTS saga_outbox ( -- messages of the branch message.publish
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  state TEXT NOT NULL, -- prepared: not visible to anybody yet; delayed: confirmed and not due yet; published; or discarded
  subject TEXT NOT NULL, -- subject of the message
  headers TEXT NOT NULL, -- headers, JSON object of lists
  data BLOB NOT NULL, -- the message itself
  prepared_at TEXT NOT NULL, -- when Try wrote it
  published_at TEXT, -- when the broker acknowledged it
  discarded_at TEXT, -- when Cancel discarded it
  stream TEXT NOT NULL DEFAULT '', -- stream that stored it; empty before
  sequence INTEGER NOT NULL DEFAULT 0, -- its sequence in that stream; 0 before
  message_id TEXT NOT NULL DEFAULT '', -- id of the message, made by Try; empty in rows of schema version 1, which have the id gid/branch_id
  destination TEXT NOT NULL DEFAULT '', -- stream to publish it on
  order_key TEXT NOT NULL DEFAULT '', -- ordering key; empty if it has none
  delay INTEGER NOT NULL DEFAULT 0, -- delay of its publishing after its Confirm, in microseconds
  PRIMARY KEY (gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_outbox_order ( -- messages with an ordering key that are neither published nor discarded
  destination TEXT NOT NULL, -- the stream
  order_key TEXT NOT NULL, -- the ordering key
  gid TEXT NOT NULL, -- the transaction
  branch_id TEXT NOT NULL, -- the branch
  PRIMARY KEY (destination, order_key, gid, branch_id)
);

CREATE TABLE IF NOT EXISTS saga_outbox_delayed ( -- messages that wait to be published: of confirmed transactions until they are due, and of PublishIn; a row is removed when its message is published
  message_id TEXT NOT NULL, -- id of the message
  gid TEXT NOT NULL, -- the transaction, which is finished; empty if PublishIn wrote it
  branch_id TEXT NOT NULL, -- the branch; empty if PublishIn wrote it
  after_id TEXT NOT NULL DEFAULT '', -- message of the same call and subject that has to be published before it; empty if there is none
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

CREATE TABLE IF NOT EXISTS saga_inbox ( -- messages that each consumer has received: handled, failed so far, or dead letters
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
CREATE INDEX IF NOT EXISTS saga_letter_acts_acted ON saga_letter_acts (stream, acted_at);

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 3;
