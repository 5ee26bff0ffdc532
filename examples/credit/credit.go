package main

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Account is a row of the table accounts.
type Account struct {
	ID   string `gorm:"primaryKey"`
	Free int64
	Held int64
}

// HoldCredit is the payload: hold credit of an account, and then spend it.
type HoldCredit struct {
	Account string
	Cents   int64
}

// Branch names the kind of branch.
func (HoldCredit) Branch() string { return "credit.hold" }

// Credit is the branch.
type Credit struct{}

// Try moves the cents from free to held, or rejects.
func (Credit) Try(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	held := tx.Exec("UPDATE accounts SET free = free - ?, held = held + ? WHERE id = ? AND free >= ?",
		in.Cents, in.Cents, in.Account, in.Cents)
	if held.Error == nil && held.RowsAffected == 0 {
		return tcc.Reject(errors.New("not enough credit"))
	}
	return held.Error
}

// Confirm spends the cents that are held.
func (Credit) Confirm(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	return oneRow(tx.Exec("UPDATE accounts SET held = held - ? WHERE id = ? AND held >= ?",
		in.Cents, in.Account, in.Cents))
}

// Cancel moves the cents from held back to free.
func (Credit) Cancel(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	return oneRow(tx.Exec("UPDATE accounts SET held = held - ?, free = free + ? WHERE id = ? AND held >= ?",
		in.Cents, in.Cents, in.Account, in.Cents))
}

// oneRow returns an error unless one row changed: an UPDATE that finds no row succeeds.
func oneRow(result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected != 1 {
		return fmt.Errorf("%d rows changed, want 1: was the account changed by hand?", result.RowsAffected)
	}
	return result.Error
}
