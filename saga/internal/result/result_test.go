package result_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The first result of a branch stays, and the results of a transaction are removed together.
func TestResults(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		made := func(gid, id, json string) result.Result {
			return result.Result{Key: barrier.Key{GID: gid, BranchID: id}, JSON: []byte(json)}
		}
		for _, all := range [][]result.Result{
			nil,
			{made("g", "01", `{"a":1}`), made("g", "02", `"größe"`), made("h", "01", `[]`)},
			{made("g", "01", `{"a":2}`)}, // a repeated call
		} {
			if err := result.Put(ctx, db, all...); err != nil {
				t.Fatal(err)
			}
		}
		found, err := result.Of(ctx, db, "g", "h", "unknown")
		if err != nil || len(found) != 3 || string(found[0].JSON) != `{"a":1}` || found[1].Key != (barrier.Key{GID: "g", BranchID: "02"}) || string(found[1].JSON) != `"größe"` || found[2].GID != "h" {
			t.Errorf("%+v, %v", found, err)
		}
		if none, err := result.Of(ctx, db); none != nil || err != nil {
			t.Errorf("of no transaction: %v, %v", none, err)
		}
		if err := result.Remove(ctx, db, "g"); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[barrier.Key]string{{GID: "g", BranchID: "01"}: "", {GID: "h", BranchID: "01"}: "[]"} {
			if got, err := result.OfBranch(ctx, db, key); string(got) != want || err != nil {
				t.Errorf("%s: %q, %v", key, got, err)
			}
		}
	})
}
