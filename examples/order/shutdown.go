package main

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// shutdown ends the service in the order in which its parts need each other: what
// is used ends after what uses it.
//
//  1. No new requests are taken, and those under way are answered: their handlers
//     need the orchestrator.
//  2. The orchestrator finishes what is under way, and gives its lease back so that
//     another instance resumes at once what is left: its branches need the broker
//     and the database.
//  3. The consumer finishes its message.
//  4. The connections to the broker and to the database are closed.
//
// Each step has a time of its own, so that a slow one takes none of the next. A step
// that runs out of it is interrupted, which is as safe as a crash.
func shutdown(server *http.Server, service *Service) error {
	err := within(context.Background(), requestGrace, server.Shutdown)
	if err != nil {
		server.Close() // ends the contexts of the handlers
	}
	return errors.Join(err, service.Stop(context.Background()))
}

// The times of the steps; together they stay below the 30 seconds that Kubernetes
// gives a process by default.
const (
	requestGrace = 10 * time.Second
	workGrace    = 10 * time.Second
	messageGrace = 5 * time.Second
)

// Stop takes the steps that come after the requests. It ends with ctx at the latest.
func (s *Service) Stop(ctx context.Context) error {
	var errs []error
	if s.orch != nil {
		errs = append(errs, within(ctx, workGrace, s.orch.Stop))
	}
	if s.publisher != nil {
		errs = append(errs, within(ctx, messageGrace, s.publisher.Stop))
	}
	if s.consumer != nil {
		errs = append(errs, within(ctx, messageGrace, s.consumer.Stop))
	}
	s.backend.close()
	return errors.Join(errs...)
}

func within(ctx context.Context, limit time.Duration, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return step(ctx)
}
