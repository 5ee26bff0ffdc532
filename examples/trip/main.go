// Command trip books a hotel, a flight and a car as a saga, and sends the tickets after the
// decision. For the second traveller no car is left: the flight and the hotel are
// compensated. It needs no server: it uses SQLite.
//
//	go run ./examples/trip
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
)

func main() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "trip")
	check(err)
	defer os.RemoveAll(dir)
	agency, hotels := open(ctx, dir, "agency.db"), open(ctx, dir, "hotels.db") // two databases
	check(agency.AutoMigrate(&Car{}))
	check(hotels.AutoMigrate(&Room{}))
	check(agency.Create(&Car{Plate: "B-42"}).Error)
	check(hotels.Create([]Room{{Number: 11}, {Number: 12}}).Error)

	engine, err := embedded.Open(ctx, agency, embedded.Config{})
	check(err)
	check(errors.Join(
		action.Register(engine, Hotel{hotels}),
		action.RegisterExternal(engine, Airline{}),
		action.Register(engine, Garage{}),
		action.RegisterExternal(engine, Post{}),
	))
	go engine.Run(ctx)
	defer engine.Stop(ctx)

	book(ctx, engine, "trip-1", "ann")
	book(ctx, engine, "trip-2", "bob")
}

// book books a trip, and prints what happened.
func book(ctx context.Context, engine *embedded.Engine, gid, guest string) {
	fmt.Println(gid, "of", guest)
	_, err := action.NewSaga(gid).
		Parallel(BookRoom{guest}, BookFlight{guest}). // at the same time
		Step(BookCar{guest}).
		AfterDecision(SendTickets{guest}).
		Execute(ctx, engine)
	if err != nil && !errors.Is(err, saga.ErrCancelled) {
		log.Fatal(err)
	}
	outcome, err := engine.Wait(ctx, gid)
	if err != nil && !errors.Is(err, saga.ErrCancelled) {
		log.Fatal(err)
	}
	fmt.Println(strings.TrimRight(fmt.Sprintf("  %s is %s: %s", gid, outcome.State, outcome.Reason), ": "))

	found, err := engine.Lookup(ctx, gid)
	check(err)
	for _, b := range found.Branches {
		says := "it was not done"
		if b.Barrier != nil {
			says = b.Barrier.Explain()
		}
		fmt.Printf("  %d %s %s: %s\n", b.Stage, b.Kind, b.Result, says)
	}
}

// open opens a SQLite database with the schema of the framework.
func open(ctx context.Context, dir, name string) *gorm.DB {
	db, err := gorm.Open(sqlite.Open("file:"+filepath.Join(dir, name)+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	return db
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
