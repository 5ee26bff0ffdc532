package nested_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The child is in another service with a database of its own. It is confirmed or cancelled
// with its parent.
func TestAcrossServices(t *testing.T) {
	eachService(t, quick, func(t *testing.T, agency, hotel *site, _ *network) {
		outcome, err := tcc.Execute(t.Context(), agency.engine, "a", stay{2, 3}, tour{1}, ticket{1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("a is %s: %v", outcome.State, err)
		}
		for _, gid := range []string{"a.01", "a.02", "a.02.01"} {
			hotel.reaches(gid, saga.Confirmed)
		}
		hotel.has("room", 7, 0, 3)
		hotel.has("meal", 5, 0, 5)
		if parent := hotel.look("a.01").Parent; !strings.HasSuffix(parent, "/a/01") || len(parent) != 32+len("/a/01") {
			t.Errorf("the parent is %s", parent)
		}
		_, err = tcc.Execute(t.Context(), agency.engine, "b", stay{2, 3}, tour{1}, ticket{100})
		want(t, "b", err, saga.ErrCancelled)
		for _, gid := range []string{"b.01", "b.02", "b.02.01"} {
			if found := hotel.reaches(gid, saga.Cancelled); found.Code != saga.CodeParent {
				t.Errorf("%s is cancelled because of %s", gid, found.Code)
			}
		}
		hotel.has("room", 7, 0, 3)
		hotel.has("meal", 5, 0, 5)
		_, err = tcc.Execute(t.Context(), agency.engine, "c", ticket{1}, stay{2, 8})
		var rejection *saga.Rejection
		if !errors.As(err, &rejection) || rejection.Code != "meal.short" || !strings.Contains(err.Error(), "8 are not free") {
			t.Errorf("c: %v", err)
		}
		hotel.reaches("c.02", saga.Cancelled)
		hotel.has("room", 7, 0, 3)
	})
}

// The answer to a Try is lost: it is repeated, and the child is the same. If no answer comes,
// both are cancelled.
func TestTheAnswerOfATryIsLost(t *testing.T) {
	eachService(t, quick, func(t *testing.T, agency, hotel *site, n *network) {
		n.lose(barrier.Try, 1)
		_, err := tcc.Execute(t.Context(), agency.engine, "once", stay{2, 3}, ticket{1})
		if tries := n.called(barrier.Try); err != nil || tries != 2 {
			t.Errorf("it was tried %d times: %v", tries, err)
		}
		hotel.reaches("once.01", saga.Confirmed)
		hotel.has("room", 8, 0, 2)
		n.lose(barrier.Try, 100)
		_, err = tcc.Execute(t.Context(), agency.engine, "often", stay{2, 3}, ticket{1})
		want(t, "without an answer", err, saga.ErrCancelled)
		hotel.reaches("often.01", saga.Cancelled)
		agency.reaches("often", saga.Cancelled)
		hotel.has("room", 8, 0, 2)
		hotel.has("meal", 7, 0, 3)
	})
}

// The answer to a Confirm or Cancel is lost: it is repeated and does nothing more.
func TestTheAnswerOfADecisionIsLost(t *testing.T) {
	eachService(t, quick, func(t *testing.T, agency, hotel *site, n *network) {
		n.lose(barrier.Confirm, 2)
		_, err := tcc.Execute(t.Context(), agency.engine, "a", stay{2, 3}, ticket{1})
		sagatest.Must(t, err)
		agency.reaches("a", saga.Confirmed)
		if calls := n.called(barrier.Confirm); calls != 3 {
			t.Errorf("it was confirmed %d times", calls)
		}
		hotel.reaches("a.01", saga.Confirmed)
		n.lose(barrier.Cancel, 2)
		_, err = tcc.Execute(t.Context(), agency.engine, "b", stay{2, 3}, ticket{100})
		want(t, "b", err, saga.ErrCancelled)
		agency.reaches("b", saga.Cancelled)
		if calls := n.called(barrier.Cancel); calls != 3 {
			t.Errorf("it was cancelled %d times", calls)
		}
		hotel.reaches("b.01", saga.Cancelled)
		hotel.has("room", 8, 0, 2)
	})
}

// The database of the child does not work during the Confirm: the parent stays confirming,
// and the Confirm is repeated until it succeeds.
func TestTheDatabaseOfTheChildIsDownDuringConfirm(t *testing.T) {
	config := quick
	eachService(t, config, func(t *testing.T, agency, hotel *site, n *network) {
		transaction, err := tcc.Begin(t.Context(), agency.engine, "a")
		sagatest.Must(t, err)
		sagatest.Must(t, transaction.Try(t.Context(), stay{2, 3}))
		sagatest.Must(t, transaction.Try(t.Context(), ticket{1}))
		sqltest.Exec(t, hotel.db, "ALTER TABLE saga_transactions RENAME TO away")
		outcome, err := transaction.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Errorf("the parent is %s: %v", outcome.State, err)
		}
		failed := n.called(barrier.Confirm)
		sagatest.Eventually(t, "it is repeated", func() bool { return n.called(barrier.Confirm) > failed+1 })
		sqltest.Exec(t, hotel.db, "ALTER TABLE away RENAME TO saga_transactions")
		agency.reaches("a", saga.Confirmed)
		hotel.reaches("a.01", saga.Confirmed)
		hotel.has("room", 8, 0, 2)
		hotel.has("meal", 7, 0, 3)
	})
}

// A Try that arrives after its Cancel is refused by the service.
func TestALateTryAcrossServices(t *testing.T) {
	eachService(t, quick, func(t *testing.T, agency, hotel *site, n *network) {
		began, release := make(chan struct{}), make(chan struct{})
		hotel.meals.on(func(_ context.Context, op barrier.Op) error {
			if op == barrier.Try {
				close(began)
				<-release
			}
			return nil
		})
		ctx, giveUp := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := tcc.Execute(ctx, agency.engine, "a", stay{2, 3}, ticket{1})
			failed <- err
		}()
		<-began
		giveUp()
		want(t, "its caller is gone", <-failed, saga.ErrCancelled)
		close(release)
		agency.reaches("a", saga.Cancelled)
		hotel.reaches("a.01", saga.Cancelled)
		hotel.has("room", 10, 0, 0)
		hotel.has("meal", 10, 0, 0)
		agency.has("ticket", 10, 0, 0)
	})
}

// A host takes branches that are nested transactions in its process, and no branch of another
// service, which would have its barrier there.
func TestAHostRefusesAServiceElsewhere(t *testing.T) {
	t.Parallel()
	hotel := newSite(t, sqltest.Open(t, "sqlite"), quick)
	host, err := remote.NewHost(t.Context(), hotel.db, remote.HostConfig{Name: "hotel", Keys: keys(t)})
	sagatest.Must(t, err)
	hotel.nests(host)
	elsewhere, err := remote.NewService("http://127.0.0.1:1", remote.ServiceConfig{Name: "hotel", Keys: keys(t)})
	sagatest.Must(t, err)
	want(t, "another service", tcc.RegisterRemote[ticket](host, elsewhere), saga.ErrInvalid)
}
