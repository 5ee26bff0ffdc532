package tcc_test

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Payloads that JSON would not give back as they were.
type (
	notStruct int
	//lint:ignore U1000 it is there to be refused
	unexported struct{ cents int }
	ignored    struct {
		Cents int `json:"-"`
	}
	channel   struct{ Done chan int }
	function  struct{ Nested struct{ F func() } }
	anyField  struct{ Things []any }
	panicking struct{ Name *string }
	badKind   struct{}
	emptyKind struct{}
	fine      struct {
		At    time.Time
		Lines []struct{ SKU string }
		By    map[string]int
		Self  *fine
	}
)

func (notStruct) Branch() string   { return "test.int" }
func (unexported) Branch() string  { return "test.unexported" }
func (ignored) Branch() string     { return "test.ignored" }
func (channel) Branch() string     { return "test.channel" }
func (function) Branch() string    { return "test.function" }
func (anyField) Branch() string    { return "test.any" }
func (p panicking) Branch() string { return *p.Name }
func (badKind) Branch() string     { return "no spaces" }
func (emptyKind) Branch() string   { return "" }
func (fine) Branch() string        { return "test.fine" }

// poison is a branch that overlooks the failure of a statement, which PostgreSQL
// does not: it refuses to commit.
type poison struct{}

func (poison) Branch() string { return "test.poison" }

type poisonous struct{ nothing[poison] }

func (poisonous) Confirm(_ context.Context, tx *gorm.DB, _ poison) error {
	tx.Exec("SELECT nothing FROM nowhere")
	return nil
}

type (
	unknown  struct{}
	impostor struct{}
	long     struct{ Text string }
)

func (unknown) Branch() string  { return "test.unknown" }
func (impostor) Branch() string { return "credit.hold" }
func (long) Branch() string     { return "test.long" }

// nothing is a branch that does nothing.
type nothing[P tcc.Payload] struct{}

func (nothing[P]) Try(context.Context, *gorm.DB, P) error     { return nil }
func (nothing[P]) Confirm(context.Context, *gorm.DB, P) error { return nil }
func (nothing[P]) Cancel(context.Context, *gorm.DB, P) error  { return nil }
