package remote_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A branch without a database that a service hosts is cancelled when its Try has
// ended, and once more if that returned or may arrive after it.
func TestHostedExternalIsCancelledAfterItsTry(t *testing.T) {
	for name, c := range map[string]struct {
		deaf, stray bool
		timeout     time.Duration // of the service, and of the host's calls
		cancel      bool          // the caller of the open transaction cancels
		want        string
	}{
		"caller, slow Try":       {timeout: 20 * time.Second, cancel: true, want: "held free"},
		"lost request, deaf Try": {deaf: true, timeout: 500 * time.Millisecond, want: "free held free"},
		"lost request, stray":    {stray: true, timeout: 500 * time.Millisecond, want: "free held free"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{CallTimeout: c.timeout})
			gateway := newCards()
			gateway.deaf, gateway.stray = c.deaf, c.stray
			sagatest.Must(t, tcc.RegisterExternal(th.host, gateway))
			service := newService(t, th.url(), remote.ServiceConfig{Timeout: c.timeout})
			a := newAgency(t, service)
			sagatest.Must(t, tcc.RegisterRemote[card](a.orch, service))
			tx, err := tcc.Begin(t.Context(), a.orch, sagatest.GID())
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), meal{1}))
			told := make(chan error, 1)
			go func() { told <- tx.Try(t.Context(), card{100}) }()
			<-gateway.called
			if c.cancel {
				_, err := a.orch.Cancel(t.Context(), tx.GID(), "never mind")
				sagatest.Must(t, err)
				sagatest.Eventually(t, "a Cancel that was put off", func() bool {
					found, err := a.orch.Lookup(t.Context(), tx.GID())
					return err == nil && found.Failures > 0
				})
				if got := gateway.so(); got != "" {
					t.Errorf("while the Try is under way: %s", got)
				}
				close(gateway.gate)
				if err := <-told; !errors.Is(err, saga.ErrCancelled) {
					t.Errorf("the caller of the Try was told %v", err)
				}
			} else {
				if err := <-told; err == nil {
					t.Error("the caller of the Try was told of a success")
				}
				_, err := a.orch.Cancel(t.Context(), tx.GID(), "it failed")
				sagatest.Must(t, err)
				<-gateway.freed
				close(gateway.gate)
			}
			a.reaches(tx.GID(), saga.Cancelled)
			gateway.arrivals.Wait()
			sagatest.Eventually(t, "the gateway saw "+c.want, func() bool { return gateway.so() == c.want })
			books(t, a.db, 100, 0, 0)
		})
	}
}

// A service that has lost its data, or whose rows somebody has changed, is a conflict
// that an operator resolves.
func TestResolveOfARemoteBranch(t *testing.T) {
	for name, change := range map[string]string{
		"lost":    "DELETE FROM saga_barrier WHERE gid = ?",
		"changed": "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?",
	} {
		t.Run(name, func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
				th := newTheatre(t, db, remote.HostConfig{})
				a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
				tx, err := tcc.Begin(t.Context(), a.orch, sagatest.GID())
				sagatest.Must(t, err)
				sagatest.Must(t, tx.Try(t.Context(), meal{1}))
				sagatest.Must(t, tx.Try(t.Context(), seats{Row: 1, Number: 1}))
				sqltest.Exec(t, th.db, change, tx.GID())
				_, err = tx.Confirm(t.Context())
				sagatest.Must(t, err)
				sagatest.Eventually(t, "attention", func() bool {
					found, err := a.orch.Lookup(t.Context(), tx.GID())
					return err == nil && strings.HasPrefix(found.Attention, "conflict: branch 02")
				})
				by := saga.Operator{Who: "bob", Why: "the seats were booked by telephone"}
				sagatest.Must(t, a.orch.Resolve(t.Context(), tx.GID(), "02", saga.Confirmed, by))
				found := a.reaches(tx.GID(), saga.Confirmed)
				if last := found.Acts[len(found.Acts)-1]; found.Attention != "" || last.Operator != by || last.Believed != saga.Confirmed || last.BranchID != "02" {
					t.Errorf("%+v", found)
				}
				books(t, a.db, 99, 0, 1)
			})
		})
	}
}

// A service whose data is as it should be, and that fails otherwise, is retried, and
// not resolved.
func TestResolveOfAServiceThatIsDown(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
	th.seats.fail = func(op barrier.Op) error {
		if op == barrier.Confirm {
			return errors.New("on purpose")
		}
		return nil
	}
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), a.orch, gid, seats{Row: 1, Number: 1})
	sagatest.Must(t, err)
	sagatest.Eventually(t, "a failure", func() bool { return a.reaches(gid, saga.Confirming).Failures > 0 })
	if err := a.orch.Resolve(t.Context(), gid, "01", saga.Confirmed, saga.Operator{Who: "bob", Why: "impatience"}); !errors.Is(err, saga.ErrRefused) {
		t.Errorf("%v", err)
	}
}
