package sagatest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// recorder stands for the *testing.T of another test, and records what it is told.
type recorder struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return context.Background() }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, arguments ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, arguments...))
}

func (r *recorder) Fatal(arguments ...any) {
	r.failures = append(r.failures, fmt.Sprint(arguments...))
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, arguments ...any) {
	r.Fatal(fmt.Sprintf(format, arguments...))
}

// record runs a test with its cleanups, and returns its failures.
func record(test func(t testing.TB)) []string {
	r := &recorder{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for _, cleanup := range slices.Backward(r.cleanups) {
				cleanup()
			}
		}()
		test(r)
	}()
	<-ended
	return r.failures
}
