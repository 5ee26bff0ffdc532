// Package barrier makes a branch call safe to repeat, to arrive late and to
// arrive in the wrong order.
//
// A branch of a transaction has one row in the table saga_barrier, in the
// database where the branch does its work. Every call of the branch writes that
// row first, in the same local transaction as its work, and the row says what
// to do: the [Verdict].
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
//	any      of another caller,     Conflict        same
//	         kind or input
//
// The row keeps whose call wrote it, of which kind, and a digest of the input. A call
// that differs in one of these is of another transaction with the same gid, or of
// another plan, and does nothing. Rows that version 1 of the schema has written say
// nothing of these and take every call. A caller that does not say its name, such as a
// DTM server, is one of its own. A service's rows are never those of an engine in the
// same database.
//
// An empty rollback is a Cancel that comes although Try never ran: there is
// nothing to give back. It leaves the row suspended, so that a Try that was
// only late is refused when it comes and its reservation does not hang for
// ever. A Try and a Cancel in flight together meet on the row's primary key;
// the database lets one go first, and the table holds for that order.
//
// # Write first, look afterwards
//
// No call reads the row and then decides. SELECT ... FOR UPDATE of a missing
// row and then INSERT deadlocks under MySQL's REPEATABLE READ, where two such
// locks on the same gap do not exclude each other, and under READ COMMITTED it
// excludes nobody. So a call inserts or updates first, and only when that
// changed nothing, or found the row, it looks at the row that it has locked by
// then. This holds at every isolation level; [Do] asks for READ COMMITTED,
// which locks least.
//
// # Turned away
//
// The row counts the calls that did not run: duplicates, late Trys and
// conflicts. The count is part of the local transaction: if the caller rolls
// back, the call leaves no trace. [Do] commits it.
//
// # Under way
//
// An engine notes in the row that it is calling a branch that acts on something other
// than a database: the operation, by whom, since when, and until when it may run at the
// latest; see [UnderWay]. A Cancel waits for a Try that is under way.
package barrier
