package main

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// takePoints is the payload of a branch that takes points from an account, in the
// database of the other service.
type takePoints struct {
	Account string
	Points  int64
}

func (takePoints) Branch() string { return chaos.PointsKind }

type points struct{ db *gorm.DB }

func (p points) Database() *gorm.DB { return p.db }

func (points) Try(_ context.Context, tx *gorm.DB, in takePoints) error {
	result := tx.Exec("UPDATE accounts SET free = free - ?, held = held + ? WHERE id = ? AND free >= ?", in.Points, in.Points, in.Account, in.Points)
	if result.Error == nil && result.RowsAffected == 0 {
		return tcc.Reject(fmt.Errorf("%s has less than %d points", in.Account, in.Points))
	}
	return result.Error
}

func (points) Confirm(_ context.Context, tx *gorm.DB, in takePoints) error {
	return one(tx.Exec("UPDATE accounts SET held = held - ?, spent = spent + ? WHERE id = ? AND held >= ?", in.Points, in.Points, in.Account, in.Points))
}

func (points) Cancel(_ context.Context, tx *gorm.DB, in takePoints) error {
	return one(tx.Exec("UPDATE accounts SET held = held - ?, free = free + ? WHERE id = ? AND held >= ?", in.Points, in.Points, in.Account, in.Points))
}

func one(result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("so many points are not held")
	}
	return result.Error
}
