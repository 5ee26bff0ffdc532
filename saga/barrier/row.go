package barrier

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// State is what a barrier row says that its branch has done.
type State string

// The states.
const (
	StateTried     State = "tried"     // Try ran
	StateConfirmed State = "confirmed" // Try and Confirm ran
	StateCancelled State = "cancelled" // Try and Cancel ran
	StateSuspended State = "suspended" // Cancel came and Try had not run: an empty rollback
)

// Row is a barrier row, for people who want to know what happened. Times are
// the database's; a zero time is of a step that did not happen.
type Row struct {
	Key
	State        State
	TriedAt      time.Time
	ConfirmedAt  time.Time
	CancelledAt  time.Time // also when an empty rollback came
	TurnedAway   int       // calls that did not run: repeated, late or in conflict
	TurnedAwayAt time.Time // when the last of them came
}

// Look returns the barrier rows of a transaction in the database db, by branch
// id. It locks nothing and changes nothing.
func Look(ctx context.Context, db *gorm.DB, gid string) ([]Row, error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	rows, err := db.Statement.ConnPool.QueryContext(ctx, statements[d].look, gid)
	if err != nil {
		return nil, fmt.Errorf("barrier: reading the rows of %s: %w", gid, err)
	}
	defer rows.Close()
	var found []Row
	for rows.Next() {
		r := Row{Key: Key{GID: gid}}
		var triedAt, confirmedAt, cancelledAt, turnedAwayAt int64
		if err := rows.Scan(&r.BranchID, &r.State, &triedAt, &confirmedAt, &cancelledAt, &r.TurnedAway, &turnedAwayAt); err != nil {
			return nil, fmt.Errorf("barrier: reading the rows of %s: %w", gid, err)
		}
		r.TriedAt, r.ConfirmedAt = dialect.Time(triedAt), dialect.Time(confirmedAt)
		r.CancelledAt, r.TurnedAwayAt = dialect.Time(cancelledAt), dialect.Time(turnedAwayAt)
		found = append(found, r)
	}
	return found, rows.Err()
}

// Explain says in words what the row means.
func (r Row) Explain() string {
	var text string
	switch r.State {
	case StateTried:
		text = "Try has reserved; neither Confirm nor Cancel has run yet"
	case StateConfirmed:
		text = "Try has reserved and Confirm has used the reservation; this is final"
	case StateCancelled:
		text = "Try had reserved and Cancel has given the reservation back; this is final"
	case StateSuspended:
		text = "Cancel came although Try had not run (an empty rollback); nothing was reserved, and a Try that comes late is refused"
	default:
		text = fmt.Sprintf("unknown state %q", string(r.State))
	}
	if r.TurnedAway > 0 {
		text += fmt.Sprintf("; calls turned away as repeated, late or in conflict: %d", r.TurnedAway)
	}
	return text
}
