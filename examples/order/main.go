// Command order is a small order service on tccsaga. An order locks stock and publishes
// a message, or does neither, whatever fails in between.
//
//	go run ./examples/order
//
// It needs only Go: by default it uses a SQLite file and a NATS server in the same
// process, and keeps the data of both in a folder. With -db and -nats it uses servers.
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

func main() {
	var config Config
	flag.StringVar(&config.Addr, "addr", "127.0.0.1:8080", "`address` to serve HTTP on")
	flag.StringVar(&config.Data, "data", "order-data", "`folder` for the SQLite file and the embedded NATS server")
	flag.StringVar(&config.DB, "db", "", "database `URL` instead of SQLite: mysql://user:password@host:port/database or postgres://user:password@host:port/database")
	flag.StringVar(&config.NATS, "nats", "", "`URL` of a NATS server with JetStream instead of the embedded one: nats://host:port")
	flag.Var(&config.Public, "public", "`hosts` by which other machines call the service, with commas between them: needed if they reach -addr; leaves out the operator's pages")
	flag.StringVar(&config.Traces, "traces", "", "`file` that gets the spans of OpenTelemetry, one JSON object a line")
	flag.DurationVar(&config.Drain, "drain", 0, "`time` for which requests are still answered after SIGTERM or Ctrl-C, while /readyz says that the service stops: 5s behind a load balancer; a second signal ends it")
	flag.Parse()
	if config.Drain < 0 || config.Drain > maxDrain {
		fmt.Fprintf(os.Stderr, "order: -drain %s must be between 0s and %s\n", config.Drain, maxDrain)
		os.Exit(2)
	}
	if flag.NArg() > 0 {
		// The argument is not printed: it may be a URL with a password.
		fmt.Fprintln(os.Stderr, "order: there is an argument without a flag")
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

// Config is the flags.
type Config struct {
	Addr   string
	Public web.Hosts // by which other machines call the service; empty if only this machine does
	Data   string    // folder
	DB     string    // URL; empty is SQLite in the folder
	NATS   string    // URL; empty is a server in this process
	Traces string    // file of the spans; empty for none

	Drain time.Duration // between the signal and the end of the HTTP server
}

// run serves until ctx ends, and then shuts down.
func run(ctx context.Context, config Config) error {
	listener, err := web.Listen(config.Addr, config.Public)
	if err != nil {
		return err
	}
	defer listener.Close()
	service, err := Start(ctx, config)
	if err != nil {
		return err
	}
	server := web.NewServer(service.Handler())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Print(banner(service, listener.Addr().String()))

	select {
	case <-ctx.Done():
		fmt.Println("stopping: waiting for requests and calls under way")
		err = service.drain(config.Drain, served)
	case err = <-served:
	case <-service.ran:
		err = service.failed
	}
	return errors.Join(err, shutdown(server, service))
}
