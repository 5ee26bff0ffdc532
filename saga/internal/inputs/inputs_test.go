package inputs_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/inputs"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func in(t *testing.T, db *gorm.DB, work func(tx *gorm.DB) error) error {
	t.Helper()
	return local.Run(t.Context(), db, work)
}

func keep(t *testing.T, db *gorm.DB, key barrier.Key, payload string, after time.Duration) error {
	t.Helper()
	return in(t, db, func(tx *gorm.DB) error { return inputs.Keep(t.Context(), tx, key, []byte(payload), after) })
}

func payload(t *testing.T, db *gorm.DB, key barrier.Key) (text string, found bool) {
	t.Helper()
	must(t, in(t, db, func(tx *gorm.DB) error {
		got, is, err := inputs.Payload(t.Context(), tx, key)
		text, found = string(got), is
		return err
	}))
	return text, found
}

func key(gid string) barrier.Key { return barrier.Key{GID: gid, BranchID: "01"} }

// The same bytes come back that were kept.
func TestPayload(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, text := range []string{`{}`, `{"name": "Käthe 買い物 🛒", "path": "C:\\x", "quote": "'\"` + "`" + `"}  `, "  {\n}\r\n"} {
			must(t, keep(t, db, key("a"), text, time.Hour)) // also in place of an earlier one
			if got, found := payload(t, db, key("a")); got != text || !found {
				t.Errorf("%q, %t, want %q", got, found, text)
			}
		}
		if err := keep(t, db, key("b"), "\"\xff\"", time.Hour); !errors.Is(err, inputs.ErrNotText) {
			t.Errorf("bytes that are not UTF-8: %v", err)
		}
		must(t, in(t, db, func(tx *gorm.DB) error { return inputs.Remove(t.Context(), tx, key("a")) }))
		if _, found := payload(t, db, key("a")); found {
			t.Error("it was removed")
		}
	})
}

// A branch is claimed when its time has come, and then not again until its pause is over.
func TestClaim(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		claim := func(most int) (gids []string) {
			t.Helper()
			keys, err := inputs.Claim(t.Context(), db, most, func(since time.Duration) time.Duration {
				if since < 0 || since > time.Hour {
					t.Errorf("tried %s ago", since)
				}
				return time.Hour
			})
			must(t, err)
			for _, k := range keys {
				gids = append(gids, k.GID)
			}
			return gids
		}
		must(t, keep(t, db, key("young"), `{}`, time.Hour))
		for _, gid := range []string{"a", "b", "c"} {
			must(t, keep(t, db, key(gid), `{}`, 0))
		}
		first := claim(2)
		second := claim(2)
		if len(first) != 2 || len(second) != 1 {
			t.Errorf("%v, then %v", first, second)
		}
		if all := slices.Sorted(slices.Values(append(first, second...))); !slices.Equal(all, []string{"a", "b", "c"}) {
			t.Errorf("%v", all)
		}
		if third := claim(2); third != nil {
			t.Errorf("claimed again: %v", third)
		}
	})
}

// Only inputs without a barrier row are orphans.
func TestRemoveOrphans(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, gid := range []string{"orphan", "in-doubt", "other"} {
			must(t, keep(t, db, key(gid), `{}`, 0))
		}
		_, err := barrier.Do(t.Context(), db, barrier.Request{Key: key("in-doubt"), Op: barrier.Try}, func(*gorm.DB) error { return nil })
		must(t, err)
		must(t, in(t, db, func(tx *gorm.DB) error {
			return inputs.RemoveOrphans(t.Context(), tx, []string{"orphan", "in-doubt"})
		}))
		for gid, want := range map[string]bool{"orphan": false, "in-doubt": true, "other": true} {
			if _, found := payload(t, db, key(gid)); found != want {
				t.Errorf("%s: %t", gid, found)
			}
		}
	})
}
