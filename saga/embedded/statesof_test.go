package embedded_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// States returns the states of those transactions that the log has.
func TestStatesOfTransactions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, still, outside("gateway", func(saga.Call) error { return nil }))
		confirmed, open := sagatest.GID(), sagatest.GID()
		_, err := engine.Execute(t.Context(), planOf(confirmed, "gateway"))
		sagatest.Must(t, err)
		sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: open}))
		gids := []string{confirmed, open, "never-seen"}
		for i := range 997 {
			gids = append(gids, fmt.Sprint("none-", i))
		}
		want := map[string]saga.State{confirmed: saga.Confirmed, open: saga.Trying}
		if got, err := engine.Operations().States(t.Context(), gids...); err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, %v", got, err)
		}
		if got, err := engine.States(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
		for _, wrong := range [][]string{append(gids, "one-more"), {"a b"}, {""}} {
			if _, err := engine.States(t.Context(), wrong...); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%v", err)
			}
		}
	})
}
