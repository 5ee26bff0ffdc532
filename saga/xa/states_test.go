package xa_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
)

// countingLog is a log in memory that counts the questions.
type countingLog struct {
	states map[string]saga.State
	begins map[string][]string // gids by their begin, in pages of 1,000
	asked  int
}

func (*countingLog) LogID() string { return "log" }

func (l *countingLog) States(_ context.Context, gids ...string) (map[string]saga.State, error) {
	l.asked++
	found := map[string]saga.State{}
	for _, gid := range gids {
		if state, has := l.states[gid]; has {
			found[gid] = state
		}
	}
	if len(gids) > 1000 {
		return nil, saga.ErrInvalid
	}
	return found, nil
}

func (l *countingLog) Find(_ context.Context, q saga.Query) (page saga.Page, err error) {
	l.asked++
	all := l.begins[q.Prefix]
	var from int
	fmt.Sscan(q.After, &from)
	for _, gid := range all[from:min(from+q.Limit, len(all))] {
		page.Transactions = append(page.Transactions, saga.Summary{GID: gid, State: saga.Confirming})
	}
	if from += q.Limit; from < len(all) {
		page.Next = fmt.Sprint(from)
	}
	return page, nil
}

// The states of many prepared transactions need few questions to the log. A page does not
// search for ever for gids that are shortened, and says so.
func TestStatesOfMany(t *testing.T) {
	t.Parallel()
	prepared := func(log, gid string) xa.Prepared {
		p, ok := xa.Parse(xa.XID(xa.Dialect("mysql"), log, gid, "01"))
		if !ok {
			t.Fatal(gid)
		}
		return p
	}
	log := &countingLog{states: map[string]saga.State{}, begins: map[string][]string{}}
	var all []xa.Prepared
	for i := range 10_000 {
		gid := fmt.Sprint("g", i)
		all = append(all, prepared("log", gid), prepared("other", gid))
		if i%2 == 0 {
			log.states[gid] = saga.Trying
		}
	}
	found, err := xa.StatesOf(t.Context(), log, all, 0)
	sagatest.Must(t, err)
	for i, p := range found {
		if want := log.states[p.GID]; p.Foreign != (i%2 == 1) || !p.Foreign && p.State != want || p.Foreign && p.State != "" || p.Err != nil {
			t.Fatalf("%+v", p)
		}
	}
	if log.asked != 10 {
		t.Errorf("%d questions", log.asked)
	}

	// 30,000 gids begin alike, and two of them are prepared, and one that the log does not have.
	begin := strings.Repeat("x", 110)
	long := []xa.Prepared{prepared("log", begin+"0000500"), prepared("log", begin+"0025500"), prepared("log", begin+"9999999")}
	for i := range 30_000 {
		log.begins[long[0].GID] = append(log.begins[long[0].GID], fmt.Sprintf("%s%07d", begin, i))
	}
	for searches, want := range map[int][]string{1: {"confirming", "error", "error"}, 20: {"confirming", "error", "error"}, 26: {"confirming", "confirming", "error"}, -1: {"confirming", "confirming", ""}} {
		log.asked = 0
		found, err := xa.StatesOf(t.Context(), log, long, searches)
		sagatest.Must(t, err)
		for i, p := range found {
			got := string(p.State)
			if p.Err != nil {
				got = "error"
			}
			if got != want[i] {
				t.Errorf("%d searches: %d: %+v, want %s", searches, i, p, want[i])
			}
		}
		if log.asked > 30 || searches > 0 && log.asked > searches {
			t.Errorf("%d questions for %d searches", log.asked, searches)
		}
	}
}
