package embedded_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// A kind that is paused at one instance stops at the others within Config.Poll,
// also when all that they do is wait for connections.
func TestAPausedKindStopsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db, plain := configured(t, dialect, gorm.Config{}, false, 4)
			c := newCareless(t, plain, "", 0)
			kind := spec{Kind: "a", Work: c.inside}
			busy, operator := opened(t, db, embedded.Config{}, kind), opened(t, plain, embedded.Config{}, kind)
			running := make(chan struct{})
			var started sync.Once
			var callers sync.WaitGroup
			for i := range 64 {
				callers.Go(func() {
					for n := 0; ; n++ {
						_, err := busy.Execute(t.Context(), planOf(fmt.Sprintf("busy-%d-%d", i, n), "a"))
						switch {
						case errors.Is(err, saga.ErrPaused):
							return
						case err != nil:
							t.Error(err)
							return
						}
						started.Do(func() { close(running) })
					}
				})
			}
			<-running
			sagatest.Must(t, operator.PauseKind(t.Context(), "a", saga.Operator{Who: "test", Why: "on purpose"}))
			began := time.Now()
			callers.Wait()
			if took := time.Since(began); took > 3*time.Second { // Poll is 20 ms; the rest is for a busy machine
				t.Errorf("it stopped after %s", took)
			}
		})
	}
}
