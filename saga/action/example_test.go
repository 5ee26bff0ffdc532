package action_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
)

type BookRoom struct{ Guest string }

func (BookRoom) Branch() string { return "room.book" }

type Room struct{ Number int }

// Rooms books rooms.
type Rooms struct{}

func (Rooms) Do(ctx context.Context, tx *gorm.DB, in BookRoom) (Room, error) {
	var room Room
	err := tx.Raw("UPDATE rooms SET guest = ? WHERE number = (SELECT MIN(number) FROM rooms WHERE guest = '') RETURNING number", in.Guest).Scan(&room.Number).Error
	if err == nil && room.Number == 0 {
		err = action.Reject(errors.New("no room is free"))
	}
	return room, err
}

func (Rooms) Compensate(ctx context.Context, tx *gorm.DB, in BookRoom, done Room) error {
	fmt.Printf("room %d is free again\n", done.Number)
	return tx.Exec("UPDATE rooms SET guest = '' WHERE number = ? AND guest = ?", done.Number, in.Guest).Error
}

type Pay struct {
	Guest string
	Cents int
}

func (Pay) Branch() string { return "card.pay" }

type Receipt struct{ ID string }

// Cards pays at a payment service.
type Cards struct{ limit int }

func (c Cards) Do(ctx context.Context, in Pay) (Receipt, error) {
	room, err := action.ResultOf[Room](ctx, "01")
	if err != nil {
		return Receipt{}, err
	}
	if in.Cents > c.limit {
		return Receipt{}, action.RejectCode("card.limit", errors.New("the card is refused"))
	}
	fmt.Printf("%s pays %d for room %d\n", in.Guest, in.Cents, room.Number)
	return Receipt{ID: action.IdempotencyKey(ctx)}, nil // the other system gets the key
}

func (c Cards) Compensate(ctx context.Context, in Pay, done *Receipt) error {
	return nil // refund what was paid under action.IdempotencyKey(ctx), if anything
}

type Welcome struct{ Guest string }

func (Welcome) Branch() string { return "mail.welcome" }

// Mails sends mails.
type Mails struct{}

func (Mails) Do(ctx context.Context, in Welcome) (action.None, error) {
	fmt.Println("a mail to", in.Guest)
	return action.None{}, nil
}

func (Mails) Compensate(ctx context.Context, in Welcome, done *action.None) error {
	return errors.New("a mail cannot be taken back: send it after the decision")
}

func Example() {
	ctx := context.Background()
	db, clean := openDatabase(ctx)
	defer clean()
	check(db.Exec("CREATE TABLE rooms (number INTEGER PRIMARY KEY, guest TEXT NOT NULL)").Error)
	check(db.Exec("INSERT INTO rooms VALUES (11, ''), (12, '')").Error)

	engine, err := embedded.Open(ctx, db, embedded.Config{})
	check(err)
	check(action.Register(engine, Rooms{}))
	check(action.RegisterExternal(engine, Cards{limit: 10000}))
	check(action.RegisterExternal(engine, Mails{}))
	go engine.Run(ctx)
	defer engine.Stop(ctx)

	outcome, err := action.NewSaga("stay-1").
		Step(BookRoom{Guest: "ann"}).
		Step(Pay{Guest: "ann", Cents: 9900}).
		AfterDecision(Welcome{Guest: "ann"}).
		Execute(ctx, engine)
	check(err)
	fmt.Println("stay-1 is", outcome.State)

	outcome, err = action.NewSaga("stay-2").
		Step(BookRoom{Guest: "bob"}).
		Step(Pay{Guest: "bob", Cents: 10900}).
		AfterDecision(Welcome{Guest: "bob"}).
		Execute(ctx, engine)
	fmt.Println("stay-2 is cancelled:", errors.Is(err, saga.ErrCancelled), outcome.Code)
	// Output:
	// ann pays 9900 for room 11
	// a mail to ann
	// stay-1 is confirmed
	// room 12 is free again
	// stay-2 is cancelled: true card.limit
}

// openDatabase returns a new database with the schema, and what removes it.
func openDatabase(ctx context.Context) (*gorm.DB, func()) {
	dir, err := os.MkdirTemp("", "action")
	check(err)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "example.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"),
		&gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	return db, func() { os.RemoveAll(dir) }
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
