// Command order is a small order service on tccsaga: an order locks stock and
// sends a message, both or neither, whatever fails in between.
//
//	go run ./examples/order
//
// It needs nothing but Go: by default it keeps its data in a SQLite file and in
// a NATS server in the same process, in a folder that survives a restart. With
// -db and -nats it runs on real servers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
)

func main() {
	var config Config
	flag.StringVar(&config.Addr, "addr", "127.0.0.1:8080", "`address` to serve HTTP on")
	flag.StringVar(&config.Data, "data", "order-data", "`folder` for the SQLite file and the embedded NATS server")
	flag.StringVar(&config.DB, "db", "", "database `URL` instead of SQLite: mysql://user:password@host:port/database or postgres://user:password@host:port/database")
	flag.StringVar(&config.NATS, "nats", "", "`URL` of a NATS server with JetStream instead of the embedded one: nats://host:port")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "order: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	gin.SetMode(gin.ReleaseMode)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, config); err != nil {
		fmt.Fprintln(os.Stderr, "order:", err)
		os.Exit(1)
	}
}

// Config says what the service runs on.
type Config struct {
	Addr string
	Data string // folder
	DB   string // URL; empty is SQLite in the folder
	NATS string // URL; empty is a server in this process
}

// run serves until ctx ends, and then drains.
func run(ctx context.Context, config Config) error {
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return fmt.Errorf("listening on %s: is it in use? choose another with -addr: %w", config.Addr, err)
	}
	defer listener.Close()
	service, err := Start(ctx, config)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: service.Routes(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Print(banner(service, listener.Addr().String()))

	select {
	case <-ctx.Done():
		fmt.Println("stopping: waiting for what is under way")
	case err = <-served:
	}
	// Not ctx: it has ended, and what is under way gets its time.
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(draining), service.Stop(draining))
}

// banner says what the service runs on and what to try next.
func banner(s *Service, addr string) string {
	return strings.NewReplacer("ADDR", addr, "DB", s.backend.dbName, "NATS", s.backend.natsName).Replace(`
Orders on tccsaga, at http://ADDR
  database  DB
  broker    NATS

Try, in another terminal:

  curl -X PUT  ADDR/stock/phone  -d '{"available":10}'
  curl -X POST ADDR/orders       -d '{"order_id":"1001","sku":"phone","quantity":1}'
  curl         ADDR/stock/phone                   # 9 available, 0 locked, 1 sold
  curl         ADDR/notifications                 # what a consumer of the message has seen
  curl         ADDR/transactions/order-1001       # the transaction and its barrier rows
  curl -X POST ADDR/orders       -d '{"order_id":"1002","sku":"phone","quantity":99}'   # 409: short

Reserve now and pay later; unpaid, the stock comes back by itself:

  curl -X POST ADDR/reservations -d '{"order_id":"2001","sku":"phone","quantity":2,"pay_within":"15m"}'
  curl -X POST ADDR/reservations/2001/pay
  curl -X POST ADDR/reservations -d '{"order_id":"2002","sku":"phone","quantity":2,"pay_within":"5s"}'

Break it and watch it recover:

  curl -X POST ADDR/faults -d '{"broker_unreachable":true}'    # then order; then set it to false
  curl -X POST ADDR/faults -d '{"fail_confirms":3}'            # then order
  curl -X POST ADDR/transactions/order-ID/retry -d '{"who":"me","why":"it works again"}'   # not only at its next attempt
  curl -X POST ADDR/faults -d '{"die_after_decision":true}'    # then order; then start the service again

Stop with Ctrl-C; the data stays.

`)
}
