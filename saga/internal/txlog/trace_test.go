package txlog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Transactions with and without a trace share an insert, in every state.
func TestTraces(t *testing.T) {
	each(t, func(b bench) {
		for _, state := range []string{txlog.Trying, txlog.Confirming, txlog.Confirmed, txlog.Cancelled} {
			var starts []txlog.Start
			for n, trace := range []string{"", "00-1", "", "00-2"} {
				starts = append(starts, txlog.Start{GID: fmt.Sprint(state, n), State: state, Deadline: time.Hour, Due: time.Hour, Trace: trace})
			}
			b.want("insert", b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Insert(ctx, tx, starts...) }), nil)
			b.want("insert alone", b.insert(txlog.Start{GID: state + "-alone", State: state, Deadline: time.Hour, Due: time.Hour, Trace: "00-3", TryAttempts: 2}), nil)
			for _, s := range append(starts, txlog.Start{GID: state + "-alone", Trace: "00-3"}) {
				found, err := b.log.Get(b.Context(), b.db, s.GID)
				if b.want("get", err, nil); found.Trace != s.Trace || found.State != state {
					b.Errorf("%s is %s, with the trace %q, want %q", s.GID, found.State, found.Trace, s.Trace)
				}
			}
		}
	})
}

// The statement of a transaction without a trace does not name the column.
func TestInsertWithoutATrace(t *testing.T) {
	for state, statement := range txlog.Inserts() {
		if text := statement(1); strings.Contains(text, "trace") {
			t.Errorf("%s: %s", state, text)
		}
	}
}
