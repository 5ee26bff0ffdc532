package xa_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/tcc"
)

// Debit takes money from an account of the bank Alpha, and Credit gives it to one of Beta. The
// two banks have databases of their own.
type (
	Debit  struct{ Account, Cents int }
	Credit struct{ Account, Cents int }
)

func (Debit) Branch() string  { return "alpha.debit" }
func (Credit) Branch() string { return "beta.credit" }

var errShort = errors.New("the account has not enough money")

func debit(_ context.Context, tx *gorm.DB, in Debit) error {
	result := tx.Exec("UPDATE accounts SET cents = cents - ? WHERE id = ? AND cents >= ?", in.Cents, in.Account, in.Cents)
	if result.Error == nil && result.RowsAffected == 0 {
		return tcc.RejectCode("account.short", errShort)
	}
	return result.Error
}

func credit(_ context.Context, tx *gorm.DB, in Credit) error {
	return tx.Exec("UPDATE accounts SET cents = cents + ? WHERE id = ?", in.Cents, in.Account).Error
}

// registerBanks registers the two branches. The engine may have its log in a third database.
func registerBanks(ctx context.Context, engine *embedded.Engine, alpha, beta *gorm.DB) (closeBoth func(), err error) {
	a, err := xa.Open(ctx, alpha)
	if err != nil {
		return nil, err
	}
	b, err := xa.Open(ctx, beta)
	if err != nil {
		return nil, err
	}
	return func() { a.Close(); b.Close() }, errors.Join(
		xa.Register(engine, a, xa.Func[Debit](debit)),
		xa.Register(engine, b, xa.Func[Credit](credit)))
}

// Money goes from one bank to another. Until both branches are prepared and the transaction is
// decided, nobody sees either of the two changes.
func Example() {
	ctx := context.Background()
	alpha, err := gorm.Open(mysql.Open(os.Getenv("ALPHA")))
	if err != nil {
		panic(err)
	}
	beta, err := gorm.Open(mysql.Open(os.Getenv("BETA")))
	if err != nil {
		panic(err)
	}
	engine, err := embedded.Open(ctx, alpha, embedded.Config{})
	if err != nil {
		panic(err)
	}
	closeBoth, err := registerBanks(ctx, engine, alpha, beta)
	if err != nil {
		panic(err)
	}
	defer closeBoth()
	go engine.Run(ctx)

	outcome, err := tcc.Execute(ctx, engine, "transfer-1001", Debit{1, 500}, Credit{2, 500})
	fmt.Println(outcome.State, err)
}
