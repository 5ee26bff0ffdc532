package xa_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The process and the server are killed while transactions are prepared. The server still has
// them when it is back, with their locks, and another process ends them.
func TestServerKilled(t *testing.T) {
	for _, dialect := range servers {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			server, db := newServer(t, dialect, map[string][]string{"postgres": {"-c", "max_prepared_transactions=10"}}[dialect]...)
			sqltest.Exec(t, db, "CREATE TABLE numbers (id INT PRIMARY KEY, n INT NOT NULL)")
			sqltest.Exec(t, db, "INSERT INTO numbers VALUES (1, 0), (2, 0)")
			log := sqltest.Open(t, "sqlite")
			ctx := t.Context()
			func() {
				first := sagatest.Open(t, log, embedded.Config{})
				d, err := xa.Open(ctx, db)
				sagatest.Must(t, err)
				defer d.Close()
				sagatest.Must(t, xa.Register(first, d, adder{}))
				sagatest.Run(t, first)
				for gid, in := range map[string]add{"confirm": {1, 5}, "cancel": {2, 7}} {
					tx, err := tcc.Begin(ctx, first, gid)
					sagatest.Must(t, err)
					sagatest.Must(t, tx.Try(ctx, in))
				}
				server.kill()
			}()
			server.start()
			second := engine(t, log, open(t, db), adder{})
			if len(prepared(t, db, "confirm")) != 1 || len(prepared(t, db, "cancel")) != 1 || number(t, db, 1) != 0 || !locked(db, 1) || !locked(db, 2) {
				t.Errorf("after the restart: %v", recovered(t, db))
			}
			confirmed, err := tcc.Join(ctx, second, "confirm")
			sagatest.Must(t, err)
			_, err = confirmed.Confirm(ctx)
			sagatest.Must(t, err)
			cancelled, err := tcc.Join(ctx, second, "cancel")
			sagatest.Must(t, err)
			_, err = cancelled.Cancel(ctx, "on purpose")
			sagatest.Must(t, err)
			sagatest.Reach(t, second, "confirm", saga.Confirmed)
			found := sagatest.Reach(t, second, "cancel", saga.Cancelled)
			if row := found.Branches[0].Barrier; row == nil || row.State != barrier.StateCancelled {
				t.Errorf("%+v", row)
			}
			if number(t, db, 1) != 5 || number(t, db, 2) != 0 || locked(db, 1) || locked(db, 2) || len(recovered(t, db)) != 0 {
				t.Errorf("the numbers are %d and %d, left are %v", number(t, db, 1), number(t, db, 2), recovered(t, db))
			}
		})
	}
}

// Open refuses a server that cannot prepare transactions, and says what to change.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, db *gorm.DB, want string) {
		t.Helper()
		d, err := xa.Open(t.Context(), db)
		if d != nil || !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	t.Run("nil", func(t *testing.T) { refused(t, nil, "the database is nil") })
	t.Run("sqlite", func(t *testing.T) { refused(t, sqltest.Open(t, "sqlite"), "SQLite cannot prepare a transaction") })
	t.Run("postgres without prepared transactions", func(t *testing.T) {
		t.Parallel()
		_, db := newServer(t, "postgres", "-c", "max_prepared_transactions=0")
		refused(t, db, "max_prepared_transactions = 0")
	})
	t.Run("versions", func(t *testing.T) {
		for version, want := range map[string]string{
			"10.4.34-MariaDB": "MariaDB 10.4.34 is too old", "10.5.1-MariaDB": "too old", "5.7.44-log": "MySQL 5.7.44 is too old", "new": `"new" is not known`,
			"10.5.2-MariaDB": "", "10.11.6-MariaDB-0+deb12u1": "", "11.4.2-MariaDB": "", "8.0.36": "", "8.4.0": "", "9.1.0": "",
		} {
			err := xa.CheckVersion(version)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", version, err, want)
			}
		}
	})
}

// The schema is checked when a branch is registered.
func TestRegisterChecksTheSchema(t *testing.T) {
	t.Parallel()
	bare := sqltest.Connect(t, sqltest.Create(t, "mysql"), &gorm.Config{})
	e := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	if err := xa.Register(e, open(t, bare), adder{}); err == nil || !strings.Contains(err.Error(), "number.add") {
		t.Error(err)
	}
	if err := xa.Register(e, nil, adder{}); !errors.Is(err, saga.ErrInvalid) {
		t.Error(err)
	}
	if err := xa.Register[add](e, open(t, bare), nil); !errors.Is(err, saga.ErrInvalid) {
		t.Error(err)
	}
}

// The only node of a Galera cluster, which does not replicate XA.
func TestOpenRefusesACluster(t *testing.T) {
	t.Parallel()
	const provider = "/usr/lib/galera/libgalera_smm.so"
	if _, err := os.Stat(provider); err != nil {
		t.Skip("Galera is not installed")
	}
	port := freePort(t)
	_, db := newServer(t, "mysql", "--wsrep-on=ON", "--binlog-format=ROW", "--wsrep-provider="+provider, "--wsrep-cluster-address=gcomm://",
		"--wsrep-node-address=127.0.0.1", "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:"+port+";ist.recv_addr=127.0.0.1:"+freePort(t))
	_, err := xa.Open(t.Context(), db)
	if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "wsrep_on") {
		t.Error(err)
	}
}
