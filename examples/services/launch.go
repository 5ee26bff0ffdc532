package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launch starts the three services as processes of their own, and starts one
// anew that dies, until ctx ends.
func launch(ctx context.Context, config Config) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// One that does not start ends them all.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	fmt.Print(banner(config))
	failed := make(chan error, 3)
	var services sync.WaitGroup
	for _, name := range []string{"stock", "notification", "order"} {
		services.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				err := runProcess(ctx, program, name)
				if ctx.Err() == nil && time.Since(began) < time.Second {
					failed <- fmt.Errorf("the %s service does not start: %w", name, err)
					stop()
				}
			}
		})
	}
	services.Wait()
	close(failed)
	return <-failed
}

func runProcess(ctx context.Context, program, name string) error {
	command := exec.CommandContext(ctx, program, append(os.Args[1:], "-service", name)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 20 * time.Second
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		fmt.Printf("%-12s  %s\n", name, lines.Text())
	}
	err = command.Wait()
	if ctx.Err() == nil {
		fmt.Printf("%-12s  process %d has ended: %v\n", name, command.Process.Pid, err)
	}
	return err
}

func banner(config Config) string {
	driver := "the orchestrator in the order service"
	if config.Engine == "dtm" {
		driver = "the DTM server at " + config.DTM
	}
	return strings.NewReplacer("ORDER", config.OrderURL, "STOCK", config.StockURL, "NOTIFICATION", config.NotificationURL, "DRIVER", driver).Replace(`
Three services, driven by DRIVER. Try, in another terminal:

  curl -X PUT  STOCK/stock/phone -d '{"available":10}'
  curl -X POST ORDER/orders      -d '{"order_id":"1001","sku":"phone","quantity":1,"email":"ann@example.com"}'
  curl         STOCK/stock/phone                 # 9 available, 0 locked, 1 sold
  curl         NOTIFICATION/notifications
  curl         ORDER/orders
  curl         ORDER/transactions/order-1001
  curl         STOCK/barrier/order-1001          # what the barrier of a service knows

Either is too much, and nothing is left of it anywhere:

  curl -X POST ORDER/orders -d '{"order_id":"1002","sku":"phone","quantity":99,"email":"ann@example.com"}'
  curl -X POST ORDER/orders -d '{"order_id":"1003","sku":"phone","quantity":1,"email":"none"}'

Kill a service with kill -9 while it works: it is started anew, and every order
is placed in all three databases or in none.

Stop with Ctrl-C; the data stays.

`)
}
