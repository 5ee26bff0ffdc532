// Package schema installs and checks the database schema of tccsaga, whose plain SQL
// files are in the folder sql.
//
// [Migrate] creates or upgrades the tables. A team that runs its own migrations takes
// [Script], [Upgrade] or [Statements] instead and gets the same result. [Check] says
// whether a database is ready.
//
// The tables, all with the prefix saga_:
//
//	transactions  one row per global transaction: state, decision, deadline
//	branches      its branches, named before they are called
//	attempts      failed branch calls; no row where nothing failed
//	instances     running engines and their leases
//	barrier       what each branch has done, in its own local transaction
//	stock         articles of the ready-made branch stock.lock
//	stock_holds   which transaction holds or has bought what, if the stock keeps holds
//	stock_acts    what people have done to holds, and why
//	outbox        messages of the ready-made branch message.publish
//	inbox         messages that a consumer has handled
//	schema        which version of all this is installed
//
// A database that only hosts branches of an engine elsewhere needs the barrier alone,
// but gets all tables: one schema is easier to reason about than two. Every column has a
// comment in the database itself.
package schema
