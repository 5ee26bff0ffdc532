package txlog_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A batch may have more labels than one statement writes.
func TestLabelsOfManyTransactions(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		var starts []txlog.Start
		var gids []string
		for i := range 130 {
			s := txlog.Start{GID: fmt.Sprint("t-", i), State: txlog.Trying, Deadline: time.Hour, Due: time.Hour}
			for n := range i % 9 {
				s.Labels = append(s.Labels, txlog.Label{Name: fmt.Sprint("n", n), Value: fmt.Sprint(i, "-", n)})
			}
			starts, gids = append(starts, s), append(gids, s.GID)
		}
		ctx := t.Context()
		sagatest.Must(t, local.Run(ctx, db, func(tx *gorm.DB) error { return log.Insert(ctx, tx, starts...) }))
		all, err := log.Labels(ctx, nil, gids...)
		sagatest.Must(t, err)
		for i, gid := range gids {
			want := map[string]string{}
			for n := range i % 9 {
				want[fmt.Sprint("n", n)] = fmt.Sprint(i, "-", n)
			}
			if !maps.Equal(all[gid], want) {
				t.Errorf("%s has %q, want %q", gid, all[gid], want)
			}
		}
		if none, err := log.Labels(ctx, nil); err != nil || len(none) != 0 {
			t.Errorf("of nothing: %q, %v", none, err)
		}
	})
}
