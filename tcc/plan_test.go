package tcc_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The Trys come in the order of the plan, wherever the branches live; a rejection
// ends them, and leaves nothing, or gives back what came before it.
func TestOrderOfTrys(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPlanBench(t, db, quick)
		for _, text := range []string{"h", "hh", "a", "o", "f", "ha", "ah", "ho", "oh", "hf", "fh", "haho", "ohhah", "hhaahh", "foah", "hofahofa", "ahohf"} {
			payloads, letters := plan(text)
			p.order, p.refuse = nil, ""
			outcome, err := tcc.Execute(t.Context(), p.orch, sagatest.GID(), payloads...)
			if err != nil || !slices.Equal(p.order, letters) {
				t.Errorf("%s: %+v, %v; order %q", text, outcome, err, p.order)
			}
			for i, refuse := range letters {
				sqltest.Exec(t, p.dbs[0], "DELETE FROM steps")
				sqltest.Exec(t, p.dbs[1], "DELETE FROM steps")
				sqltest.Exec(t, p.dbs[2], "DELETE FROM steps")
				p.order, p.given, p.refuse = nil, nil, refuse
				gid := sagatest.GID()
				_, err := tcc.Execute(t.Context(), p.orch, gid, payloads...)
				var cancelled *saga.CancelledError
				if !errors.As(err, &cancelled) || cancelled.Code != "no."+refuse || cancelled.BranchID != saga.BranchID(i+1) {
					t.Errorf("%s at %s: %v, %+v", text, refuse, err, cancelled)
				}
				if !slices.Equal(p.order, letters[:i+1]) {
					t.Errorf("%s at %s: order %q", text, refuse, p.order)
				}
				sagatest.Eventually(t, "it is cancelled", func() bool {
					found, err := p.orch.Lookup(t.Context(), gid)
					return err == nil && found.State == saga.Cancelled
				})
				if n := p.left(); n != 0 {
					t.Errorf("%s at %s: %d are left", text, refuse, n)
				}
				p.mu.Lock()
				for _, letter := range p.given {
					if !slices.Contains(letters[:i+1], letter) {
						t.Errorf("%s at %s: %s was given back", text, refuse, letter)
					}
				}
				if first := strings.IndexAny(text, "aof"); first < 0 || i < first && first >= 0 {
					if len(p.given) != 0 {
						t.Errorf("%s at %s: nothing was begun, and %q given back", text, refuse, p.given)
					}
				}
				p.mu.Unlock()
			}
		}
	})
}

// How many commits the log's database sees on the way to confirmed is as the
// documentation of package saga has it.
func TestCommitsOfPlans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"h":    1, // all in one
		"hhh":  1,
		"a":    3, // begin; decision; end
		"ha":   4, // begin with h; decision; Confirm of h; end
		"ah":   4, // begin; decision with h; Confirm of h; end
		"hah":  4, // begin with h1; decision with h3; Confirms of both; end
		"haha": 5, // and h3 by itself
		"hoh":  8, // o: its mark, the end of it, its look, and its row
		"hf":   4, // as ha
		"aha":  5, // h by itself
	} {
		db, loss := sqltest.OpenLossy(t)
		config := quick
		config.Lease, config.Poll = time.Hour, time.Hour // nothing else is committed
		p := newPlanBench(t, db, config)
		payloads, _ := plan(text)
		least := 1 << 30
		for range 3 {
			_, before := loss.Traffic()
			gid := sagatest.GID()
			outcome, err := tcc.Execute(t.Context(), p.orch, gid, payloads...)
			if err != nil || !outcome.Finished() {
				t.Fatalf("%s: %+v, %v", text, outcome, err)
			}
			commits := func() int { _, after := loss.Traffic(); return after - before }
			sagatest.Eventually(t, fmt.Sprintf("%d commits of %s: the caller does not wait for that of the end", want, text), func() bool { return commits() >= want })
			least = min(least, commits())
		}
		if least != want {
			t.Errorf("%s: %d commits, want %d", text, least, want)
		}
	}
}
