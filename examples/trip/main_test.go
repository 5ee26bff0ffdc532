package main

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// The program as an example, so that its output is tested.
func Example() {
	main()
	// Unordered output:
	// trip-1 of ann
	//   a mail to ann: room 11, flight TS 100, car B-42
	//   trip-1 is confirmed
	//   1 hotel.book {"Number":11,"Guest":"ann"}: Try and Confirm have run, or the work was done in one step; this is final
	//   1 flight.book {"Flight":"TS 100"}: Try and Confirm have run, or the work was done in one step; this is final
	//   2 car.book {"Plate":"B-42","Guest":"ann"}: Try and Confirm have run, or the work was done in one step; this is final
	//   3 tickets.send : Try and Confirm have run, or the work was done in one step; this is final
	// trip-2 of bob
	//   room 12 is free again
	//   flight TS 100 is cancelled
	//   trip-2 is cancelled: car.book: no car is left
	//   1 hotel.book {"Number":12,"Guest":"bob"}: Try had run, and Cancel has undone it; this is final
	//   1 flight.book {"Flight":"TS 100"}: Try had run, and Cancel has undone it; this is final
	//   2 car.book : it was not done
	//   3 tickets.send : it was not done
}

// The actions stand every order of calls.
func TestHotel(t *testing.T) {
	db := open(t.Context(), t.TempDir(), "hotel.db")
	check(db.AutoMigrate(&Room{}))
	rooms := func(db *gorm.DB) (all []Room, err error) {
		err = db.Order("number").Find(&all).Error
		return all, err
	}
	tcctest.ExerciseAction(t, db, Hotel{}, tcctest.Case[BookRoom]{
		Payload: BookRoom{"ann"},
		Reset: func(ctx context.Context, db *gorm.DB) error {
			db = db.WithContext(ctx)
			if err := db.Exec("DELETE FROM rooms").Error; err != nil {
				return err
			}
			return db.Create([]Room{{Number: 11}, {Number: 12}}).Error
		},
		State:    func(ctx context.Context, db *gorm.DB) (any, error) { return rooms(db.WithContext(ctx)) },
		Tried:    []Room{{11, "ann"}, {12, ""}},
		Capacity: 2,
	})
}
