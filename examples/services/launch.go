package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launch runs each service as a process until ctx ends, and starts a process that dies
// again. Then it stops the order service before the two services that it calls.
func launch(ctx context.Context, config Config) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := banner(config)
	if err != nil {
		return err
	}
	fmt.Print(text)
	// If one service does not start, all end.
	ordering, stop := context.WithCancel(ctx)
	defer stop()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	failed := make(chan error, 3)
	keep := func(ctx context.Context, name string) {
		for ctx.Err() == nil {
			served, err := runProcess(ctx, program, name)
			if !served && ctx.Err() == nil {
				failed <- fmt.Errorf("the %s service does not start: %w", name, err)
				stop()
				return
			}
		}
	}
	var services sync.WaitGroup
	services.Go(func() { keep(serving, "stock") })
	services.Go(func() { keep(serving, "notification") })
	services.Go(func() { keep(ordering, "order"); stopServing() })
	services.Wait()
	close(failed)
	return <-failed
}

// runProcess runs a service until the process or ctx ends, and reports whether it has
// served.
func runProcess(ctx context.Context, program, name string) (served bool, err error) {
	command := exec.CommandContext(ctx, program, slices.Concat(os.Args[1:], []string{"-service", name, "-launched"})...)
	input, err := command.StdinPipe()
	if err != nil {
		return false, err
	}
	command.Cancel = input.Close // see launched
	command.WaitDelay = 25 * time.Second
	output, err := command.StdoutPipe()
	if err != nil {
		return false, err
	}
	command.Stderr = command.Stdout
	if err = command.Start(); err != nil {
		return false, err
	}
	// A Scanner would end at a line that is too long for it.
	for lines := bufio.NewReader(output); ; {
		line, ended := lines.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			served = served || strings.Contains(line, servesAt)
			fmt.Printf("%-12s  %s\n", name, line)
		}
		if ended != nil {
			break
		}
	}
	err = command.Wait()
	if ctx.Err() == nil {
		fmt.Printf("%-12s  process %d has ended: %v\n", name, command.Process.Pid, err)
	}
	return served, err
}

// servesAt is part of the line that a service prints when it serves.
const servesAt = " is at http://"

// launched returns a context that ends with the standard input. The launching process holds
// it open, so the context also ends if that process is killed. A terminal sends Ctrl-C to
// all processes at once: it is ignored, and the launching process stops the services in
// order.
func launched() (context.Context, context.CancelFunc) {
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx, stop
}
