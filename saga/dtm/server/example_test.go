package server_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

// A program written for DTM, and an embedded engine in the place of the
// server.
func Example() {
	var db *gorm.DB // with the schema of package sql
	ctx := context.Background()
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	if err != nil {
		log.Fatal(err)
	}
	api, err := server.New(orch, server.Config{Hosts: []string{"bank:8080/accounts"}})
	if err != nil {
		log.Fatal(err)
	}
	go orch.Run(ctx)
	go (&http.Server{Addr: ":36789", Handler: api, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}).ListenAndServe()

	// This may be any other program.
	err = dtmcli.TccGlobalTransaction("http://localhost:36789/api/dtmsvr", "transfer-1", func(t *dtmcli.Tcc) (*resty.Response, error) {
		return t.CallBranch(map[string]int{"amount": 30}, "http://bank:8080/accounts/try", "http://bank:8080/accounts/confirm", "http://bank:8080/accounts/cancel")
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Clients need a password, and each has gids of its own. A saga moves money from one account
// to another one.
func Example_saga() {
	var engine *embedded.Engine // see Example
	api, err := server.New(engine, server.Config{Hosts: []string{"bank:8080/accounts"}, Credentials: []server.Credential{
		{User: "shop", Password: os.Getenv("SHOP_PASSWORD"), GIDPrefix: "shop-"},
		{Token: os.Getenv("MONITOR_TOKEN"), ReadOnly: true},
	}})
	if err != nil {
		log.Fatal(err)
	}
	go (&http.Server{Addr: ":36789", Handler: api, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}).ListenAndServe()

	// This may be any other program. The client sends the user and the password of the URL.
	const bank = "http://bank:8080/accounts/"
	saga := dtmcli.NewSaga("http://shop:"+os.Getenv("SHOP_PASSWORD")+"@localhost:36789/api/dtmsvr", "shop-order-1").
		Add(bank+"withdraw", bank+"deposit", map[string]any{"account": "a", "amount": 30}).
		Add(bank+"deposit", bank+"withdraw", map[string]any{"account": "b", "amount": 30})
	saga.WaitResult = true
	if err := saga.Submit(); err != nil {
		log.Fatal(err)
	}
}
