package nested_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// Booking is the input of the branch that the hotel offers to others.
type Booking struct{ Guests int64 }

func (Booking) Branch() string { return "hotel.book" }

// planBooking returns the branches of a booking: the hotel has beds and breakfasts.
func planBooking(_ context.Context, in Booking) ([]tcc.Payload, error) {
	if in.Guests < 1 {
		return nil, tcc.RejectCode("guests.none", errors.New("a booking needs a guest"))
	}
	return []tcc.Payload{
		stock.Lock{Items: []stock.Item{{SKU: "bed", Quantity: in.Guests}}},
		stock.Lock{Items: []stock.Item{{SKU: "breakfast", Quantity: in.Guests}}},
	}, nil
}

// open opens a SQLite file with the schema, and an engine with its log there.
func open(ctx context.Context, file string) (*gorm.DB, *embedded.Engine) {
	db, err := gorm.Open(sqlite.Open("file:"+file+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"),
		&gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	engine, err := embedded.Open(ctx, db, embedded.Config{Logger: slog.New(slog.DiscardHandler)})
	check(err)
	return db, engine
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Two services, each with a database and an engine of its own. Commonly they are two programs.
// The agency has transactions with a booking in the hotel, which is a transaction of the hotel.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key, err := remote.NewKey("2026-11", []byte("32 random bytes from a safe place"))
	check(err)
	keys := []remote.Key{key}

	// The hotel.
	db, hotel := open(ctx, filepath.Join(dir, "hotel.db"))
	shelf := stock.New(db)
	check(shelf.Put(ctx, "bed", 10))
	check(shelf.Put(ctx, "breakfast", 10))
	check(tcc.Register(hotel, shelf))
	go hotel.Run(ctx)
	defer hotel.Stop(ctx)
	host, err := remote.NewHost(ctx, db, remote.HostConfig{Name: "hotel", Keys: keys})
	check(err)
	check(nested.Register(host, nested.Branch[Booking]{Child: hotel, Plan: planBooking}))
	mux := http.NewServeMux()
	mux.Handle("/branches/", host)
	server := httptest.NewServer(mux)
	defer server.Close()

	// The agency.
	db, agency := open(ctx, filepath.Join(dir, "agency.db"))
	seats := stock.New(db)
	check(seats.Put(ctx, "seat", 5))
	check(tcc.Register(agency, seats))
	service, err := remote.NewService(server.URL+"/branches", remote.ServiceConfig{Name: "hotel", Keys: keys})
	check(err)
	check(tcc.RegisterRemote[Booking](agency, service))
	go agency.Run(ctx)
	defer agency.Stop(ctx)

	show := func(gid string) {
		for {
			child, err := hotel.Wait(ctx, gid+".01") // the branch 01 of the transaction gid
			if child.State.Finished() {
				fmt.Println(gid+".01", "is", child.State)
				return
			}
			check(err)
		}
	}
	book := func(gid string, guests int64) {
		_, err := tcc.Execute(ctx, agency, gid, Booking{guests}, stock.Lock{Items: []stock.Item{{SKU: "seat", Quantity: guests}}})
		switch {
		case errors.Is(err, saga.ErrCancelled):
			fmt.Println(err)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(gid, "is confirmed")
		}
		show(gid)
	}
	book("trip-1", 3)
	book("trip-2", 4) // the hotel has beds, but the agency has no seats
	level, err := shelf.Get(ctx, "bed")
	check(err)
	fmt.Println("beds:", level.Available, "available,", level.Locked, "locked,", level.Sold, "sold")
	// Output:
	// trip-1 is confirmed
	// trip-1.01 is confirmed
	// saga: trip-2 is cancelled: stock.lock: stock of seat is short: 4 wanted, 2 available
	// trip-2.01 is cancelled
	// beds: 7 available, 0 locked, 3 sold
}
