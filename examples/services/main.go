// Command services is three services on tccsaga, each with its own database. The order
// service runs the transactions, the stock service locks the stock, and the notification
// service notifies the customer.
//
//	go run ./examples/services
//
// starts all three, on SQLite files. With -engine dtm, a DTM server drives the transactions
// instead of the engine embedded in the order service.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/examples/internal/web"
)

// Config is the flags.
type Config struct {
	Service string    // order, stock or notification; empty starts all three
	Data    string    // folder
	Public  web.Hosts // by which other machines call the services; empty if only this machine does

	// Launched is set if another process has started this service. That process stops it
	// by closing its standard input.
	Launched bool

	OrderAddr, StockAddr, NotificationAddr string
	OrderDB, StockDB, NotificationDB       string // URLs; empty is SQLite in the folder

	// AskAfter is how long a branch of the stock or the notification service is in doubt
	// before the service asks the order service for the outcome.
	AskAfter time.Duration

	Engine string // embedded or dtm
	DTM    string // URL of the DTM server

	// The URLs that the order service, and a DTM server, call; empty for the
	// addresses themselves.
	OrderURL, StockURL, NotificationURL string
}

func main() {
	config, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	gin.SetMode(gin.ReleaseMode)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if config.Launched {
		ctx, stop = launched()
		defer stop()
	}
	if err := run(ctx, config); err != nil && !(config.Launched && errors.Is(err, context.Canceled)) {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (config Config, err error) {
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.StringVar(&config.Service, "service", "", "only this `service`: order, stock or notification")
	flags.StringVar(&config.Data, "data", "services-data", "`folder` for the SQLite files and the key that signs the calls")
	flags.Var(&config.Public, "public", "`hosts` by which other machines call the services, with commas between them: needed if they reach the addresses; leaves out the operator's pages")
	flags.BoolVar(&config.Launched, "launched", false, "stop at the end of the standard input, and not at Ctrl-C; set for the services that this command starts")
	flags.StringVar(&config.OrderAddr, "order-addr", "127.0.0.1:8081", "`address` of the order service")
	flags.StringVar(&config.StockAddr, "stock-addr", "127.0.0.1:8082", "`address` of the stock service")
	flags.StringVar(&config.NotificationAddr, "notification-addr", "127.0.0.1:8083", "`address` of the notification service")
	flags.StringVar(&config.OrderURL, "order-url", "", "`URL` at which the services and a DTM server reach the order service, if not at its address")
	flags.StringVar(&config.StockURL, "stock-url", "", "`URL` of the stock service, in the same way")
	flags.StringVar(&config.NotificationURL, "notification-url", "", "`URL` of the notification service, in the same way")
	const instead = " service, a `URL` instead of SQLite: mysql://user:password@host:port/database or postgres://user:password@host:port/database"
	flags.StringVar(&config.OrderDB, "order-db", "", "database of the order"+instead)
	flags.StringVar(&config.StockDB, "stock-db", "", "database of the stock"+instead)
	flags.StringVar(&config.NotificationDB, "notification-db", "", "database of the notification"+instead)
	flags.DurationVar(&config.AskAfter, "ask-after", time.Minute, "`time` after which a service asks how an order was decided, if it was not told")
	flags.StringVar(&config.Engine, "engine", "embedded", "what drives the transactions: embedded or dtm")
	flags.StringVar(&config.DTM, "dtm", "http://localhost:36789/api/dtmsvr", "`URL` of the DTM server, for -engine dtm")
	if err := flags.Parse(arguments); err != nil {
		return config, err
	}
	misused := func(format string, values ...any) (Config, error) {
		err := fmt.Errorf(format, values...)
		fmt.Fprintln(os.Stderr, "services:", err)
		flags.Usage()
		return config, err
	}
	switch {
	case flags.NArg() > 0:
		// The argument is not printed: it may be a URL with a password.
		return misused("there is an argument without a flag")
	case config.Engine != "embedded" && config.Engine != "dtm":
		return misused("-engine is %q: use embedded or dtm", config.Engine)
	case config.AskAfter <= 0:
		return misused("-ask-after is %s, it must be positive", config.AskAfter)
	}
	for _, at := range []struct{ url, addr *string }{
		{&config.OrderURL, &config.OrderAddr}, {&config.StockURL, &config.StockAddr}, {&config.NotificationURL, &config.NotificationAddr},
	} {
		if *at.url == "" {
			*at.url = "http://" + *at.addr
		}
	}
	return config, nil
}

// hosts returns the hosts that requests may name, besides this machine.
func (c Config) hosts() web.Hosts {
	return c.Public.With(c.OrderURL).With(c.StockURL).With(c.NotificationURL)
}

func run(ctx context.Context, config Config) error {
	switch config.Service {
	case "":
		return launch(ctx, config)
	case "order":
		return runOrders(ctx, config)
	case "stock":
		return runStock(ctx, config)
	case "notification":
		return runNotifications(ctx, config)
	}
	return fmt.Errorf("there is no service %q: use order, stock or notification", config.Service)
}
