package xa_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The example, on two servers of different kinds.
func TestBanks(t *testing.T) {
	t.Parallel()
	alpha, beta := sqltest.Open(t, "mysql"), sqltest.Open(t, "postgres")
	for _, db := range []*gorm.DB{alpha, beta} {
		sqltest.Exec(t, db, "CREATE TABLE accounts (id INT PRIMARY KEY, cents INT NOT NULL)")
		sqltest.Exec(t, db, "INSERT INTO accounts VALUES (1, 700), (2, 0)")
	}
	e := sagatest.Open(t, alpha, embedded.Config{})
	closeBoth, err := registerBanks(t.Context(), e, alpha, beta)
	sagatest.Must(t, err)
	t.Cleanup(closeBoth)
	sagatest.Run(t, e)
	ctx, gid := t.Context(), sagatest.GID()
	outcome, err := tcc.Execute(ctx, e, gid, Debit{1, 500}, Credit{2, 500})
	if err != nil || outcome.State != saga.Confirmed {
		t.Fatal(outcome, err)
	}
	gid = sagatest.GID()
	_, err = tcc.Execute(ctx, e, gid, Credit{2, 500}, Debit{1, 500})
	if !errors.Is(err, errShort) {
		t.Error(err)
	}
	sagatest.Reach(t, e, gid, saga.Cancelled)
	cents := func(db *gorm.DB, id int) (cents int) {
		sagatest.Must(t, db.Raw("SELECT cents FROM accounts WHERE id = ?", id).Scan(&cents).Error)
		return cents
	}
	if a, b := cents(alpha, 1), cents(beta, 2); a != 200 || b != 500 {
		t.Errorf("the accounts have %d and %d cents", a, b)
	}
}

// A plan of a branch of this package, one of package tcc, and a message.
func TestMixedPlan(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		log := sqltest.Open(t, "sqlite")
		ctx := t.Context()
		url := os.Getenv("TCCSAGA_TEST_NATS")
		if url == "" && os.Getenv("CI") == "" {
			t.Skip("TCCSAGA_TEST_NATS is not set: run the tests with make test, which starts the servers")
		}
		conn, err := nats.Connect(url)
		sagatest.Must(t, err)
		t.Cleanup(conn.Close)
		js, err := jetstream.New(conn)
		sagatest.Must(t, err)
		name := "xa_" + beginOf(t, db)
		stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
		sagatest.Must(t, err)
		t.Cleanup(func() { js.DeleteStream(context.WithoutCancel(ctx), name) })
		broker, err := natsjs.New(conn, natsjs.Config{})
		sagatest.Must(t, err)
		publisher, err := message.NewPublisher(ctx, log, broker, message.Config{Stream: name, Subjects: []string{name + ".>"}})
		sagatest.Must(t, err)
		t.Cleanup(func() { publisher.Stop(context.WithoutCancel(ctx)) })

		e := sagatest.Open(t, log, embedded.Config{})
		shelf := stock.New(log)
		sagatest.Must(t, shelf.Put(ctx, "phone", 1))
		sagatest.Must(t, errors.Join(tcc.Register(e, shelf), tcc.Register(e, publisher), xa.Register(e, open(t, db), adder{})))
		sagatest.Run(t, e)
		for i, want := range []saga.State{saga.Confirmed, saga.Cancelled} { // there is one phone
			gid := gidOf(t, db)
			_, err := tcc.Execute(ctx, e, gid, add{1, 5}, stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}},
				message.Publish{Subject: name + ".placed", Data: []byte("x")})
			if (err == nil) != (want == saga.Confirmed) {
				t.Errorf("%d: %v", i, err)
			}
			sagatest.Reach(t, e, gid, want)
			info, err := stream.Info(ctx)
			sagatest.Must(t, err)
			if number(t, db, 1) != 5 || info.State.Msgs != 1 || locked(db, 1) || len(prepared(t, db, gid)) > 0 {
				t.Errorf("%d: the number is %d, with %d messages", i, number(t, db, 1), info.State.Msgs)
			}
		}
	})
}
