// Command worker is a program that uses the library. The chaos run starts several of
// them, and kills them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 2 {
		return errors.New("it is started by the chaos run: make chaos")
	}
	var setup chaos.Setup
	if err := json.Unmarshal([]byte(os.Args[1]), &setup); err != nil {
		return fmt.Errorf("its setup: %w", err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("worker", setup.Name, "pid", os.Getpid())
	if setup.HostListen != "" {
		handler, err := whenPossible(ctx, logger, func() (http.Handler, error) { return openHost(ctx, setup, logger) })
		if err != nil {
			return err
		}
		return serve(ctx, setup.HostListen, handler, "", func(context.Context) error { return nil })
	}
	s, err := whenPossible(ctx, logger, func() (*service, error) { return open(ctx, setup, logger) })
	if err != nil {
		return err
	}
	return serve(ctx, "127.0.0.1:0", s, s.orch.Instance(), s.stop)
}

// serve says that the process is ready, serves until ctx ends, and stops.
func serve(ctx context.Context, address string, handler http.Handler, instance string, stop func(context.Context) error) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	ready := chaos.Ready{Address: listener.Addr().String(), Instance: instance, Clock: time.Now()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(stopping), stop(stopping))
}

// whenPossible calls open again while a server is down.
func whenPossible[T any](ctx context.Context, logger *slog.Logger, open func() (T, error)) (T, error) {
	for {
		opened, err := open()
		if err == nil {
			return opened, nil
		}
		logger.Info("cannot start yet", "error", err)
		select {
		case <-ctx.Done():
			return opened, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
