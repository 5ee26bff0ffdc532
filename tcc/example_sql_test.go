package tcc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

var errNoCoupon = errors.New("no such coupon, or it is used up")

// one is an error unless a statement has changed one row.
func one(changed int64, err error) error {
	if err == nil && changed != 1 {
		return fmt.Errorf("%d coupons were changed instead of one", changed)
	}
	return err
}

// UseCoupon is the payload of three branches that do the same: one with plain SQL,
// one with sqlx, one with the code that sqlc generates.
type (
	UseCoupon     struct{ Code string }
	UseCouponSqlx struct{ Code string }
	UseCouponSqlc struct{ Code string }
)

func (UseCoupon) Branch() string     { return "coupon.sql" }
func (UseCouponSqlx) Branch() string { return "coupon.sqlx" }
func (UseCouponSqlc) Branch() string { return "coupon.sqlc" }

// Coupons works with plain SQL.
type Coupons struct{}

func (Coupons) Try(ctx context.Context, tx *gorm.DB, in UseCoupon) error {
	n, err := change(ctx, tx, "UPDATE coupons SET free = free - 1, held = held + 1 WHERE code = ? AND free > 0", in.Code)
	if err == nil && n == 0 {
		return tcc.RejectCode("coupon.none", errNoCoupon)
	}
	return err
}

func (Coupons) Confirm(ctx context.Context, tx *gorm.DB, in UseCoupon) error {
	return one(change(ctx, tx, "UPDATE coupons SET held = held - 1, used = used + 1 WHERE code = ?", in.Code))
}

func (Coupons) Cancel(ctx context.Context, tx *gorm.DB, in UseCoupon) error {
	return one(change(ctx, tx, "UPDATE coupons SET held = held - 1, free = free + 1 WHERE code = ?", in.Code))
}

// change executes a statement and returns how many rows it has changed.
func change(ctx context.Context, tx *gorm.DB, statement string, arguments ...any) (int64, error) {
	plain, err := tcc.SQLTx(tx)
	if err != nil {
		return 0, err
	}
	result, err := plain.ExecContext(ctx, statement, arguments...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// names finds the fields of a struct for the columns of a row, as sqlx does.
var names = reflectx.NewMapperFunc("db", strings.ToLower)

// sqlxTx returns the local transaction for sqlx. Such a Tx does not know how its
// database writes placeholders: for named arguments use sqlx.Named, and then
// sqlx.Rebind with sqlx.DOLLAR on PostgreSQL.
func sqlxTx(tx *gorm.DB) (*sqlx.Tx, error) {
	plain, err := tcc.SQLTx(tx)
	return &sqlx.Tx{Tx: plain, Mapper: names}, err
}

// CouponsSqlx works with sqlx.
type CouponsSqlx struct{}

func (CouponsSqlx) Try(ctx context.Context, tx *gorm.DB, in UseCouponSqlx) error {
	n, err := named(ctx, tx, "UPDATE coupons SET free = free - 1, held = held + 1 WHERE code = :code AND free > 0", in)
	if err != nil || n == 1 {
		return err
	}
	x, err := sqlxTx(tx)
	if err != nil {
		return err
	}
	var row struct{ Held, Used int }
	switch err := x.GetContext(ctx, &row, "SELECT held, used FROM coupons WHERE code = ?", in.Code); {
	case errors.Is(err, sql.ErrNoRows):
		return tcc.RejectCode("coupon.unknown", errNoCoupon)
	case err != nil:
		return err
	}
	return tcc.RejectCode("coupon.none", fmt.Errorf("%w: %d are held and %d used", errNoCoupon, row.Held, row.Used))
}

func (CouponsSqlx) Confirm(ctx context.Context, tx *gorm.DB, in UseCouponSqlx) error {
	return one(named(ctx, tx, "UPDATE coupons SET held = held - 1, used = used + 1 WHERE code = :code", in))
}

func (CouponsSqlx) Cancel(ctx context.Context, tx *gorm.DB, in UseCouponSqlx) error {
	return one(named(ctx, tx, "UPDATE coupons SET held = held - 1, free = free + 1 WHERE code = :code", in))
}

// named executes a statement with named arguments.
func named(ctx context.Context, tx *gorm.DB, statement string, arguments any) (int64, error) {
	query, values, err := sqlx.Named(statement, arguments)
	if err != nil {
		return 0, err
	}
	return change(ctx, tx, query, values...)
}

// DBTX and Queries are what sqlc generates.
type DBTX interface {
	ExecContext(context.Context, string, ...interface{}) (sql.Result, error)
	PrepareContext(context.Context, string) (*sql.Stmt, error)
	QueryContext(context.Context, string, ...interface{}) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...interface{}) *sql.Row
}

func New(db DBTX) *Queries { return &Queries{db: db} }

type Queries struct{ db DBTX }

const holdCoupon = `-- name: HoldCoupon :execrows
UPDATE coupons SET free = free - 1, held = held + 1 WHERE code = ? AND free > 0
`

func (q *Queries) HoldCoupon(ctx context.Context, code string) (int64, error) {
	result, err := q.db.ExecContext(ctx, holdCoupon, code)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

const spendCoupon = `-- name: SpendCoupon :execrows
UPDATE coupons SET held = held - 1, used = used + 1 WHERE code = ?
`

func (q *Queries) SpendCoupon(ctx context.Context, code string) (int64, error) {
	result, err := q.db.ExecContext(ctx, spendCoupon, code)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

const freeCoupon = `-- name: FreeCoupon :execrows
UPDATE coupons SET held = held - 1, free = free + 1 WHERE code = ?
`

func (q *Queries) FreeCoupon(ctx context.Context, code string) (int64, error) {
	result, err := q.db.ExecContext(ctx, freeCoupon, code)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// CouponsSqlc works with the code that sqlc generates.
type CouponsSqlc struct{}

// queries returns the generated queries in the local transaction.
func queries(tx *gorm.DB) (*Queries, error) {
	plain, err := tcc.SQLTx(tx)
	return New(plain), err
}

func (CouponsSqlc) Try(ctx context.Context, tx *gorm.DB, in UseCouponSqlc) error {
	q, err := queries(tx)
	if err != nil {
		return err
	}
	if n, err := q.HoldCoupon(ctx, in.Code); err != nil || n == 1 {
		return err
	}
	return tcc.RejectCode("coupon.none", errNoCoupon)
}

func (CouponsSqlc) Confirm(ctx context.Context, tx *gorm.DB, in UseCouponSqlc) error {
	q, err := queries(tx)
	if err != nil {
		return err
	}
	return one(q.SpendCoupon(ctx, in.Code))
}

func (CouponsSqlc) Cancel(ctx context.Context, tx *gorm.DB, in UseCouponSqlc) error {
	q, err := queries(tx)
	if err != nil {
		return err
	}
	return one(q.FreeCoupon(ctx, in.Code))
}

func ExampleSQLTx() {
	orch, db, closeShop := shop()
	defer closeShop()
	ok(db.Exec("CREATE TABLE coupons (code VARCHAR(20) PRIMARY KEY, free INT NOT NULL, held INT NOT NULL, used INT NOT NULL)").Error)
	ok(db.Exec("INSERT INTO coupons VALUES ('AUTUMN', 3, 0, 0)").Error)
	ok(tcc.Register(orch, Coupons{}))
	ok(tcc.Register(orch, CouponsSqlx{}))
	ok(tcc.Register(orch, CouponsSqlc{}))

	ctx := context.Background()
	outcome, err := tcc.Execute(ctx, orch, "order-1", UseCoupon{"AUTUMN"}, UseCouponSqlx{"AUTUMN"}, UseCouponSqlc{"AUTUMN"})
	fmt.Println(outcome.State, err)
	_, err = tcc.Execute(ctx, orch, "order-2", UseCouponSqlx{"AUTUMN"})
	fmt.Println(errors.Is(err, saga.ErrCancelled), err)
	// Output:
	// confirmed <nil>
	// true saga: order-2 is cancelled: coupon.sqlx: no such coupon, or it is used up: 0 are held and 3 used
}
