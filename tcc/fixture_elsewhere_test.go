package tcc_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// hostOf is a participant with a branch in a database, and the way to it.
type hostOf struct{ p *participant.Participant }

func (h hostOf) Call(ctx context.Context, call saga.Call) error { return h.p.Call(ctx, call) }

func newHostOf(t *testing.T, db *gorm.DB) (hostOf, *credit[hold]) {
	t.Helper()
	p, err := participant.New(t.Context(), db, participant.Config{Logger: quiet})
	sagatest.Must(t, err)
	branch := &credit[hold]{read: func(p hold) (int, int) { return p.Account, p.Cents }}
	sagatest.Must(t, tcc.Register(p, branch))
	return hostOf{p}, branch
}

// engineOf opens an engine in a database of its own whose branch is at the host.
func engineOf(t *testing.T, host hostOf, db *gorm.DB) *bench {
	t.Helper()
	orch := sagatest.Open(t, db, quick)
	sagatest.Must(t, tcc.RegisterRemote[hold](orch, host))
	b := &bench{t: t, db: db, orch: orch}
	sagatest.Run(t, orch)
	return b
}

func newAccounts(t *testing.T, db *gorm.DB) {
	t.Helper()
	sqltest.Exec(t, db, "CREATE TABLE accounts (id INT PRIMARY KEY, credit INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)")
	sqltest.Exec(t, db, "INSERT INTO accounts VALUES (1, 100, 0, 0), (2, 100, 0, 0)")
}

func (b *bench) row(db *gorm.DB, gid, branchID string) barrier.Row {
	b.t.Helper()
	rows, err := barrier.Look(b.t.Context(), db, gid)
	sagatest.Must(b.t, err)
	for _, row := range rows {
		if row.BranchID == branchID {
			return row
		}
	}
	b.t.Fatalf("%s/%s has no barrier row", gid, branchID)
	return barrier.Row{}
}

// holdFar is a branch that another service has.
type holdFar struct{ Account, Cents int }

func (holdFar) Branch() string { return "credit.far" }

// withFar makes credit.far known to engines, in a service with its own database.
func (b *bench) withFar(engines ...*embedded.Engine) {
	b.t.Helper()
	p, err := participant.New(b.t.Context(), b.other, participant.Config{Logger: quiet})
	sagatest.Must(b.t, err)
	sagatest.Must(b.t, tcc.Register(p, &credit[holdFar]{read: func(p holdFar) (int, int) { return p.Account, p.Cents }}))
	for _, engine := range engines {
		sagatest.Must(b.t, tcc.RegisterRemote[holdFar](engine, hostOf{p}))
	}
}
