package txlog

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// operations writes the acts of operators.
type operations struct{ *store }

// Act is a row of saga_acts: an operator's act on a transaction or, with an empty GID, on a
// kind of branch.
type Act struct {
	GID, Kind string
	Name      string // retry, pause, resume, confirm, cancel or resolve
	Who, Why  string
	BranchID  string    // of a resolve; empty otherwise
	Believed  string    // of a resolve: the state of the branch, as the operator believes
	BulkID    string    // of the bulk action that it is part of; empty if it is none
	Target    int       // its place in the list of that bulk action; not set by a read
	Number    int       // on this transaction or kind, from 1; set by a read
	At        time.Time // set by a read
}

type operatorQueries struct {
	cancelDue             string
	act, acts             string
	retry, retryBranches  string
	pause, resume         string
	pauseKind, resumeKind string
	pausedKinds           string
}

func operatorStatements(d dialect.Dialect) operatorQueries {
	pauseKind := `INSERT INTO saga_kinds (kind, paused_at) VALUES (?, {now}) ON CONFLICT (kind) DO UPDATE SET kind = excluded.kind`
	if d == dialect.MySQL {
		pauseKind = `INSERT INTO saga_kinds (kind, paused_at) VALUES (?, {now}) ON DUPLICATE KEY UPDATE kind = kind`
	}
	return operatorQueries{
		cancelDue: d.SQL(`UPDATE saga_transactions SET due_at = {now} WHERE gid = ? AND state = 'cancelling' AND due_at > {now} AND paused_at IS NULL`),
		// The writer of an act holds a lock on the transaction or kind.
		act: d.SQL(`INSERT INTO saga_acts (gid, kind, number, act, who, why, branch_id, believed, bulk_id, acted_at)
			SELECT ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ?, {now} FROM saga_acts WHERE gid = ? AND kind = ?`),
		acts: d.SQL(`SELECT gid, kind, act, who, why, branch_id, believed, bulk_id, number, {micros acted_at} FROM saga_acts WHERE gid = ? AND kind = ? ORDER BY number`),
		retry: d.SQL(`UPDATE saga_transactions SET due_at = {now}, attention = '' WHERE gid = ?
			AND state IN ('confirming', 'cancelling')`),
		retryBranches: d.SQL(`UPDATE saga_attempts SET next_at = {now} WHERE gid = ? AND next_at > {now}`),
		pause:         d.SQL(`UPDATE saga_transactions SET paused_at = {now} WHERE gid = ?`),
		resume: d.SQL(`UPDATE saga_transactions SET paused_at = NULL,
			due_at = CASE WHEN state IN ('confirming', 'cancelling') THEN {now} ELSE due_at END WHERE gid = ?`),
		pauseKind:   d.SQL(pauseKind),
		resumeKind:  d.SQL(`DELETE FROM saga_kinds WHERE kind = ?`),
		pausedKinds: d.SQL(`SELECT kind FROM saga_kinds`),
	}
}

// Record writes an act, in the local transaction that does it. If the act is part of a bulk action,
// Record marks its target as done: one compare-and-set, from no result. If the target has one, it
// returns ErrActed, and the caller rolls back.
func (l operations) Record(ctx context.Context, tx *gorm.DB, a Act) error {
	if a.BulkID != "" {
		if err := bulks(l).done(ctx, tx, a.BulkID, a.Target); err != nil {
			return err
		}
	}
	_, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.operator.act, a.GID, a.Kind, a.Name, a.Who, a.Why, a.BranchID, a.Believed, a.BulkID, a.GID, a.Kind)
	if err != nil {
		return fmt.Errorf("log: recording the %s of %s%s: %w", a.Name, a.GID, a.Kind, err)
	}
	return nil
}

// Acts reads the acts on a transaction or, with an empty gid, on a kind of branch, in
// order.
func (l operations) Acts(ctx context.Context, tx *gorm.DB, gid, kind string) ([]Act, error) {
	return scan(ctx, tx, l.sql.operator.acts, []any{gid, kind}, func(row scanner) (a Act, err error) {
		var at int64
		err = row.Scan(&a.GID, &a.Kind, &a.Name, &a.Who, &a.Why, &a.BranchID, &a.Believed, &a.BulkID, &a.Number, &at)
		a.At = dialect.Time(at)
		return a, err
	})
}

// Retry makes a decided transaction and each of its branches due now, and clears its
// attention.
func (l operations) Retry(ctx context.Context, tx *gorm.DB, gid string) error {
	if err := l.act(ctx, tx, gid, l.sql.operator.retry); err != nil {
		return err
	}
	return l.act(ctx, tx, gid, l.sql.operator.retryBranches)
}

// Pause keeps a transaction from being driven. Its deadline stays. The caller has locked
// the transaction.
func (l operations) Pause(ctx context.Context, tx *gorm.DB, gid string) error {
	return l.act(ctx, tx, gid, l.sql.operator.pause)
}

// Resume undoes Pause. A decided transaction is due now.
func (l operations) Resume(ctx context.Context, tx *gorm.DB, gid string) error {
	return l.act(ctx, tx, gid, l.sql.operator.resume)
}

// PauseKind adds a kind of branch to the paused kinds.
func (l operations) PauseKind(ctx context.Context, tx *gorm.DB, kind string) error {
	return l.act(ctx, tx, kind, l.sql.operator.pauseKind)
}

// ResumeKind undoes PauseKind. It returns false if the kind was not paused.
func (l operations) ResumeKind(ctx context.Context, tx *gorm.DB, kind string) (bool, error) {
	return changed(tx.Statement.ConnPool.ExecContext(ctx, l.sql.operator.resumeKind, kind))
}

// PausedKinds reads the paused kinds of branches.
func (l operations) PausedKinds(ctx context.Context) ([]string, error) {
	return scan(ctx, l.db, l.sql.operator.pausedKinds, nil, func(row scanner) (kind string, err error) {
		err = row.Scan(&kind)
		return kind, err
	})
}

func (l operations) act(ctx context.Context, tx *gorm.DB, on, query string) error {
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, query, on); err != nil {
		return fmt.Errorf("log: acting on %s: %w", on, err)
	}
	return nil
}
