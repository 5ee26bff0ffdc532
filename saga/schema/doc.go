// Package schema installs and checks the database schema of tccsaga. The folder sql has
// the schema as plain SQL files.
//
// [Migrate] creates or upgrades the tables. A team with its own migrations uses [Script],
// [Upgrade] or [Statements] instead, with the same result. [Check] checks a database.
//
// The tables, all with the prefix saga_:
//
//	transactions    one row per global transaction: state, decision, deadline
//	branches        the branches of each transaction, recorded before they are called
//	attempts        failed branch calls; no row without a failure
//	instances       running engines and their leases
//	kinds           kinds of branch that an operator has paused
//	acts            actions of operators, and why
//	cleaning        progress of the removal of old transactions
//	barrier         operations of each branch, written in the local transaction of the branch
//	stock           articles of the ready-made branch stock.lock
//	stock_holds     pieces that each transaction holds or has bought, if the stock keeps holds
//	stock_acts      actions of people on holds, and why
//	outbox          messages of the ready-made branch message.publish
//	outbox_order    messages with an ordering key that are neither published nor discarded
//	outbox_delayed  messages that wait to be published: delayed ones, and those of PublishIn
//	inbox           messages that each consumer has received
//	inbox_cleaning  progress of the removal of old inbox rows
//	letter_acts     actions of operators on dead letters, and why
//	schema          the installed version of the schema
//
// A database that only has branches of an engine in another process needs the barrier
// alone. It gets all tables, because one schema is simpler than two. Every column has a
// comment in the database itself.
package schema
