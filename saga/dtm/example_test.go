package dtm_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/tcc"
)

// The same program as with the embedded engine, but for the lines that open
// the engine.
func Example() {
	var db *gorm.DB // with the schema of package sql, for the barrier
	ctx := context.Background()
	host, err := remote.NewHost(ctx, db, remote.HostConfig{AllowUnsigned: true}) // a DTM server cannot sign
	if err != nil {
		log.Fatal(err)
	}
	engine, err := dtm.Open(ctx, "http://localhost:36789/api/dtmsvr", dtm.Config{Host: host, HostURL: "http://localhost:8080/branches"})
	if err != nil {
		log.Fatal(err)
	}
	if err := tcc.Register(engine, stock.New(db)); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/branches/", host)
	go http.ListenAndServe(":8080", mux)

	outcome, err := tcc.Execute(ctx, engine, "order-1001", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}})
	fmt.Println(outcome.State, err)
}
