// Package otelsaga makes OpenTelemetry metrics and spans of what happens in an engine, in a
// service with branches, and in a consumer of messages. It uses only the API of OpenTelemetry;
// the program chooses the SDK and the exporters.
//
//	observer, err := otelsaga.New(otelsaga.Config{}) // the global providers
//	engine, err := embedded.Open(ctx, db, embedded.Config{Observers: []saga.Observer{observer}})
//	host, err := remote.NewHost(ctx, db, remote.HostConfig{Observers: []saga.Observer{observer}, ...})
//	gauges, err := otelsaga.NewGauges(otelsaga.GaugesConfig{Operations: engine.Operations()})
//
// # Metrics of events
//
// They count what this process does. The engine tells of an event after its commit, so an event
// is lost if the process dies at that moment: the log has the truth.
//
//	name                           unit           attributes                     meaning
//	-----------------------------  -------------  -----------------------------  ------------------------------------------------------------------------------
//	tccsaga.transaction.duration   s              pattern, outcome               Time from the begin of a transaction to its end.
//	tccsaga.decision.duration      s              pattern, outcome, decided_by   Time from the begin of a transaction to its decision.
//	tccsaga.call.duration          s              kind, operation, result        Time of one call of a branch, with its commit.
//	tccsaga.message.duration       s              stream, consumer, result       Time of one call of a consumer's handler.
//	tccsaga.barrier.verdicts       {call}         kind, operation, verdict       Calls of branches, by what the barrier has said.
//	tccsaga.takeovers              {transaction}                                 Transactions that were taken over from an instance that is gone.
//	tccsaga.leases.lost            {lease}                                       How often this instance has lost its lease.
//	tccsaga.commits.unanswered     {commit}                                      COMMITs that were not answered.
//	tccsaga.batch.size             {member}       batch                          Calls or writes that were made together.
//	tccsaga.attention.raised       {transaction}  pattern                        Transactions that were raised to attention.
//
// # Metrics of the state
//
// [NewGauges] registers them. They are read in the log when the metrics are collected. All
// instances report the same log: take the maximum, and not the sum. Only circuits.open is about
// one process.
//
//	name                           unit           attributes                     meaning
//	-----------------------------  -------------  -----------------------------  ------------------------------------------------------------------------------
//	tccsaga.transactions.active    {transaction}  state                          Transactions that are not finished, up to 10,000.
//	tccsaga.transactions.oldest    s              state                          Age of the oldest undecided transaction, and time since the decision of the oldest that is not finished.
//	tccsaga.transactions.attention {transaction}                                 Transactions that need a person, up to 10,000.
//	tccsaga.transactions.paused    {transaction}                                 Transactions that an operator has paused, up to 10,000.
//	tccsaga.kinds.paused           {kind}                                        Kinds of branches that an operator has paused.
//	tccsaga.circuits.open          {circuit}      kind                           1 if the circuit of the kind is open in this process, 0 if it is closed.
//	tccsaga.instances              {instance}     alive                          Running engines, and those that have ended without a goodbye in the last hour.
//	tccsaga.outbox.pending         {message}      stream                         Messages of the outbox that wait for their publishing.
//	tccsaga.outbox.lag             s              stream                         Age of the oldest message of the outbox that waits for its publishing.
//	tccsaga.dead_letters           {message}      stream                         Dead letters.
//
// # Attributes
//
//	pattern     the pattern of the transaction, such as tcc; none if it has no name
//	outcome     confirmed or cancelled
//	decided_by  caller, deadline, recovery or operator
//	kind        the kind of branch
//	operation   try, confirm, cancel, apply or ask
//	result      of a call, as in [saga.CallResult]: ok, rejected, suspended, conflict, not committed, ongoing, unknown or failed;
//	            of a handler: ok, failed or timeout
//	verdict     run, duplicate, suspended, empty rollback or conflict
//	batch       decide, log, calls, effects or finish; see [saga.BatchCommitted]
//	state       trying, confirming or cancelling; of the oldest: undecided or unfinished
//	alive       true if the instance holds its lease, or false
//	stream      the stream of a message
//	consumer    the name of the consumer
//
// An attribute never has a gid, a branch id or a text of an error. The values of pattern, kind,
// stream and consumer are names that a program registers; those beyond the first 200 become
// "other".
//
// # Spans
//
// A call of an engine's method has a span "tccsaga execute", "tccsaga confirm" and so on. Each
// call of a branch has a span with the kind and the operation, such as "stock.lock try", and the
// branch gets its context. It has the attributes tccsaga.gid, tccsaga.branch, tccsaga.kind,
// tccsaga.operation and tccsaga.attempt, and at its end tccsaga.result and tccsaga.verdict. The
// handler of a consumer has a span "process STREAM". No span is open between two attempts.
//
// The trace context of the call that has begun a transaction is kept with the transaction; see
// [saga.Summary.Trace]. If a Confirm is repeated later, perhaps by another instance, its span is
// a child of the span of that call. So a transaction is one trace, whichever process works on it:
// the conventions of OpenTelemetry use links where a span has several causes, and here there is
// one. An open transaction may be confirmed in another trace than it was begun in. The span of
// that Confirm, and its calls, are in the trace of the caller, and the span links the trace of the
// begin.
//
// A call of another service carries its trace context, alone and in a batch of calls, in the
// header or field traceparent. If an HTTP handler has begun a span of the same trace, the
// service continues that span. A message carries the trace context of the Try that has written
// it, also if another instance publishes it.
//
// The state of a trace and baggage are not kept. A sampler that drops the span of the caller
// drops those of all calls.
package otelsaga
