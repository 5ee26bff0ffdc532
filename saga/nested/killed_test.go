package nested_test

import (
	"context"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The process of the parent is killed after the child is prepared: the parent is cancelled,
// and so is the child. They are in one engine.
func TestTheProcessOfTheParentIsKilled(t *testing.T) {
	if p, is := asProcess(t); is {
		s := p.site(t)
		s.nests(s.engine)
		s.tickets.on(func(ctx context.Context, op barrier.Op) error {
			p.signal(t, "prepared")
			<-ctx.Done()
			return ctx.Err()
		})
		_, err := tcc.Execute(t.Context(), s.engine, "a", stay{2, 3}, ticket{1})
		t.Fatalf("not killed: %v", err)
	}
	eachDatabase(t, func(t *testing.T, database sqltest.Database, db *gorm.DB) {
		sagatest.Must(t, schema.Migrate(t.Context(), db))
		s := newSite(t, db, quick)
		s.nests(s.engine)
		p := start(t, process{Test: "TestTheProcessOfTheParentIsKilled", Database: database})
		if said := p.says(); said != "prepared" {
			t.Fatal(said)
		}
		p.kill()
		if found := s.reaches("a", saga.Cancelled); found.Code != saga.CodeGone {
			t.Errorf("the parent is cancelled because of %s", found.Code)
		}
		if found := s.reaches("a.01", saga.Cancelled); found.Code != saga.CodeParent || found.PreparedAt.IsZero() {
			t.Errorf("the child is %+v", found.Summary)
		}
		s.has("room", 10, 0, 0)
		s.has("meal", 10, 0, 0)
		s.has("ticket", 10, 0, 0)
	})
}

// The process of the child is killed during the Try, before the child is prepared. The parent
// is cancelled. When the service is there again, so is the child.
func TestTheProcessOfTheChildIsKilledBeforePrepare(t *testing.T) {
	testKilledChild(t, "TestTheProcessOfTheChildIsKilledBeforePrepare", barrier.Try, func(t *testing.T, agency *site, p *running) (state saga.State) {
		failed := make(chan error, 1)
		go func() {
			_, err := tcc.Execute(t.Context(), agency.engine, "a", stay{2, 3}, ticket{1})
			failed <- err
		}()
		if said := p.says(); said != "stopped" {
			t.Fatal(said)
		}
		p.kill()
		want(t, "the parent", <-failed, saga.ErrCancelled)
		return saga.Cancelled
	})
}

// The process of the child is killed after the child is prepared. The parent is confirmed.
// When the service is there again, so is the child.
func TestTheProcessOfTheChildIsKilledAfterPrepare(t *testing.T) {
	testKilledChild(t, "TestTheProcessOfTheChildIsKilledAfterPrepare", "", func(t *testing.T, agency *site, p *running) (state saga.State) {
		transaction, err := tcc.Begin(t.Context(), agency.engine, "a")
		sagatest.Must(t, err)
		sagatest.Must(t, transaction.Try(t.Context(), stay{2, 3}))
		p.kill()
		outcome, err := transaction.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Errorf("the parent is %s: %v", outcome.State, err)
		}
		return saga.Confirmed
	})
}

// The process of the child is killed after the decision, while it confirms the branches of the
// child. Another process of the service continues.
func TestTheProcessOfTheChildIsKilledDuringConfirm(t *testing.T) {
	testKilledChild(t, "TestTheProcessOfTheChildIsKilledDuringConfirm", barrier.Confirm, func(t *testing.T, agency *site, p *running) (state saga.State) {
		transaction, err := tcc.Begin(t.Context(), agency.engine, "a")
		sagatest.Must(t, err)
		sagatest.Must(t, transaction.Try(t.Context(), stay{2, 3}))
		outcome, err := transaction.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("the parent is %s: %v", outcome.State, err)
		}
		if said := p.says(); said != "stopped" {
			t.Fatal(said)
		}
		p.kill()
		return saga.Confirmed
	})
}

// testKilledChild runs the hotel in a process of its own, whose meals stop in a call of stops.
// Do kills it, and returns the state that the transactions reach when another process has the
// service.
func testKilledChild(t *testing.T, test string, stops barrier.Op, do func(t *testing.T, agency *site, p *running) saga.State) {
	if p, is := asProcess(t); is {
		p.signal(t, serve(t, p.site(t)))
		<-t.Context().Done() // the process is killed before
	}
	eachDatabase(t, func(t *testing.T, database sqltest.Database, db *gorm.DB) {
		sagatest.Must(t, schema.Migrate(t.Context(), db))
		fill(t, db)
		p := start(t, process{Test: test, Database: database, Stops: stops})
		address := p.says()
		if !strings.HasPrefix(address, "http://") {
			t.Fatal(address)
		}
		n := newNetwork(t, address)
		agency := newAgency(t, n)
		state := do(t, agency, p)
		hotel := openSite(t, db, quick)
		n.leadsTo(t, serve(t, hotel))
		agency.reaches("a", state)
		hotel.reaches("a.01", state)
		if state == saga.Confirmed {
			hotel.has("room", 8, 0, 2)
			hotel.has("meal", 7, 0, 3)
		} else {
			hotel.has("room", 10, 0, 0)
			hotel.has("meal", 10, 0, 0)
		}
	})
}
