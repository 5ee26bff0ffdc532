package txn_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var script parts.Script

// located is a remote branch that names the database of its barrier rows.
type located struct {
	*parts.Script
	db *gorm.DB
}

func (l located) Database() *gorm.DB { return l.db }

func localBranch(kind string, shape saga.Local) saga.Branch {
	shape.Work = script.Work
	return saga.NewLocal(kind, parts.Encode, shape)
}

// The place of a branch and its shape say which of its calls share a commit with the log.
func TestNewBranch(t *testing.T) {
	t.Parallel()
	db, other := sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite")
	effects := map[barrier.Op]saga.Effect{barrier.Confirm: script.Effect}
	external := saga.External{Try: script.Effect, Confirm: script.Effect, Cancel: script.Effect}
	away := external
	away.Database = other
	for _, c := range []struct {
		name                 string
		branch               saga.Branch
		tries, confirms, end bool // in the log's transaction
		effects              int
		database             *gorm.DB
	}{
		{"local", localBranch("k", saga.Local{}), true, true, true, 0, db},
		{"local with an effect", localBranch("k", saga.Local{Effects: effects}), true, false, true, 1, db},
		{"local elsewhere", localBranch("k", saga.Local{Database: other}), false, false, false, 0, other},
		{"external", saga.NewExternal("k", parts.Encode, external), false, false, false, 3, db},
		{"external elsewhere", saga.NewExternal("k", parts.Encode, away), false, false, false, 3, other},
		{"remote", saga.NewRemote("k", parts.Encode, &script), false, false, false, 0, nil},
		{"remote with a database", saga.NewRemote("k", parts.Encode, located{&script, other}), false, false, false, 0, other},
		{"remote with the engine's own", saga.NewRemote("k", parts.Encode, located{&script, db}), false, false, false, 0, db},
	} {
		registry, err := txn.NewRegistry(db)
		ok(t, err)
		b, err := txn.NewBranch(c.branch, nil)
		ok(t, err)
		ok(t, registry.Add(t.Context(), b))
		if b.Kind != "k" || b.TriesInLog() != c.tries || b.ConfirmsInLog() != c.confirms || b.EndsInLog() != c.end {
			t.Errorf("%s: %s tries in the log: %v, confirms: %v, ends: %v", c.name, b.Kind, b.TriesInLog(), b.ConfirmsInLog(), b.EndsInLog())
		}
		if len(b.Effects) != c.effects || b.Database != c.database || b.Resident != (c.database == db && b.Remote == nil) || (b.Remote != nil) != strings.HasPrefix(c.name, "remote") {
			t.Errorf("%s: %d effects, resident %v, remote %v", c.name, len(b.Effects), b.Resident, b.Remote)
		}
	}
}

func TestNewBranchRefuses(t *testing.T) {
	t.Parallel()
	effect := script.Effect
	try := map[barrier.Op]saga.Effect{barrier.Try: effect}
	for _, c := range []struct {
		name, want string
		branch     saga.Branch
	}{
		{"no kind", "the kind of branch", localBranch("", saga.Local{})},
		{"a kind with a space", "the kind of branch", localBranch("a b", saga.Local{})},
		{"a long kind", "the kind of branch", localBranch(strings.Repeat("k", 65), saga.Local{})},
		{"no encoder", "its encoder is nil", saga.NewLocal("k", nil, saga.Local{Work: script.Work})},
		{"no work", "its Work is nil", saga.NewLocal("k", parts.Encode, saga.Local{})},
		{"a Try with an effect", "it has an effect for try", localBranch("k", saga.Local{Effects: try})},
		{"an effect of nothing", "it has an effect for pay", localBranch("k", saga.Local{Effects: map[barrier.Op]saga.Effect{"pay": effect}})},
		{"no external Try", "needs Try, Confirm and Cancel", saga.NewExternal("k", parts.Encode, saga.External{Confirm: effect, Cancel: effect})},
		{"no external Confirm", "needs Try, Confirm and Cancel", saga.NewExternal("k", parts.Encode, saga.External{Try: effect, Cancel: effect})},
		{"no external Cancel", "needs Try, Confirm and Cancel", saga.NewExternal("k", parts.Encode, saga.External{Try: effect, Confirm: effect})},
		{"a service with a database that is nil", "its database is nil", saga.NewRemote("k", parts.Encode, located{&script, nil})},
		{"no service", "it has no shape", saga.NewRemote("k", parts.Encode, nil)},
		{"the zero branch", "the kind of branch", saga.Branch{}},
	} {
		b, err := txn.NewBranch(c.branch, nil)
		if b != nil || !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, b, err)
		}
	}
}

// The same kind twice is refused, also if both are added at once.
func TestRegistryAddsAKindOnce(t *testing.T) {
	t.Parallel()
	registry, err := txn.NewRegistry(sqltest.Open(t, "sqlite"))
	ok(t, err)
	failures := make(chan error)
	const n = 8
	for range n {
		go func() {
			b, err := txn.NewBranch(localBranch("k", saga.Local{}), nil)
			if err == nil {
				err = registry.Add(context.WithoutCancel(t.Context()), b)
			}
			failures <- err
		}()
	}
	added := 0
	for range n {
		err := <-failures
		switch {
		case err == nil:
			added++
		case !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "registered already"):
			t.Error(err)
		}
	}
	if added != 1 {
		t.Errorf("the kind was added %d times", added)
	}
}

func TestRegistryLooksKindsUp(t *testing.T) {
	t.Parallel()
	kit := parts.New(t, sqltest.Open(t, "sqlite"))
	b, a := kit.Local("b", &script), kit.Local("a", &script)
	if found, err := kit.Registry.Branch("a"); err != nil || found != a || !kit.Registry.Knows("a") {
		t.Errorf("a is %v, %v", found, err)
	}
	if found, err := kit.Registry.Branch("c"); found != nil || !errors.Is(err, saga.ErrUnknownKind) || kit.Registry.Knows("c") {
		t.Errorf("c is %v, %v", found, err)
	}
	if all := kit.Registry.Branches(); len(all) != 2 || all[0] != a || all[1] != b {
		t.Errorf("all are %v", all)
	}
}

// A database of a branch has to be usable and migrated. A handle on the registry's own pool
// needs no check.
func TestRegistryChecksTheDatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		registry, err := txn.NewRegistry(db)
		ok(t, err)
		bare := sqltest.Connect(t, sqltest.Create(t, db.Name()), &gorm.Config{})
		tx := db.Begin()
		defer tx.Rollback()
		for _, c := range []struct {
			kind     string
			database *gorm.DB
			want     error
			text     string
		}{
			{"another-one", sqltest.Open(t, db.Name()), nil, ""},
			{"a-session", db.Session(&gorm.Session{}), nil, ""},
			{"unmigrated", bare, schema.ErrNotMigrated, "its database"},
			{"in-a-transaction", tx, saga.ErrInvalid, "in a local transaction"},
			{"dry-run", db.Session(&gorm.Session{DryRun: true}), saga.ErrInvalid, "DryRun"},
			{"zero", &gorm.DB{}, saga.ErrInvalid, "it is nil"},
		} {
			b, err := txn.NewBranch(localBranch(c.kind, saga.Local{Database: c.database}), nil)
			ok(t, err)
			err = registry.Add(t.Context(), b)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v", c.kind, err)
			}
			if registry.Knows(c.kind) != (err == nil) {
				t.Errorf("%s is known: %v", c.kind, registry.Knows(c.kind))
			}
			if c.kind == "a-session" && !b.Resident || c.kind == "another-one" && b.Resident {
				t.Errorf("%s: resident is %v", c.kind, b.Resident)
			}
		}
	})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
