package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// takePoints takes points from an account, in the other database.
type takePoints struct {
	Account string
	Points  int64
}

func (takePoints) Branch() string { return "points.take" }

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

// note is a branch that also writes down which of its calls had effect, in the
// same local transaction: so that the books find the transaction at fault.
type note[P tcc.Payload] struct {
	inner interface {
		tcc.Branch[P]
		tcc.Located
	}
}

func noted[P tcc.Payload](inner interface {
	tcc.Branch[P]
	tcc.Located
}) tcc.Branch[P] {
	return note[P]{inner}
}

func (n note[P]) Database() *gorm.DB { return n.inner.Database() }

func (n note[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Try(ctx, tx, in))
}

func (n note[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Confirm(ctx, tx, in))
}

func (n note[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Cancel(ctx, tx, in))
}

func (n note[P]) after(ctx context.Context, tx *gorm.DB, err error) error {
	if err != nil {
		return err
	}
	call := tcc.CallOf(ctx)
	return tx.Exec("INSERT INTO notes (gid, branch_id, operation, at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))", call.GID, call.BranchID, string(call.Op)).Error
}

// pay asks the gateway, which has no database of ours.
type pay struct{ Cents int64 }

func (pay) Branch() string { return "payment" }

type gateway struct{ url string }

func (g gateway) Try(ctx context.Context, in pay) error     { return g.ask(ctx, chaos.Hold, in) }
func (g gateway) Confirm(ctx context.Context, in pay) error { return g.ask(ctx, chaos.Capture, in) }
func (g gateway) Cancel(ctx context.Context, in pay) error  { return g.ask(ctx, chaos.Release, in) }

// client keeps no connections: on one that it had used before, it might send a
// request again by itself.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (g gateway) ask(ctx context.Context, operation chaos.Operation, in pay) error {
	query := url.Values{"key": {tcc.CallOf(ctx).Key().String()}, "cents": {strconv.FormatInt(in.Cents, 10)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/"+string(operation)+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return tcc.Reject(fmt.Errorf("the gateway: %s", text))
	default:
		return fmt.Errorf("the gateway: %s: %s", response.Status, text)
	}
}
