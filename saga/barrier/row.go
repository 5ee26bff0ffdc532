package barrier

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// State says what a branch has done, according to its barrier row.
type State string

// The states.
const (
	StateTried     State = "tried"     // Try ran
	StateConfirmed State = "confirmed" // Try and Confirm ran
	StateCancelled State = "cancelled" // Try and Cancel ran
	StateSuspended State = "suspended" // Cancel or Ask arrived and Try had not run: an empty rollback
)

// Row is a barrier row, for people who want to know what happened. Times are by the
// database's clock. A step that did not happen has the zero time.
type Row struct {
	Key
	State        State     `json:"state"`
	Caller       string    `json:"caller,omitempty"` // the id of the log of the calling engine; "-" if the caller has no name
	Kind         string    `json:"kind,omitempty"`   // kind of branch
	Input        string    `json:"input,omitempty"`  // digest of the payload; see [Digest]
	TriedAt      time.Time `json:"tried_at,omitzero"`
	ConfirmedAt  time.Time `json:"confirmed_at,omitzero"`
	CancelledAt  time.Time `json:"cancelled_at,omitzero"`   // also of an empty rollback
	TurnedAway   int       `json:"turned_away"`             // calls that did not run: repeated, late or in conflict
	TurnedAwayAt time.Time `json:"turned_away_at,omitzero"` // the time of the last of them
	UnderWay     *UnderWay `json:"under_way,omitempty"`     // nil if no call is known to be under way
}

// UnderWay is a call that is under way, or a call without a known result. Only a branch
// that acts on something other than a database has one.
type UnderWay struct {
	Op    Op            `json:"op"`
	By    string        `json:"by"`    // the instance that makes the call
	Since time.Time     `json:"since"` // by the database's clock
	Until time.Time     `json:"until"` // the latest end of the call
	Left  time.Duration `json:"-"`     // from the reading of the row to Until; not positive if Until has passed
}

// Look returns the barrier rows of a transaction in the database db, ordered by branch
// id. It locks nothing and changes nothing. It is for people.
func Look(ctx context.Context, db *gorm.DB, gid string) ([]Row, error) {
	return look(ctx, db, gid, func(q queries) string { return q.look })
}

// LookOf is Look for the rows of one caller, and no more than most of them. A row of version 1
// of the schema has no caller; as in a call, it counts as one of every caller.
func LookOf(ctx context.Context, db *gorm.DB, gid, caller string, most int) ([]Row, error) {
	return look(ctx, db, gid, func(q queries) string { return q.lookOf }, caller, most)
}

func look(ctx context.Context, db *gorm.DB, gid string, statement func(queries) string, arguments ...any) ([]Row, error) {
	found, err := read(ctx, db, gid, statement, arguments...)
	if err != nil {
		return nil, fmt.Errorf("barrier: look at %s: %w", gid, err)
	}
	return found, nil
}

func read(ctx context.Context, db *gorm.DB, gid string, statement func(queries) string, arguments ...any) ([]Row, error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, err
	}
	rows, err := db.Statement.ConnPool.QueryContext(ctx, statement(statements[d]), append([]any{gid}, arguments...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Row
	for rows.Next() {
		r := Row{Key: Key{GID: gid}}
		var call UnderWay
		var since, until, left, triedAt, confirmedAt, cancelledAt, turnedAwayAt int64
		if err := rows.Scan(&r.BranchID, &r.State, &r.Caller, &r.Kind, &r.Input, &call.Op, &call.By, &since, &until, &left,
			&triedAt, &confirmedAt, &cancelledAt, &r.TurnedAway, &turnedAwayAt); err != nil {
			return nil, err
		}
		r.TriedAt, r.ConfirmedAt = dialect.Time(triedAt), dialect.Time(confirmedAt)
		r.CancelledAt, r.TurnedAwayAt = dialect.Time(cancelledAt), dialect.Time(turnedAwayAt)
		if call.Op != "" {
			call.Since, call.Until, call.Left = dialect.Time(since), dialect.Time(until), time.Duration(left)*time.Microsecond
			r.UnderWay = &call
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// Matches reports whether the row has the caller, kind and input of a request.
func (r Row) Matches(request Request) bool {
	return mismatch(request, r.Caller, r.Kind, r.Input) == nil
}

// Explain says in words what the row means.
func (r Row) Explain() string {
	var text string
	switch r.State {
	case StateTried:
		text = "Try has run; neither Confirm nor Cancel has run yet"
	case StateConfirmed:
		text = "Try and Confirm have run, or the work was done in one step; this is final"
	case StateCancelled:
		text = "Try had run, and Cancel has undone it; this is final"
	case StateSuspended:
		text = "Cancel or Ask arrived although Try had not run (an empty rollback); nothing was done, and a late Try is refused"
	default:
		text = fmt.Sprintf("unknown state %q", string(r.State))
	}
	if u := r.UnderWay; u != nil && u.Left > 0 {
		text = fmt.Sprintf("a %s is under way since %s, made by %s, and ends at %s at the latest", u.Op, u.Since.Format(time.RFC3339), u.By, u.Until.Format(time.RFC3339))
	} else if u != nil {
		text += fmt.Sprintf("; the result of a %s by %s at %s is not known", u.Op, u.By, u.Since.Format(time.RFC3339))
	}
	if r.TurnedAway > 0 {
		text += fmt.Sprintf("; calls turned away as repeated, late or in conflict: %d", r.TurnedAway)
	}
	return text
}
