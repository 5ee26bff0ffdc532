// Package embedded has the [saga.Engine] that lives in the user's own process, with its log
// in the user's own database. Open it, register the kinds of branches, and run it:
//
//	engine, err := embedded.Open(ctx, db, embedded.Config{}) // the user's own *gorm.DB
//	err = tcc.Register(engine, branch)                       // for each kind of branch
//	go engine.Run(ctx)                                       // lease, deadlines, retries, recovery
//	outcome, err := tcc.Execute(ctx, engine, gid, payloads...)
//
// The page of package saga describes the protocol and what can be lost.
//
// # Commits
//
// A durable commit is the main cost. A branch is resident if its database is the engine's own.
// A resident branch needs no commit of its own.
//
//	plan                  commits on the way to confirmed
//	resident only         1: begin, every barrier row, every Try, the decision,
//	                      every Confirm that has no effect
//	                      2: if a Confirm has an effect: that Confirm, and the end
//	with others           1: begin, naming every branch, and the resident Trys
//	                      before the first other Try
//	                      each other branch: its barrier row and Try
//	                      +1 for each run of resident Trys in between
//	                      2: the resident Trys after the last other Try, and the
//	                      decision
//	                      each other branch: its barrier row and Confirm,
//	                      in parallel with 3: every resident Confirm
//	                      4: the end
//	an external branch,   Try: its mark in the barrier; and the mark's end
//	in the engine's       Confirm, Cancel: its mark; and its barrier row
//	database
//
// The Trys are called in the order of the plan, each when those before it have succeeded. If a
// resident Try of the first commit is rejected, all is rolled back. No branch in another
// database or service was called, and nothing has to be cancelled. The transaction is recorded
// as cancelled, so its gid returns the same outcome next time.
//
// So put first the resident branches that may reject, such as stock and coupons. Put last the
// branches that cost much to cancel, such as a card.
//
// If a resident Confirm fails, it is left out, and the others are committed without it.
//
// # What a caller waits for
//
// A caller waits for every commit of the table, except the end in a commit of its own. Execute,
// Confirm and Cancel return the state Confirmed or Cancelled when every branch has ended. The
// end is written afterwards, normally within some milliseconds, and shares a commit with
// whatever comes next.
//
// The caller can rely on this state. The decision is durable, and every branch has committed
// its Confirm or Cancel. If the process dies before it has written the end, another instance
// repeats these calls, and the barrier turns them away as duplicates. It then writes the same
// end.
//
// Who calls Lookup, States or Wait of the same engine, or Execute, Confirm or Cancel again, waits
// for this commit, for a second at most. A search, or another engine, may read confirming or
// cancelling until then. If the commit fails, the end is written when the lease has ended.
//
// # Batches
//
// Commits are shared. This is group commit (D. J. DeWitt et al., Implementation Techniques for
// Main Memory Database Systems, 1984). Arrivals during a commit form the next batch, of at most
// [Config.MaxBatch]; eight suffice to write it in parallel. What arrives alone does not wait,
// and no caller gets an answer before the commit that the answer rests on.
//
//	what shares a commit                          with what
//	a plan of resident branches                   plans of the same kinds of branches
//	a begin with the first resident Trys          plans whose first branches are of these kinds
//	other begins, decisions, ends, failed calls   each other, whatever their branches are
//	of plans and of open transactions
//	a resident Try of an open transaction         Trys of the same kind and branch id
//	a call in another database of this process    calls of the same kind and operation
//	a call of a host, see package remote          the same, in the database of the host
//
// Alone are: the Trys of resident branches after other branches of a plan, LocalWork, ExecuteIn,
// transactions with forward recovery, and calls of External branches.
//
// A branch with WorkBatch is called once per batch, other branches once per transaction. The
// effects of Confirms share calls in the same way, by EffectBatches; see [saga.Local]. Calls to
// a service travel together, as one request.
//
// The failure of one member does not concern the others: the member is written again alone, and
// the others are written again together. A batch waits for a lock for at most one second, and
// for its branches half a second and 3 ms per call. After that, each member is written alone,
// and the kinds of branches that were slow share no commit for 5 seconds, or longer if they are
// slow again. If a batch takes more than 20 ms, the next one does not wait for it. A plan of more
// than 8 resident branches, or with more than 16 KiB of input, is decided alone.
//
// # Costs
//
// Statements without BEGIN and COMMIT, as TestTraffic counts them, for plans with two resident
// branches that need one statement per call:
//
//	plan, and callers at once            statements each     commits each
//	both work in the database, 1         3 + 4               1
//	the same, 10                         0.3 + 4             0.1
//	the same with WorkBatch, n           (3 + 4) / n         1 / n
//	one of them has an effect first, 1   (3 + 3) + (2 + 1)   2
//
// The first number of each sum is for the log and the barrier: one row per transaction and two
// rows per branch, many rows per statement. The same work by hand, without the log and the
// barrier, is 4 statements and 4 commits.
//
// With several callers, lock waits are limited to a second. On PostgreSQL that is one more
// statement. On MySQL it is a handful of the pool's connections at most, which are set up for
// that once, and closed a second after their last use. The COMMIT of a local transaction on
// such a connection begins the next one (COMMIT AND CHAIN), which saves a round trip. The next
// one holds no lock and no snapshot until its first statement.
//
// The throughput of each technique, measured by saga/bench on MariaDB with 64 callers. It is
// relative to the same statements by hand, without any coordination:
//
//	by hand, four local transactions                   1.0
//	a transaction by itself, MaxBatch 1                0.5   with the log, the barrier and all promises
//	the same, but commits are shared                   1.1   branches without WorkBatch
//	the same, with WorkBatch                           4.4   one statement for the calls of many
//	the same, all on one row                           7.8   one lock instead of a queue for it
//	the same, with a real publish on JetStream         2.0   a second commit; by hand nothing is published
//	a DTM server, with its barrier                     0.15
//
// The cost does not grow with the log: its secondary index, on due_at, has NULL for finished
// transactions. (SQLite has one more, on decided_at, to which rows are added at the end.) With a
// million finished transactions, the throughput on MariaDB is that with an empty log. The cost
// grows with the number of branches, by their rows: 1, 2, 4 and 8 branches reach 1.4, 1, 0.59
// and 0.33 of the throughput of two. It falls with the number of callers, because they share
// commits: 1, 16, 64 and 256 callers reach 1.2, 2.6, 4.4 and 6.6 times the throughput by hand.
//
// On MySQL, open the database with interpolateParams=true: a statement with parameters is then
// one round trip instead of two. Shared commits send statements of many different lengths, so
// prepared statements do not help.
//
// # Attention, operators and limits
//
// A transaction is raised to attention when a branch has failed often, when it was decided long
// ago and is not finished, or at a conflict, which no retry can end; see [Config.OnAttention].
// Operators can retry at once, pause a transaction or a kind of branch, and decide an undecided
// transaction. Each act is recorded in the commit that does it, and refused if it would break a
// promise. Only [Engine.Resolve] ends a conflict: an operator states the result of one branch,
// and the transaction continues without calling it.
//
// The repeated calls of a kind of branch are limited, and held back while all of them fail; see
// [Limits].
//
// # Observers, metrics and logs
//
// Observers of the [Config] are told of every call of a branch, decision, end, takeover, lost lease
// and shared commit; see [saga.Observer]. Package
// [github.com/tccsaga/tccsaga/saga/otelsaga] makes OpenTelemetry metrics and spans of these
// events. Without observers, an engine makes no events and allocates nothing for them.
//
// If an observer keeps traces, the trace context of the call that begins a transaction is stored
// with it, and an instance that drives the transaction later continues that trace.
//
// The log lines about a transaction have the attribute gid, and those about a call also branch,
// kind, operation and attempt.
//
// # Processes that know fewer kinds
//
// An instance drives only transactions whose kinds of branches are all registered in it. It
// leaves the others in the log, and seldom reads them. So a rolling upgrade, a cron job or an
// admin process does not delay other processes.
//
// A process that only decides, by Confirm, Cancel or Decide, needs the database of the log and
// Open, but no branch. It needs Run if it works longer than [Config.Lease]. It decides, and the
// instances that know the kinds drive the transaction; they look for it every [Config.Poll].
// The outcome is Confirming or Cancelling. Its deadlines and its Retry, Pause and Resolve work
// as well. Lookup shows no barrier rows there.
//
// If no instance knows a kind, the transaction is raised to attention when it has been due for
// [Config.AttentionAge]. It continues when an instance starts that knows the kind.
//
// # Cleaning
//
// A finished transaction is removed after [Config.Retention], counted from its end and from its
// deadline. Until then a late Try may still arrive, and has to find its barrier row. The rows in
// other databases are removed first; the log names them as long as its own rows are there.
// Cleaning reads along the primary key and needs no index. Instances take turns.
//
// If the Clean of a kind of branch fails, panics, or does not return within
// [Config.CallTimeout], the transactions with that kind stay, and the others are removed.
package embedded
