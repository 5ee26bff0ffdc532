package main

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/action"
)

// BookRoom books a room of the hotel.
type BookRoom struct{ Guest string }

func (BookRoom) Branch() string { return "hotel.book" }

// Room is a row of the hotel's database, and the result of BookRoom.
type Room struct {
	Number int `gorm:"primaryKey"`
	Guest  string
}

// Hotel has a database of its own.
type Hotel struct{ db *gorm.DB }

func (h Hotel) Database() *gorm.DB { return h.db }

func (Hotel) Do(ctx context.Context, tx *gorm.DB, in BookRoom) (Room, error) {
	var room Room
	err := tx.Raw("UPDATE rooms SET guest = ? WHERE number = (SELECT MIN(number) FROM rooms WHERE guest = '') RETURNING *", in.Guest).Scan(&room).Error
	if err == nil && room.Number == 0 {
		err = action.RejectCode("hotel.full", errors.New("no room is free"))
	}
	return room, err
}

func (Hotel) Compensate(ctx context.Context, tx *gorm.DB, in BookRoom, done Room) error {
	if err := free(tx.Exec("UPDATE rooms SET guest = '' WHERE number = ? AND guest = ?", done.Number, in.Guest)); err != nil {
		return err
	}
	fmt.Printf("  room %d is free again\n", done.Number)
	return nil
}

// BookFlight books a flight at another company.
type BookFlight struct{ Guest string }

func (BookFlight) Branch() string { return "flight.book" }

// Ticket is the result of BookFlight.
type Ticket struct{ Flight string }

// Airline stands for the API of another company, which knows a repeated request by its
// idempotency key.
type Airline struct{}

func (Airline) Do(ctx context.Context, in BookFlight) (Ticket, error) {
	_ = action.IdempotencyKey(ctx) // goes with the request
	return Ticket{Flight: "TS 100"}, nil
}

func (Airline) Compensate(ctx context.Context, in BookFlight, done *Ticket) error {
	_ = action.IdempotencyKey(ctx) // cancels what was booked under the key, if anything was
	if done != nil {
		fmt.Printf("  flight %s is cancelled\n", done.Flight)
	}
	return nil
}

// BookCar books a car of the agency.
type BookCar struct{ Guest string }

func (BookCar) Branch() string { return "car.book" }

// Car is a row of the agency's database, and the result of BookCar.
type Car struct {
	Plate string `gorm:"primaryKey"`
	Guest string
}

// Garage works in the database of the engine.
type Garage struct{}

func (Garage) Do(ctx context.Context, tx *gorm.DB, in BookCar) (Car, error) {
	var car Car
	err := tx.Raw("UPDATE cars SET guest = ? WHERE plate = (SELECT MIN(plate) FROM cars WHERE guest = '') RETURNING *", in.Guest).Scan(&car).Error
	if err == nil && car.Plate == "" {
		err = action.RejectCode("car.none", errors.New("no car is left"))
	}
	return car, err
}

func (Garage) Compensate(ctx context.Context, tx *gorm.DB, in BookCar, done Car) error {
	return free(tx.Exec("UPDATE cars SET guest = '' WHERE plate = ? AND guest = ?", done.Plate, in.Guest))
}

// free returns an error if a compensation has found nothing to give back.
func free(result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected == 0 {
		return errors.New("the booking is gone")
	}
	return result.Error
}

// SendTickets sends all tickets. It follows the decision, because nobody can take a mail back.
type SendTickets struct{ Guest string }

func (SendTickets) Branch() string { return "tickets.send" }

// Post sends mails.
type Post struct{}

func (Post) Do(ctx context.Context, in SendTickets) (action.None, error) {
	room, err := action.ResultOf[Room](ctx, "01")
	if err != nil {
		return action.None{}, err
	}
	ticket, err := action.ResultOf[Ticket](ctx, "02")
	if err != nil {
		return action.None{}, err
	}
	car, err := action.ResultOf[Car](ctx, "03")
	if err == nil {
		fmt.Printf("  a mail to %s: room %d, flight %s, car %s\n", in.Guest, room.Number, ticket.Flight, car.Plate)
	}
	return action.None{}, err
}

func (Post) Compensate(context.Context, SendTickets, *action.None) error {
	return errors.New("a mail cannot be taken back: the step has to be AfterDecision")
}
