// Package commit writes into the log in local transactions that several transactions share.
package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Write is what one transaction writes in one commit. It has only statements on rows of its
// own, and no call of a branch: so it is quick, and waits for no other transaction.
type Write struct {
	GID     string          // of the transaction
	Begin   *txlog.Start    // writes the transaction as undecided, without forward recovery
	Results []result.Result // of branches
	Confirm *txlog.Decision // decides to confirm, before the deadline
	Cancel  *txlog.Decision // decides to cancel; no branch decides the transaction
	Failed  *txlog.Failure  // the Try because of which it is cancelled
	Finish  int64           // ends the transaction, which is driven under this epoch; 0 if it does not end
	Decide  Decide
	Patient bool // nobody waits for it: it may wait some milliseconds for others
	More    func(ctx context.Context, tx *gorm.DB) error
}

// Decide gets a transaction, which is read with a lock, and returns the decision to make for it:
// one that no branch has made. If Decide returns false, nothing is decided.
type Decide func(ctx context.Context, tx *gorm.DB, t txlog.Claimed) (d txlog.Decision, decides bool, err error)

// Writer writes. It is safe for concurrent use.
type Writer struct {
	log    *txlog.Log
	life   *lifetime.Lifetime
	shared *local.Shared
	alone  *local.Shared
	groups *batch.Groups[*member] // all with the same key
	most   int

	committed func(ctx context.Context, writes int) // is told of each commit
}

// New returns a Writer. Shared runs the local transactions of batches, and alone those of single
// writes; both are on the database of the log. At most maxBatch transactions share a commit, and
// at most workers batches are written at once. Committed is told of each commit.
func New(log *txlog.Log, life *lifetime.Lifetime, shared, alone *local.Shared, maxBatch, workers int, committed func(ctx context.Context, writes int)) *Writer {
	w := &Writer{log: log, life: life, shared: shared, alone: alone, most: maxBatch, committed: committed}
	w.groups = batch.New(maxBatch, workers, w.writeBatch)
	return w
}

// member is a Write that waits for its commit.
type member struct {
	ctx   context.Context
	write Write
	err   error
	alone bool // the batch has failed, and it is written alone
	done  chan struct{}
}

// Write writes one, and returns when it is committed. If a shared commit fails, every member
// is written alone. So the error is always that of one, with one exception: it wraps
// [local.ErrCommitUnknown] for all members of a batch whose COMMIT is not answered.
func (w *Writer) Write(ctx context.Context, one Write) error {
	if w.most == 1 {
		return w.writeAlone(ctx, one)
	}
	m := &member{ctx: ctx, write: one, done: make(chan struct{})}
	if one.Patient {
		w.groups.AddPatient("", m)
	} else {
		w.groups.Add("", m)
	}
	<-m.done
	if m.alone {
		return w.writeAlone(ctx, one)
	}
	return m.err
}

func (w *Writer) writeAlone(ctx context.Context, one Write) error {
	err := w.alone.Run(ctx, func(tx *gorm.DB) error { return w.apply(ctx, tx, []Write{one}) })
	if err == nil {
		w.committed(ctx, 1)
	}
	return err
}

// writeBatch writes a batch in one local transaction, and gives its members the result.
func (w *Writer) writeBatch(all []*member) {
	all = withoutGone(all)
	// Parallel batches lock rows in the same order, and wait instead of deadlocking.
	slices.SortFunc(all, func(a, b *member) int { return cmp.Compare(a.write.GID, b.write.GID) })
	if len(all) == 1 {
		m := all[0]
		m.err = w.writeAlone(m.ctx, m.write)
		close(m.done)
		return
	}
	batch.Write(all, w.writeShared, isUnanswered, func(m *member, err error) {
		m.err, m.alone = err, errors.Is(err, batch.ErrAlone)
		close(m.done)
	})
}

func isUnanswered(err error) bool { return errors.Is(err, local.ErrCommitUnknown) }

func (w *Writer) writeShared(all []*member) error {
	writes := make([]Write, len(all))
	for i, m := range all {
		writes[i] = m.write
	}
	ctx, cancel := w.life.DetachCall(w.life.Context())
	defer cancel()
	err := w.shared.Run(ctx, func(tx *gorm.DB) error { return w.apply(ctx, tx, writes) })
	if err == nil {
		w.committed(ctx, len(writes))
	}
	return err
}

// withoutGone returns the members whose callers still wait. The others get the error of their
// context; nothing is written for them.
func withoutGone(all []*member) (kept []*member) {
	for _, m := range all {
		if m.err = local.Expired(m.ctx); m.err != nil {
			close(m.done)
		} else {
			kept = append(kept, m)
		}
	}
	return kept
}

// apply writes all in the local transaction tx, with one statement of each sort if possible.
func (w *Writer) apply(ctx context.Context, tx *gorm.DB, all []Write) error {
	var begins []txlog.Start
	var results []result.Result
	var confirms groups[txlog.Decision]
	var cancels groups[txlog.Decision]
	var failed []txlog.FailedTry
	var ends groups[int64] // by epoch
	for _, one := range all {
		if one.Begin != nil {
			begins = append(begins, *one.Begin)
		}
		results = append(results, one.Results...)
		if one.Confirm != nil {
			key := *one.Confirm
			key.GID = ""
			confirms = confirms.add(key, one.GID)
		}
		if one.Cancel != nil {
			key := *one.Cancel
			key.GID = ""
			cancels = cancels.add(key, one.GID)
		}
		if one.Failed != nil {
			failed = append(failed, txlog.FailedTry{GID: one.GID, Failure: *one.Failed})
		}
		if one.Finish != 0 {
			ends = ends.add(one.Finish, one.GID)
		}
	}
	if len(begins) > 0 {
		if err := w.log.Insert(ctx, tx, begins...); err != nil {
			return ofSomeMember(err)
		}
	}
	if err := result.Put(ctx, tx, results...); err != nil {
		return err
	}
	for _, g := range confirms {
		if err := w.log.ConfirmAll(ctx, tx, g.of, g.gids); err != nil {
			return ofSomeMember(err)
		}
	}
	for _, g := range cancels {
		if err := w.log.DecideAll(ctx, tx, g.of, g.gids); err != nil {
			return ofSomeMember(err)
		}
	}
	if err := w.log.FailedTries(ctx, tx, failed); err != nil {
		return err
	}
	for _, g := range ends {
		if err := w.log.FinishAll(ctx, tx, g.of, g.gids); err != nil {
			return ofSomeMember(err)
		}
	}
	if err := w.decide(ctx, tx, all); err != nil {
		return err
	}
	for i, one := range all {
		if one.More == nil {
			continue
		}
		if err := one.More(ctx, tx); err != nil {
			return &batch.MemberError{Index: i, Err: err}
		}
	}
	return nil
}

// decide reads the transactions of writes with Decide, and makes the decisions.
func (w *Writer) decide(ctx context.Context, tx *gorm.DB, all []Write) error {
	var gids []string
	for _, one := range all {
		if one.Decide != nil {
			gids = append(gids, one.GID)
		}
	}
	if len(gids) == 0 {
		return nil
	}
	read, err := w.log.LockAll(ctx, tx, gids...)
	if err != nil {
		return err
	}
	var decisions groups[txlog.Decision]
	for i, one := range all {
		if one.Decide == nil {
			continue
		}
		t, there := read[one.GID]
		if !there {
			return &batch.MemberError{Index: i, Err: txlog.ErrNotFound}
		}
		d, decides, err := one.Decide(ctx, tx, t)
		if err != nil {
			return &batch.MemberError{Index: i, Err: err}
		}
		if decides {
			d.GID = ""
			decisions = decisions.add(d, one.GID)
		}
	}
	for _, g := range decisions {
		if err := w.log.DecideAll(ctx, tx, g.of, g.gids); err != nil {
			return ofSomeMember(err)
		}
	}
	return nil
}

// ofSomeMember adds to an error that one transaction has caused it, if that is so.
func ofSomeMember(err error) error {
	if errors.Is(err, txlog.ErrExists) || errors.Is(err, txlog.ErrStale) {
		return fmt.Errorf("%w: %w", batch.ErrSomeMember, err)
	}
	return err
}

// groups are transactions to which the same statement applies. They keep the order in which
// they were added.
type groups[T comparable] []group[T]

type group[T comparable] struct {
	of   T
	gids []string
}

func (all groups[T]) add(of T, gid string) groups[T] {
	for i := range all {
		if all[i].of == of {
			all[i].gids = append(all[i].gids, gid)
			return all
		}
	}
	return append(all, group[T]{of, []string{gid}})
}

// Gather delays the next batch until it has n members. Tests use it.
func (w *Writer) Gather(n int) { w.groups.Gather("", n) }
