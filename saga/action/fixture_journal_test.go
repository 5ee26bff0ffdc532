package action_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// entry is one effect: what was done for a letter, and what its call knew.
type entry struct {
	Seq    int
	What   string // do, undo, try, confirm, cancel
	Letter string
	Knew   string // the results of its call, as "01=a1 02=b1", and for an undo its own as "done=a1"
}

// journal gives the effects of all branches a common order, and causes their faults.
type journal struct {
	mu      sync.Mutex
	seq     int
	calls   map[string]int // of "do a"
	fails   map[string][]error
	gates   map[string]chan struct{}
	entered map[string]chan struct{}
	from    map[string]int // the number of the first call that waits
	outside []entry        // effects of external actions
}

func newJournal() *journal {
	return &journal{calls: map[string]int{}, fails: map[string][]error{}, gates: map[string]chan struct{}{}, entered: map[string]chan struct{}{}, from: map[string]int{}}
}

// fail makes the next calls of "do a" fail with the errors.
func (j *journal) fail(call string, errs ...error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fails[call] = errs
}

// hold makes calls of "do a" wait until the gate is closed. Entered is closed by the first one.
func (j *journal) hold(call string) (entered <-chan struct{}, gate chan struct{}) {
	return j.holdFrom(call, 1)
}

// holdFrom is hold for the n-th call and those after it.
func (j *journal) holdFrom(call string, n int) (entered <-chan struct{}, gate chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gates[call], j.entered[call], j.from[call] = make(chan struct{}), make(chan struct{}), n
	return j.entered[call], j.gates[call]
}

// free lets later calls pass.
func (j *journal) free(call string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.gates, call)
}

func (j *journal) called(call string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.calls[call]
}

// enter begins a call. It returns its number, and the error with which it has to fail.
func (j *journal) enter(ctx context.Context, what, letter string) (n int, err error) {
	call := what + " " + letter
	j.mu.Lock()
	j.calls[call]++
	n = j.calls[call]
	if len(j.fails[call]) > 0 {
		err, j.fails[call] = j.fails[call][0], j.fails[call][1:]
	}
	gate, entered := j.gates[call], j.entered[call]
	if n < j.from[call] {
		gate = nil
	}
	if entered != nil && n == j.from[call] {
		close(entered)
	}
	j.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
	return n, err
}

// entry returns the entry of a call.
func (j *journal) entry(ctx context.Context, what, letter, done string) entry {
	results := action.CallOf(ctx).Results
	var knew []string
	for id, text := range results {
		var r done1
		_ = json.Unmarshal(text, &r)
		knew = append(knew, id+"="+r.Made)
	}
	slices.Sort(knew)
	if done != "" {
		knew = append(knew, "done="+done)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	return entry{j.seq, what, letter, strings.Join(knew, " ")}
}

// write writes an entry in the local transaction of the call.
func (j *journal) write(ctx context.Context, tx *gorm.DB, what, letter, done string) error {
	e := j.entry(ctx, what, letter, done)
	return tx.Exec("INSERT INTO journal (seq, what, letter, knew) VALUES (?, ?, ?, ?)", e.Seq, e.What, e.Letter, e.Knew).Error
}

// note keeps the entry of an external action.
func (j *journal) note(ctx context.Context, what, letter, done string) {
	e := j.entry(ctx, what, letter, done)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outside = append(j.outside, e)
}

func createJournal(t testing.TB, db *gorm.DB) {
	t.Helper()
	sqltest.Exec(t, db, "CREATE TABLE journal (seq INT NOT NULL, what VARCHAR(16) NOT NULL, letter VARCHAR(16) NOT NULL, knew VARCHAR(1000) NOT NULL)")
}

// done1 is the result of the actions: their letter, and the number of the call.
type done1 struct{ Made string }

// history returns all effects in order.
func (b *bench) history() []entry {
	b.t.Helper()
	b.journal.mu.Lock()
	all := slices.Clone(b.journal.outside)
	b.journal.mu.Unlock()
	for _, db := range []*gorm.DB{b.db, b.other, b.third} {
		var rows []entry
		sagatest.Must(b.t, db.Raw("SELECT seq, what, letter, knew FROM journal").Scan(&rows).Error)
		all = append(all, rows...)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}

// did compares the effects with the wanted ones, as "do a, do b, undo b, undo a". Effects in
// parentheses may have any order: "(do a do b) do c".
func (b *bench) did(want string) {
	b.t.Helper()
	var got []string
	for _, e := range b.history() {
		got = append(got, e.What+" "+e.Letter)
	}
	if !inOrder(got, want) {
		b.t.Errorf("the effects are %q, want %q", strings.Join(got, ", "), want)
	}
}

// inOrder reports whether the calls match the pattern of did.
func inOrder(got []string, want string) bool {
	for _, group := range groups(want) {
		if len(got) < len(group) {
			return false
		}
		part := slices.Sorted(slices.Values(got[:len(group)]))
		slices.Sort(group)
		if !slices.Equal(part, group) {
			return false
		}
		got = got[len(group):]
	}
	return len(got) == 0
}

func groups(want string) (all [][]string) {
	if want == "" {
		return nil
	}
	var open bool
	for _, call := range strings.Split(want, ", ") {
		begins, ends := strings.HasPrefix(call, "("), strings.HasSuffix(call, ")")
		call = strings.Trim(call, "()")
		if open {
			all[len(all)-1] = append(all[len(all)-1], call)
		} else {
			all = append(all, []string{call})
		}
		open = (open || begins) && !ends
	}
	return all
}

// knew compares what the effect of a call knew.
func (b *bench) knew(call, want string) {
	b.t.Helper()
	for _, e := range b.history() {
		if e.What+" "+e.Letter == call {
			if e.Knew != want {
				b.t.Errorf("%s knew %q, want %q", call, e.Knew, want)
			}
			return
		}
	}
	b.t.Errorf("%s has no effect", call)
}

// reaches waits until the transaction is in the state.
func (b *bench) reaches(gid string, state saga.State) *saga.Transaction {
	b.t.Helper()
	return sagatest.Reach(b.t, b.engine, gid, state)
}

func made(letter string, n int) done1 { return done1{fmt.Sprint(letter, n)} }
