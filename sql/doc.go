// Package sql holds the database schema of tccsaga, one file per dialect, and
// installs it.
//
// [Migrate] creates or upgrades the tables; a team that runs its own
// migrations takes [Statements] instead and gets the same result. [Check] says
// whether a database is ready.
//
// The tables, all with the prefix saga_:
//
//	transactions  one row per global transaction: state, decision, deadline
//	branches      its branches, named before they are called
//	attempts      failed branch calls; no row where nothing failed
//	instances     running orchestrators and their leases
//	barrier       what each branch has done, in its own local transaction
//	stock         articles of the ready-made branch stock.lock
//	stock_holds   which transaction holds or has bought what, if the stock keeps holds
//	stock_acts    what people have done to holds, and why
//	outbox        messages of the ready-made branch message.publish
//	inbox         messages that a consumer has handled
//	schema        which version of all this is installed
//
// A database that only hosts branches of an orchestrator elsewhere needs the
// barrier alone, but gets all of them: one schema is easier to reason about
// than two. Every column carries a comment in the database itself.
//
// The package shares its name with the standard library's database/sql, after
// the folder that people look for; importers commonly call it sagasql.
package sql
