package tcc_test

import (
	"errors"
	"maps"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The labels of the options reach the log, whichever function begins the transaction.
func TestLabels(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()
		options := saga.Options{Labels: map[string]string{"order": "1001", "customer": "7"}}
		pool, err := db.DB()
		sagatest.Must(t, err)
		ways := map[string]func(gid string) error{
			"ExecuteWith": func(gid string) error {
				_, err := tcc.ExecuteWith(ctx, b.orch, gid, options, hold{1, 1})
				return err
			},
			"BeginWith": func(gid string) error {
				tx, err := tcc.BeginWith(ctx, b.orch, gid, options)
				if err != nil {
					return err
				}
				if err := tx.Try(ctx, hold{1, 1}); err != nil {
					return err
				}
				_, err = tx.Confirm(ctx)
				return err
			},
			"ExecuteInWith": func(gid string) error {
				return db.Transaction(func(tx *gorm.DB) error {
					_, err := tcc.ExecuteInWith(ctx, b.orch, tx, gid, options, hold{1, 1})
					return err
				})
			},
			"ExecuteInSQLWith": func(gid string) error {
				tx, err := pool.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				_, err = tcc.ExecuteInSQLWith(ctx, b.orch, tx, gid, options, hold{1, 1})
				return errors.Join(err, tx.Commit())
			},
			"a saga": func(gid string) error {
				_, err := action.NewSaga(gid).Step(hold{1, 1}).ExecuteWith(ctx, b.orch, options)
				return err
			},
			"a saga in a local transaction": func(gid string) error {
				return db.Transaction(func(tx *gorm.DB) error {
					_, err := action.NewSaga(gid).Step(hold{1, 1}).ExecuteInWith(ctx, b.orch, tx, options)
					return err
				})
			},
			"a saga in a sql.Tx": func(gid string) error {
				tx, err := pool.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				_, err = action.NewSaga(gid).Step(hold{1, 1}).ExecuteInSQLWith(ctx, b.orch, tx, options)
				return errors.Join(err, tx.Commit())
			},
		}
		for name, begin := range ways {
			gid := sagatest.GID()
			if err := begin(gid); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			found, err := b.orch.Lookup(ctx, gid)
			if err != nil || !maps.Equal(found.Labels, options.Labels) {
				t.Errorf("%s: the labels are %q, %v", name, found.Labels, err)
			}
		}
		gid := sagatest.GID()
		_, err = tcc.Begin(ctx, b.orch, gid)
		sagatest.Must(t, err)
		if _, err := tcc.JoinWith(ctx, b.orch, gid, options); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("JoinWith takes labels: %v", err)
		}
		tx, err := tcc.Join(ctx, b.orch, gid)
		sagatest.Must(t, err)
		if _, err := tx.ConfirmWith(ctx, options); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("ConfirmWith takes labels: %v", err)
		}
	})
}
