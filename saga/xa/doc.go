// Package xa has branches that are prepared and then committed by the database: XA on MariaDB
// and MySQL, and PREPARE TRANSACTION on PostgreSQL. The user writes the work once. There is no
// Confirm and no Cancel.
//
//	type Debit struct{ Account, Cents int }
//
//	func (Debit) Branch() string { return "alpha.debit" }
//
//	db, err := xa.Open(ctx, alpha) // checks the server
//	err = xa.Register(engine, db, xa.Func[Debit](func(ctx context.Context, tx *gorm.DB, in Debit) error {
//		return tx.Exec("UPDATE accounts SET cents = cents - ? WHERE id = ?", in.Cents, in.Account).Error
//	}))
//	outcome, err := tcc.Execute(ctx, engine, gid, Debit{1, 500}, Credit{2, 500})
//
// A plan, or an open transaction, can have such branches beside those of package tcc, and
// beside messages.
//
// # When to use it
//
// Nobody sees the work before the decision: the rows are locked, and other sessions read the
// values of before. So the work needs no reservation, such as a column for locked stock, and
// tables of another program stay as they are. This has a cost:
//
//   - Locks are held from the Try until the decision and its Confirm, also while the process
//     that decides is down. Do not use such branches in transactions that wait for a person.
//   - A connection is in use for each prepared transaction on MariaDB: see "Connections". On
//     PostgreSQL, each takes one of max_prepared_transactions.
//   - A Try has two durable commits instead of one, and some more round trips. The calls of
//     different transactions do not share commits.
//   - A prepared transaction keeps the server from removing old row versions: VACUUM on
//     PostgreSQL, purge on MariaDB and MySQL. It also blocks DDL on its tables.
//   - A replica of MariaDB applies XA PREPARE when it comes, and holds its locks too. A dump
//     does not contain prepared transactions. After a restore, or a failover to a replica that
//     lags behind, a prepared transaction can be missing; then its Confirm is a conflict.
//
// With package tcc, other sessions see the reservation, and no lock is held between the calls.
//
// # The protocol
//
//	                            Confirm: COMMIT
//	             Try            +------------> confirmed
//	no row ----------> prepared-+
//	  |   work, PREPARE         +------------> cancelled
//	  |                         Cancel: ROLLBACK
//	  +--------------> suspended
//	   Cancel
//
// Try begins a local transaction with an xid, writes the barrier row in the state confirmed,
// does the work, and prepares. So row and work become visible at the same time. Before, only
// the server's list has the transaction: XA RECOVER, or pg_prepared_xacts.
//
// Confirm commits the prepared transaction. If the server has none with this xid, the barrier
// row says why: if it is there, an earlier Confirm has committed. Otherwise the transaction is
// lost, and the error wraps [barrier.ErrConflict]: a person has to look. "Unknown xid" alone
// never counts as success.
//
// Cancel rolls the prepared transaction back, and then writes the barrier row as cancelled, so
// that a Try that arrives later is refused. If there was no prepared transaction, the row is
// suspended. While a Try is at work, it has locked the key of the row: Cancel waits for a
// second, fails with [saga.ErrOngoing], and is repeated.
//
//	call     new branch  prepared             confirmed  cancelled or suspended
//	Try      prepares    succeeds             succeeds   ErrSuspended
//	Confirm  conflict    commits              succeeds   conflict
//	Cancel   suspended   rolls back           conflict   succeeds
//
// The xid is "tccsaga:LOG:gid/branch". LOG is a digest of the id of the engine's log. On MariaDB
// and MySQL, an xid has at most 128 bytes, of which the first 64 are the global part and the
// others the part of the branch. There, the end of a long gid is replaced by its digest.
//
// # Connections
//
// On MariaDB, and on MySQL without xa_detach_on_prepare, only the connection that has prepared
// a transaction can end it, until the connection is closed. The process that has made the Try
// holds it for a second. Usually the decision comes before. Afterwards, and when the
// [Database] is closed, it closes the connection. The transaction stays prepared, and every
// process can end it.
//
// While MariaDB ends such a connection, there is a moment in which it answers the XA COMMIT of
// another connection with success and does nothing. So another connection waits until the
// first one has been gone for a second, and reads the barrier row after the COMMIT. A Confirm
// or Cancel in another process than the Try therefore takes at least a second. To know when
// the connection is gone, it holds a lock, GET_LOCK('tccsaga:NUMBER'), and NUMBER is the format
// of the xid. User code must not call RELEASE_ALL_LOCKS. If the error of a Confirm says that
// the server has answered with success but has not done it, restart the server: it then lists
// the transaction again, and the next Confirm commits it.
//
// A paused process, or one that is cut off from the network, keeps its connections until the
// server notices. Until then, a Confirm elsewhere fails with [saga.ErrOngoing] and names the
// connection. KILL that connection to end it at once.
//
// The connections of Trys and of held transactions are at most half of those that the engine
// may use of the pool. Other Trys wait. So an engine on the same pool can always decide. Open
// a Database once for each pool.
//
// # Servers
//
//	server      needs                             refused by Open
//	MariaDB     10.5.2 or newer                   older: they lose prepared transactions with the connection
//	MySQL       8.0 or newer; the privilege       older; without the privilege
//	            XA_RECOVER_ADMIN
//	Galera      -                                 always (wsrep_on): XA is not replicated
//	PostgreSQL  max_prepared_transactions above   max_prepared_transactions = 0
//	            0, best at least max_connections
//	SQLite      -                                 always: it has no such transactions
//
// The tests run on MariaDB 10.11 and PostgreSQL, and not on MySQL. On PostgreSQL, all processes
// have to use the same role: only the role that has prepared a transaction can end it, or a
// superuser. A proxy that gives the statements of a session to several connections of the
// server, such as PgBouncer with statement pooling or ProxySQL with multiplexing, cannot be used.
//
// The work cannot use what the server does not prepare: statements that commit implicitly, such
// as DDL, on MariaDB and MySQL; temporary tables, NOTIFY, and cursors WITH HOLD on PostgreSQL. A
// session of gorm with PrepareStmt is refused in the work.
//
// # What can be lost
//
// Each row is a point at which a process, a server or an answer is lost.
//
//	lost                          what happens next                               shown by
//	----------------------------  ----------------------------------------------  -----------------------------------
//	process, before XA START      nothing was done; Cancel writes suspended       TestProcessKilledAtEachStep
//	process, in the work          the server rolls back; Cancel writes suspended  TestProcessKilledAtEachStep
//	process, after PREPARE        another instance rolls back                     TestProcessKilledAtEachStep
//	process, after the decision   another instance commits, or rolls back         TestProcessKilledAtEachStep
//	process, between two COMMITs  another instance commits the rest               TestProcessKilledAtEachStep
//	server and process, while     the server has the transaction when it is back, TestServerKilled
//	prepared                      with its locks; another instance ends it
//	answer of BEGIN, XA START or  the server rolls back; the Try runs again       TestLostAnswers
//	XA END
//	answer of PREPARE             the Try runs again, and finds the xid in use:   TestLostAnswers
//	                              it is prepared
//	answer of COMMIT              Confirm runs again, and finds the row           TestLostAnswers
//	answer of ROLLBACK            Cancel runs again, and writes suspended         TestLostAnswers
//	connection, while prepared    another connection ends it, when it is gone     TestAffinity
//	connection, during the end    nothing: the end waits, and reads the row       TestEndedWhileTheConnectionCloses
//	by another one
//	prepared transaction, ended   Confirm is a conflict, and the transaction      TestPreparedTransactionIsLost
//	by a person                   needs attention
//	a Try, until after its        the barrier refuses the Try                     TestVerdicts
//	Cancel
//	deadlock, in the work         the Try runs again                              TestDeadlock
//	time, or a panic, in the work it is rolled back, and the transaction is       TestWork
//	                              cancelled
//
// # What operators see
//
// Lookup shows the barrier row of a branch after its end. Before, it has none. The method
// InDoubt lists the prepared transactions with what the log says of each, InDoubtPage a bounded
// number of them, and Sweep ends those that are decided, or that the log does not have any more.
// It leaves the transactions of other logs and programs. All take an engine, or its Operations.
package xa
