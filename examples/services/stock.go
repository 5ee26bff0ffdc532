package main

import (
	"context"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/tcc"
)

// runStock runs the stock service: the ready-made branch, in a host.
func runStock(ctx context.Context, config Config) error {
	s, err := newService(ctx, config, "stock", config.StockAddr, config.StockDB)
	if err != nil {
		return err
	}
	defer s.close()
	shelf := stock.New(s.db)
	if err := tcc.Register(s.host, shelf); err != nil {
		return err
	}
	web.Stock(s.routes, shelf)
	return s.serve(ctx, nil)
}
