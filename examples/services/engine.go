package main

import (
	"context"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
)

// openEngine opens what drives the transactions: all that differs between the
// embedded orchestrator and a DTM server. Run it once all branches are registered.
func openEngine(ctx context.Context, config Config, s *service) (engine saga.Engine, run func(context.Context) error, err error) {
	if config.Engine == "dtm" {
		// The server calls the branches of this process as it calls the others.
		engine, err := dtm.Open(ctx, config.DTM, dtm.Config{Host: s.host, HostURL: config.OrderURL + "/branches", RetryInterval: time.Second})
		return engine, func(context.Context) error { return nil }, err
	}
	orch, err := saga.Open(ctx, s.db, saga.Config{MaxRetry: 5 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	return orch, orch.Run, nil
}
