package message_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The backlog of an outage goes out when the first message does, in bulk: the
// rate of repeated calls, of one an hour, does not hold it up, nor do the pauses
// of an hour.
func TestBacklogOfAnOutage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		broker := newBroker(t)
		b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
		orch := sagatest.Open(t, db, embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour,
			KindLimits: map[string]embedded.Limits{message.DefaultKind: {Rate: 1.0 / 3600, Failures: 5, Cooldown: time.Hour}}})
		sagatest.Must(t, tcc.Register(orch, b.publisher))
		sagatest.Run(t, orch)
		broker.stop()
		const callers, each = 20, 20
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for i := range each {
					outcome, err := tcc.Execute(t.Context(), orch, sagatest.GID(), b.publish("a", fmt.Sprint(i)))
					if err != nil || outcome.State != saga.Confirming {
						t.Errorf("%+v, %v", outcome, err)
					}
				}
			})
		}
		all.Wait()
		broker.start()
		sagatest.Eventually(t, "one is published", func() bool {
			outcome, err := tcc.Execute(t.Context(), orch, sagatest.GID(), b.publish("b", "first"))
			return err == nil && outcome.State == saga.Confirmed
		})
		sagatest.Eventually(t, "all are finished", func() bool {
			left, err := orch.List(t.Context(), saga.Filter{Unfinished: true})
			return err == nil && len(left) == 0
		})
		if got := len(b.stored("a")); got != callers*each {
			t.Errorf("%d are stored", got)
		}
	})
}
