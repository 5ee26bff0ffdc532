package txlog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// bench is a log, with everything in local transactions of its own.
type bench struct {
	*testing.T
	db  *gorm.DB
	log *txlog.Log
}

func each(t *testing.T, test func(b bench)) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		test(bench{t, db, log})
	})
}

func (b bench) run(work func(ctx context.Context, tx *gorm.DB) error) error {
	return local.Run(b.Context(), b.db, func(tx *gorm.DB) error { return work(b.Context(), tx) })
}

func (b bench) want(what string, got, want error) {
	b.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		b.Errorf("%s: %v, want %v", what, got, want)
	}
}

// begin writes a transaction in the state trying, with one branch.
func (b bench) begin(gid, owner string, deadline, due time.Duration) {
	b.Helper()
	b.want("insert", b.insert(txlog.Start{GID: gid, Pattern: "tcc", State: txlog.Trying, Owner: owner, Deadline: deadline, Due: due,
		Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}"}}}), nil)
}

func (b bench) insert(s txlog.Start) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Insert(ctx, tx, s) })
}

func (b bench) decide(gid string, epoch int64, state string) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		return b.log.Decide(ctx, tx, txlog.Decision{GID: gid, Epoch: epoch, State: state, By: "test", Owner: "me", Due: time.Hour})
	})
}

func (b bench) finish(gid string, epoch int64) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Finish(ctx, tx, gid, epoch) })
}

func (b bench) fail(gid string, epoch int64, attempt int) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		return b.log.Fail(ctx, tx, txlog.Retry{GID: gid, Epoch: epoch, Due: time.Hour}, []txlog.Failure{{BranchID: "01", Operation: "confirm", Attempt: attempt, Error: "no", Instance: "me", Next: time.Hour}})
	})
}

func (b bench) join(gid, id, payload string) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		_, err := b.log.Join(ctx, tx, txlog.Branch{GID: gid, ID: id, Kind: "k", Payload: payload}, room)
		return err
	})
}

var room = txlog.Room{Branches: 99, Bytes: 1 << 20}

func (b bench) branches(gid string) (branches map[string][]txlog.Branch, err error) {
	err = b.run(func(ctx context.Context, tx *gorm.DB) (err error) {
		branches, err = b.log.BranchesIn(ctx, tx, gid)
		return err
	})
	return branches, err
}

// claim claims for an instance that knows the kind k.
func (b bench) claim(instance string, since time.Time, limit int, busy func(string) bool) ([]txlog.Claimed, error) {
	claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: instance, From: txlog.Position{Due: since}, Page: limit, Limit: limit, Bytes: 1 << 20, Due: time.Hour,
		Busy: busy, Knows: func(kind string) bool { return kind == "k" }})
	return claims.Claimed, err
}

func (b bench) get(gid string) txlog.Record {
	b.Helper()
	r, err := b.log.Get(b.Context(), b.db, gid)
	b.want("get "+gid, err, nil)
	return r
}
