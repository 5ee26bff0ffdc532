package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// shutdown ends the parts of the service in order: a part ends before the parts that it
// uses.
//
//  1. [Service.drain]: /readyz says that the service stops, so that an orchestrator sends
//     no more requests. The service still answers those that come.
//  2. The HTTP server refuses new requests and answers those under way: their handlers
//     use the engine.
//  3. The console ends its bulk actions, and the engine finishes the calls under way, and releases its lease, so that another
//     instance takes over at once. Its branches use the broker and the database.
//  4. The publisher and the consumer finish their messages.
//  5. The connections to the broker and to the database are closed.
//
// Each step has its own time limit. At the limit it is interrupted, which is as safe as
// a crash.
func shutdown(server *http.Server, service *Service) error {
	err := within(context.Background(), requestGrace, server.Shutdown)
	if err != nil {
		server.Close() // ends the contexts of the handlers
	}
	return errors.Join(err, service.Stop(context.Background()))
}

// The time limits. With a -drain of 5 seconds, the sum is 30 seconds, which Kubernetes allows
// by default.
const (
	requestGrace = 10 * time.Second
	workGrace    = 10 * time.Second
	messageGrace = 5 * time.Second
)

// maxDrain bounds -drain.
const maxDrain = time.Hour

// drain makes the service not ready, and waits for that time. It ends early at a second
// signal, or if the service fails.
func (s *Service) drain(wait time.Duration, served <-chan error) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	s.health.stopping.Store(true)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-again:
	case err := <-served:
		return err
	case <-s.ran:
		return s.failed
	}
	return nil
}

// Stop takes the steps after the HTTP server. It ends with ctx at the latest.
func (s *Service) Stop(ctx context.Context) error {
	var errs []error
	if s.console != nil {
		s.console.Close()
	}
	if s.engine != nil {
		errs = append(errs, within(ctx, workGrace, s.engine.Stop))
	}
	if s.publisher != nil {
		errs = append(errs, within(ctx, messageGrace, s.publisher.Stop))
	}
	if s.consumer != nil {
		errs = append(errs, within(ctx, messageGrace, s.consumer.Stop))
	}
	if s.telemetry != nil {
		errs = append(errs, within(ctx, messageGrace, s.telemetry.close))
	}
	s.backend.close()
	return errors.Join(errs...)
}

func within(ctx context.Context, limit time.Duration, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return step(ctx)
}
