// Command sagactl looks at the transactions of tccsaga in a database, and acts on them.
//
//	go install github.com/tccsaga/tccsaga/saga/sagactl@latest
//	export SAGACTL_DB=postgres://shop@db:5432/shop
//
//	sagactl check                                 # does anything need a person?
//	sagactl tx list --attention                   # which transactions, and why
//	sagactl tx show order-1001                    # where it stands, what has happened, what can be done
//	sagactl tx retry order-1001 --why "the bank is back"
//
// It needs the database of the log, and no engine. An act is written into the log, with who and
// why, in one local transaction. A running engine sees it within its poll interval, and drives the
// transaction. To have the command in a program of your own, which knows its other databases, see
// package [github.com/tccsaga/tccsaga/saga/ctl].
//
// # Commands
//
//	tx list           transactions, the newest first, without finished ones
//	tx show           where a transaction stands and why; its branches, barrier rows, timeline, possible acts, SQL
//	tx watch          the same again and again, until the transaction is finished or Ctrl-C
//	tx wait           wait until a transaction is finished
//	tx export         transactions with all that is known of them, as JSON
//	tx retry          make every branch that is not done due now, and clear the attention
//	tx pause          call no branch until it is resumed
//	tx resume         undo pause
//	tx confirm        decide an undecided transaction: confirm it
//	tx cancel         decide an undecided transaction: cancel it
//	tx resolve        end a conflict: state the result of one branch
//	kind list         kinds of branches that are paused
//	kind pause        call no branch of a kind until it is resumed
//	kind resume       undo pause
//	instance list     running engines, and those that ended without a goodbye in the last hour
//	act list          the audit log: who did what, when and why
//	act bulk          act on many transactions; --resume continues it
//	act bulk list     bulk actions, the newest first
//	act bulk show     a bulk action and its transactions
//	outbox list       messages that wait to be published
//	outbox stats      how many these are, and how late
//	dead list         dead letters of the message broker
//	dead show         a dead letter with its data, and the acts on it
//	dead resend       send dead letters again, to the consumer that could not handle them
//	dead delete       remove dead letters for good
//	check             for a monitoring system
//	stats             what is unfinished, what needs a person, and what has finished lately
//	schema status     whether the tables are complete
//	schema up         create or upgrade the tables
//	schema print      the tables as an SQL script
//	console           serve the web console on this machine
//	completion        the script that completes commands in a shell
//	version           the version of the program, and of the schema that it needs
//
// Each command has --help, which lists its flags.
//
// # The database
//
// The address of the database is, in this order: the flag --db; the profile of the flag --profile;
// the environment variable SAGACTL_DB; the profile of SAGACTL_PROFILE, or the default profile. It
// has one of these forms:
//
//	mysql://user:password@host:port/database     MySQL and MariaDB; mariadb:// too
//	postgres://user:password@host:port/database  PostgreSQL
//	sqlite:FILE                                  SQLite; only "schema up" makes a new file
//	a DSN of the Go driver                       user:password@tcp(host)/database, "host=... dbname=...", FILE.db?...
//
// A URL takes the parameters of the Go driver, such as ?tls=true and ?sslmode=verify-full. The
// environment of PostgreSQL's own tools, such as PGPASSWORD and ~/.pgpass, counts too. Other people
// of the machine can see the flags of a process, so put a password into the environment or a
// profile. The command prints no password.
//
// Profiles are in $XDG_CONFIG_HOME/sagactl/config.yaml, or ~/.config/sagactl/config.yaml. All
// fields may be left out:
//
//	default: staging
//	profiles:
//	  staging:
//	    db: mysql://shop:password@db:3306/shop
//	    nats: nats://broker:4222
//	    stream: orders
//	    who: ann@example.org
//
// # Find transactions
//
// "tx list", "tx export" and "act bulk" take the same conditions, and all of them have to hold:
//
//	--state STATES             trying, confirming, confirmed, cancelling, cancelled
//	--all                      finished ones too; without it and --state they are left out
//	--attention, --paused      only those that need an operator, or that one has paused
//	--label NAME=VALUE         a label; --value VALUE is that of any label
//	--text TEXT                part of an error, of a reason of a cancel, or of an attention
//	--kind, --owner, --pattern the kind of a branch, the instance, the pattern
//	--prefix TEXT              the begin of the gid; sorted by gid
//	--since, --before TIME     begun after or before: 15m, 36h, 2026-01-31, 2026-01-31T10:00:00Z
//	--oldest                   the oldest first
//
// A search is bounded: the database looks at 10,000 transactions at a time, along an index. The
// command continues until it has --limit of them, or --timeout has passed.
//
// # Acts
//
// Every act needs --why. Who acts is --who, SAGACTL_WHO, the profile, or user@host. Both are
// recorded. An act that would have no effect or break a promise is refused, and says why.
//
// With --dry-run, nothing is done: the command says what it would do, or why that would be refused.
// On a terminal, acts that cannot be undone ask for a confirmation. Elsewhere they need --yes.
//
// "act bulk" acts on all transactions that conditions select: retry, pause, resume, confirm or
// cancel. It makes the list first, which does not change, and asks a person to confirm the number.
// Then it acts on each, with one recorded act in one local transaction. Ctrl-C ends it in between;
// --resume ID continues it, in any process.
//
// # Output
//
//	-o table   for people; lines are cut at the width of a terminal, and nowhere else
//	-o json    one value: a list is an object with the field "next", which --after takes
//	-o jsonl   one object per line
//
// JSON has the types of package saga. Times in it are those of the database, in UTC. In tables,
// --local shows the local time zone. Colours are used on a terminal, unless NO_COLOR is set;
// --color always and --color never decide it. COLUMNS sets the width. Control characters in texts
// of others are shown as escapes, and never reach the terminal. Results are written to the
// standard output, and all else to the standard error.
//
// # Exit codes
//
//	0    ok
//	1    failed; after an act, look at the transaction
//	2    a flag, an argument or a profile is not valid; nothing was done
//	3    no such transaction, bulk action or dead letter
//	4    an act was refused; nothing was done
//	5    the database or the broker cannot be reached
//	6    the time limit has passed; see --timeout
//	7    a person did not confirm the act; nothing was done
//	8    "tx wait": the transaction is cancelled
//	9    the schema is missing, not complete, or newer than the program
//	130  Ctrl-C
//
// If the reader of the output goes away, as in "sagactl tx list | head", the signal SIGPIPE ends
// the command.
//
// # Monitoring
//
// "check" compares with thresholds, which have flags, and ends with the exit code of a monitoring
// plugin: 0 ok, 1 warning, 2 critical, 3 unknown, which is a mistake in the call. A database that
// cannot be reached, or has no complete schema, is critical.
//
//	attention          transactions that need an operator            warning 1, critical 10
//	oldest_undecided   age of the oldest undecided one               warning 10m, critical 1h
//	oldest_unfinished  age of the oldest decided, unfinished one     warning 10m, critical 1h
//	paused_kinds       kinds of branches that are paused             warning 1
//	dead_instances     ended without a goodbye in the last hour      warning 1
//	instances          running engines                               critical below 1
//	outbox_lag         age of the oldest message that waits          warning 1m, critical 10m
//
// -o nagios is for Nagios, Icinga, Checkmk and others; -o prometheus is for the textfile collector
// of Prometheus's node exporter; -o json is for programs.
package main
