// Package barrier makes a branch call safe to repeat, to arrive late and to
// arrive in the wrong order.
//
// A branch of a transaction has one row in the table saga_barrier, in the
// database where the branch does its work. Every call of the branch writes this
// row first, in the same local transaction as its work. The row determines what
// the call has to do: the [Verdict].
//
//	call     row before             verdict         row after
//	Try      none                   Run             tried
//	Try      tried, confirmed       Duplicate       same
//	Try      suspended, cancelled   Suspended       same
//	Confirm  tried                  Run             confirmed
//	Confirm  confirmed              Duplicate       same
//	Confirm  none, suspended,       Conflict        same
//	         cancelled
//	Cancel   tried                  Run             cancelled
//	Cancel   none                   EmptyRollback   suspended
//	Cancel   suspended, cancelled   Duplicate       same
//	Cancel   confirmed              Conflict        same
//	Apply    none                   Run             confirmed
//	Apply    confirmed              Duplicate       same
//	Apply    tried, suspended,      Conflict        same
//	         cancelled
//	Ask      none                   EmptyRollback   suspended
//	Ask      tried, confirmed       Duplicate       same
//	Ask      suspended, cancelled   EmptyRollback   same
//	any      of another caller,     Conflict        same
//	         kind or input
//
// The row keeps the caller, the kind of branch, and a digest of the input. A call
// with another caller, kind or input belongs to another transaction with the same
// gid, or to another plan. It does nothing. Rows of version 1 of the schema lack
// these values and match every call. All callers without a name, such as DTM
// servers, count as one caller. A row that a participant writes never matches a
// call of an engine in the same database.
//
// An empty rollback is a Cancel that arrives although Try never ran: there is
// nothing to give back. It leaves the row suspended. A Try that arrives later is
// refused, so its reservation does not stay for ever. If a Try and a Cancel arrive
// at the same time, the primary key of the row makes one of them wait for the
// other, and the table holds for this order.
//
// An action of a saga has the same calls: its Try does the work for good, and its Cancel
// compensates. An Apply does the work of a Try after the decision to confirm.
//
// An Ask is a question: was the Try committed? Duplicate means yes. EmptyRollback means
// that it was not, and never will be, because a Try that arrives later is refused. If the
// Try is in flight, the Ask waits for its end.
//
// # Write first, read afterwards
//
// No call reads the row first and then decides. SELECT ... FOR UPDATE of a missing
// row, followed by an INSERT, deadlocks under MySQL's REPEATABLE READ, because two
// such locks on the same gap do not exclude each other. Under READ COMMITTED, the
// SELECT excludes nobody. So a call inserts or updates first. If that changed
// nothing, or found the row, the call reads the row, which it has locked by then.
// This is correct at every isolation level. [Do] uses READ COMMITTED, which locks
// least.
//
// # Turned away
//
// The row counts the calls that did not run: duplicates, late Trys and
// conflicts. The count is part of the local transaction: if the caller rolls
// back, the call leaves no trace. [Do] commits the count.
//
// # Under way
//
// Before an engine calls a branch that acts on something other than a database, it
// marks the call in the row: the operation, the instance of the engine, the start,
// and the latest end; see [UnderWay]. A Cancel waits for a Try that is under way.
package barrier
