package tcc_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// holdSent is hold with a Deliver; holdHosted is of a participant that a service
// elsewhere would be.
type (
	holdSent   struct{ Account, Cents int }
	holdHosted struct{ Account, Cents int }
)

func (holdSent) Branch() string   { return "credit.sent" }
func (holdHosted) Branch() string { return "credit.hosted" }

type sentCredit struct{ credit[holdSent] }

func (c *sentCredit) Deliver(ctx context.Context, _ holdSent) (any, error) {
	return nil, c.hit(ctx, "deliver")
}

// hosted is a service within reach of the test.
type hosted struct{ *participant.Participant }

func (h hosted) Call(ctx context.Context, call saga.Call) error { return h.Participant.Call(ctx, call) }

// replicated is a bench whose databases answer plain reads from replicas that know
// nothing of what happens.
type replicated struct {
	*bench
	split, splitOther *gorm.DB
	home, place       *sqltest.Replica
	sent              *sentCredit
	hosted            *credit[holdHosted]
	host              *participant.Participant
}

func newReplicated(t *testing.T, dialect string, config embedded.Config) *replicated {
	t.Helper()
	r := &replicated{}
	r.split, r.home = sqltest.OpenReplicated(t, dialect, &gorm.Config{})
	r.splitOther, r.place = sqltest.OpenReplicated(t, dialect, &gorm.Config{})
	r.bench = &bench{t: t, db: r.home.Primary, other: r.place.Primary}
	for _, d := range []*gorm.DB{r.db, r.other} {
		sqltest.Exec(t, d, "CREATE TABLE accounts (id INT PRIMARY KEY, credit INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)")
		sqltest.Exec(t, d, "INSERT INTO accounts VALUES (1, 1000, 0, 0), (2, 1000, 0, 0), (3, 1000, 0, 0), (4, 1000, 0, 0)")
	}
	r.here = &credit[hold]{db: r.split, read: func(p hold) (int, int) { return p.Account, p.Cents }}
	r.away = &credit[holdAway]{db: r.splitOther, read: func(p holdAway) (int, int) { return p.Account, p.Cents }}
	r.out = &gateway{}
	r.sent = &sentCredit{credit[holdSent]{read: func(p holdSent) (int, int) { return p.Account, p.Cents }}}
	r.hosted = &credit[holdHosted]{db: r.splitOther, read: func(p holdHosted) (int, int) { return p.Account, p.Cents }}
	var err error
	r.host, err = participant.New(t.Context(), r.splitOther, participant.Config{CallTimeout: 100 * time.Millisecond})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(r.host, r.hosted))
	r.orch = r.opened(config)
	sagatest.Run(t, r.orch)
	return r
}

func (r *replicated) opened(config embedded.Config) *embedded.Engine {
	orch := sagatest.Open(r.t, r.split, config)
	sagatest.Must(r.t, tcc.Register(orch, r.here))
	sagatest.Must(r.t, tcc.Register(orch, r.away))
	sagatest.Must(r.t, tcc.RegisterExternal(orch, r.out))
	sagatest.Must(r.t, tcc.Register(orch, r.sent))
	sagatest.Must(r.t, tcc.RegisterRemote[holdHosted](orch, hosted{r.host}))
	return orch
}

// finished waits for the end of a transaction, and checks it at the primary: what
// the log says happened in every branch.
func (r *replicated) finished(gid string, want saga.State, payloads ...tcc.Payload) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if outcome, err := r.orch.Wait(ctx, gid); outcome.State != want {
		r.t.Errorf("%s is %+v, %v; want %s", gid, outcome, err, want)
	}
	for i, p := range payloads {
		db, id := r.db, saga.BranchID(i+1)
		switch p.(type) {
		case holdAway, holdHosted:
			db = r.other
		case holdOut:
			if at, says := r.out.at(gid+"/"+id), map[saga.State]string{saga.Confirmed: "spent", saga.Cancelled: "free"}[want]; at != says {
				r.t.Errorf("%s is %s, and the gateway says %q", gid, want, at)
			}
		}
		var state string
		sagatest.Must(r.t, db.Raw("SELECT COALESCE(MAX(state), 'absent') FROM saga_barrier WHERE gid = ? AND branch_id = ?", gid, id).Scan(&state).Error)
		if state != string(want) {
			r.t.Errorf("%s is %s, and the barrier of %s says %s", gid, want, p.Branch(), state)
		}
	}
}

var everyPlan = map[string][]tcc.Payload{
	"here":         {hold{1, 1}, hold{2, 1}},
	"away":         {holdAway{1, 1}},
	"external":     {holdOut{1, 1}},
	"sent":         {holdSent{3, 1}},
	"here, sent":   {hold{1, 1}, holdSent{3, 1}},
	"hosted":       {holdHosted{4, 1}},
	"all":          {hold{1, 1}, holdAway{1, 1}, holdOut{1, 1}, holdSent{3, 1}, holdHosted{4, 1}},
	"all, turned":  {holdHosted{4, 1}, holdSent{3, 1}, holdOut{1, 1}, holdAway{1, 1}, hold{1, 1}},
	"twice a kind": {holdOut{1, 1}, hold{1, 1}, holdOut{2, 1}, holdSent{3, 1}, holdSent{3, 1}},
}

// even checks that nothing is reserved any more.
func (r *replicated) even() {
	r.t.Helper()
	for _, db := range []*gorm.DB{r.db, r.other} {
		var held int
		sagatest.Must(r.t, db.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
		if held != 0 {
			r.t.Errorf("%d are still held", held)
		}
	}
}

func (r *replicated) rowsOf(db *gorm.DB, table, gid string) (n int) {
	sagatest.Must(r.t, db.Raw("SELECT COUNT(*) FROM "+table+" WHERE gid = ?", gid).Scan(&n).Error)
	return n
}

// ageBarrier moves the barrier rows of a transaction into the past.
func (r *replicated) ageBarrier(gid string) {
	for _, db := range []*gorm.DB{r.db, r.other} {
		sqltest.Exec(r.t, db, "UPDATE saga_barrier SET tried_at = '2001-01-01 00:00:00', confirmed_at = '2001-01-01 00:00:00' WHERE gid = ?", gid)
	}
}
