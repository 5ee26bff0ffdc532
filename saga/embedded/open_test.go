package embedded_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestOpenRefusesAHalfMigratedDatabase(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{})
			open := func() error {
				_, err := embedded.Open(t.Context(), db, embedded.Config{})
				return err
			}
			if err := open(); !errors.Is(err, schema.ErrNotMigrated) {
				t.Errorf("an empty database: %v", err)
			}
			sagatest.Must(t, schema.Migrate(t.Context(), db))
			sagatest.Must(t, open())
			sagatest.Must(t, db.Exec("UPDATE saga_schema SET complete = 0").Error)
			if err := open(); !errors.Is(err, schema.ErrNotMigrated) {
				t.Errorf("a migration that was broken off: %v", err)
			}
			sagatest.Must(t, db.Exec("UPDATE saga_schema SET version = version + 1").Error)
			if err := open(); !errors.Is(err, schema.ErrNewer) {
				t.Errorf("a newer schema: %v", err)
			}
		})
	}
}

func TestOpenRefusesBadConfig(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	cases := map[string]embedded.Config{
		"Config.Lease is negative":               {Lease: -1},
		"Config.Lease is 1ms":                    {Lease: time.Millisecond},
		"Config.Poll is negative":                {Poll: -1},
		"Config.MaxBackoff":                      {MinBackoff: time.Hour},
		"Config.MaxWorkers is negative":          {MaxWorkers: -1},
		"Config.MaxPayload is":                   {MaxPayload: 1 << 30},
		"Config.CallTimeout is negative":         {CallTimeout: -1},
		"Config.Retention is 15s":                {Retention: 15 * time.Second},
		"Config.AttentionAge is":                 {AttentionAge: -1},
		"Config.AttentionAttempts is":            {AttentionAttempts: -1},
		"Config.Limits: its Rate is":             {Limits: embedded.Limits{Rate: math.NaN()}},
		"Config.Limits: its Failures is":         {Limits: embedded.Limits{Failures: -1}},
		`Config.KindLimits of "k": its Cooldown`: {KindLimits: map[string]embedded.Limits{"k": {Cooldown: -1}}},
	}
	for says, config := range cases {
		if _, err := embedded.Open(t.Context(), db, config); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", config, err, says)
		}
	}
	if _, err := embedded.Open(t.Context(), nil, embedded.Config{}); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("no database: %v", err)
	}
}

func TestRegisterRefusesABranchThatCannotWork(t *testing.T) {
	t.Parallel()
	orch := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	encode := func(any) ([]byte, error) { return nil, nil }
	inside := func(context.Context, *gorm.DB, saga.Call) error { return nil }
	outside := func(context.Context, saga.Call) (any, error) { return nil, nil }
	type outsides = map[barrier.Op]saga.Effect
	unmigrated := sqltest.Connect(t, sqltest.Create(t, "sqlite"), &gorm.Config{})
	cases := map[string]spec{
		"kind of branch":                {Kind: "a b", Encode: encode, Work: inside},
		"encoder is nil":                {Kind: "k", Work: inside},
		"needs Try, Confirm and Cancel": {Kind: "k", Encode: encode, Effects: outsides{barrier.Try: outside}},
		"effect for try":                {Kind: "k", Encode: encode, Work: inside, Effects: outsides{barrier.Try: outside}},
		"run schema.Migrate":            {Kind: "k", Encode: encode, Work: inside, Database: unmigrated},
	}
	for says, branch := range cases {
		if err := register(orch, branch); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	sagatest.Must(t, orch.Stop(t.Context()))
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	orch := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	ctx, stop := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() { first <- orch.Run(ctx) }()
	go func() { second <- orch.Run(ctx) }()
	var err error
	select { // whichever came later is refused at once; the other runs
	case err = <-first:
		first = second
	case err = <-second:
	}
	if err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("Run twice: %v", err)
	}
	stop()
	sagatest.Must(t, <-first)
	sagatest.Must(t, orch.Stop(t.Context()))
}
