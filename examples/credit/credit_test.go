package main

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

func TestCredit(t *testing.T) {
	sqltest.Each(t, exercise)
}

func exercise(t *testing.T, db *gorm.DB) {
	if err := db.AutoMigrate(&Account{}); err != nil {
		t.Fatal(err)
	}
	tcctest.Exercise(t, db, Credit{}, tcctest.Case[HoldCredit]{
		Payload: HoldCredit{Account: "ann", Cents: 30},
		Reset: func(_ context.Context, db *gorm.DB) error {
			return db.Save(&Account{ID: "ann", Free: 100}).Error
		},
		State: func(_ context.Context, db *gorm.DB) (any, error) {
			var account Account
			return account, db.Take(&account, "id = ?", "ann").Error
		},
		Capacity:  3, // three times 30 cents
		Tried:     Account{ID: "ann", Free: 70, Held: 30},
		Confirmed: Account{ID: "ann", Free: 70},
	})
}
