package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/tcc"
)

// The contenders with two-phase commit take a piece of an article in one database and write a
// message in another one.
const (
	writeMessage = "INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) VALUES (?, '02', 'published', 'orders.placed', '{}', ?, CURRENT_TIMESTAMP)"
)

// XAByHand is what somebody writes who coordinates two XA transactions by hand: prepare both,
// record the decision, commit both. Without the record, "unlogged", nobody can end what is left
// when the process dies.
type XAByHand struct {
	name   string
	a, b   *Database
	pools  [2]*sql.DB
	logged bool
}

func newXAByHand(ctx context.Context, name string, a *Database) (*XAByHand, error) {
	b, err := openDatabase(ctx, a.dialect)
	if err != nil {
		return nil, err
	}
	x := &XAByHand{name: name, a: a, b: b, logged: name != "xa by hand, unlogged"}
	for i, db := range []*Database{a, b} {
		if x.pools[i], err = db.DB.DB(); err != nil {
			return nil, err
		}
	}
	return x, a.Exec("CREATE TABLE decisions (id VARCHAR(64) PRIMARY KEY, decided_at DATETIME(6) NOT NULL)").Error
}

func (x *XAByHand) Name() string { return x.name }

func (x *XAByHand) Close() error {
	x.a.close()
	x.b.close()
	return nil
}

func (x *XAByHand) Place(ctx context.Context, o Order) error {
	type branch struct {
		conn *sql.Conn
		xid  string
	}
	var branches []branch
	defer func() {
		for _, b := range branches {
			b.conn.Close()
		}
	}()
	send := func(b branch, statements ...string) error {
		for _, s := range statements {
			if _, err := b.conn.ExecContext(ctx, s+" '"+b.xid+"'"); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	}
	for i, pool := range x.pools {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		b := branch{conn, fmt.Sprintf("hand-%d-%s-%d", os.Getpid(), o.ID, i)}
		branches = append(branches, b)
		if err := send(b, "XA START"); err != nil {
			return err
		}
		if i == 0 {
			_, err = conn.ExecContext(ctx, takeStock, o.SKU)
		} else {
			_, err = conn.ExecContext(ctx, writeMessage, o.ID, o.ID)
		}
		if err != nil {
			return err
		}
		if err := send(b, "XA END", "XA PREPARE"); err != nil {
			return err
		}
	}
	if x.logged {
		if _, err := x.pools[0].ExecContext(ctx, "INSERT INTO decisions VALUES (?, UTC_TIMESTAMP(6))", o.ID); err != nil {
			return err
		}
	}
	for _, b := range branches {
		if err := send(b, "XA COMMIT"); err != nil {
			return err
		}
	}
	return nil
}

// Sold and Written are the branches of package xa.
type (
	Sold    struct{ SKU string }
	Written struct{ ID string }
)

func (Sold) Branch() string    { return "bench.sold" }
func (Written) Branch() string { return "bench.written" }

// XA is the same with package xa.
type XA struct {
	a, b  *Database
	orch  *embedded.Engine
	ended chan error
	in    []*xa.Database
}

func newXA(ctx context.Context, a *Database) (*XA, error) {
	b, err := openDatabase(ctx, a.dialect)
	if err != nil {
		return nil, err
	}
	orch, err := embedded.Open(ctx, a.DB, embedded.Config{Logger: warnings})
	if err != nil {
		return nil, err
	}
	x := &XA{a: a, b: b, orch: orch, ended: make(chan error, 1)}
	for _, db := range []*Database{a, b} {
		opened, err := xa.Open(ctx, db.DB)
		if err != nil {
			return nil, err
		}
		x.in = append(x.in, opened)
	}
	err = errors.Join(
		xa.Register(orch, x.in[0], xa.Func[Sold](func(_ context.Context, tx *gorm.DB, in Sold) error { return one(tx.Exec(takeStock, in.SKU)) })),
		xa.Register(orch, x.in[1], xa.Func[Written](func(_ context.Context, tx *gorm.DB, in Written) error {
			return one(tx.Exec(writeMessage, in.ID, in.ID))
		})))
	go func() { x.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return x, err
}

func (x *XA) Name() string { return "xa" }

func (x *XA) Place(ctx context.Context, o Order) error {
	outcome, err := tcc.Execute(ctx, x.orch, o.ID, Sold{o.SKU}, Written{o.ID})
	if err == nil && outcome.State != saga.Confirmed {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}

func (x *XA) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(x.orch.Stop(ctx), <-x.ended)
	for _, db := range x.in {
		db.Close()
	}
	x.a.close()
	x.b.close()
	return err
}
