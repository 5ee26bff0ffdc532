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
	s, err := openWhenPossible(ctx, setup, logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s}
	go server.Serve(listener)
	ready := chaos.Ready{Address: listener.Addr().String(), Instance: s.orch.Instance(), Clock: time.Now()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(stopping), s.stop(stopping))
}

// openWhenPossible tries again while a server is down.
func openWhenPossible(ctx context.Context, setup chaos.Setup, logger *slog.Logger) (*service, error) {
	for {
		s, err := open(ctx, setup, logger)
		if err == nil {
			return s, nil
		}
		logger.Info("cannot start yet", "error", err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
