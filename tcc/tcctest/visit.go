package tcctest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gorm.io/gorm"
)

// errHangs is the error of a call that did not return.
var errHangs = errors.New("it did not return")

// grace is the longest time that a call may go on after its context has ended.
const grace = 5 * time.Second

// panicked is the error of a call that panicked, or that ended its goroutine.
type panicked struct {
	value any
	where string
}

func (p *panicked) Error() string { return fmt.Sprintf("it panicked at %s: %v", p.where, p.value) }

// advice says what to do about it.
func (p *panicked) advice() string {
	if _, ok := p.value.(*runtime.TypeAssertionError); ok && strings.Contains(fmt.Sprint(p.value), "gorm.ConnPool") {
		return "get the *sql.Tx with tcc.SQLTx, because tx.Statement.ConnPool has a type of the framework"
	}
	return "return an error instead"
}

// run runs code of the branch in another goroutine, so that a call that does not return can
// be given up.
func (e *engine) run(ctx context.Context, h *how, act func(context.Context) error) error {
	ctx, end := context.WithTimeout(ctx, e.limit)
	defer end()
	h.end = end
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		stop := h.look(ready)
		<-ready
		err := protected(ctx, act)
		stop()
		done <- err
	}()
	err, returned := wait(ctx, done, min(e.limit, grace))
	switch {
	case !returned:
		e.hung.Store(true)
		h.over.Store(true)
		return errHangs
	case err != nil:
		return err
	}
	h.returnedNil = true
	return ctx.Err()
}

// wait waits for a result until ctx ends, and a while longer.
func wait(ctx context.Context, done <-chan error, longer time.Duration) (err error, returned bool) {
	select {
	case err = <-done:
		return err, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(longer)
	defer timer.Stop()
	select {
	case err = <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// protected turns a panic into an error.
func protected(ctx context.Context, act func(context.Context) error) (err error) {
	err = &panicked{value: "runtime.Goexit, perhaps by FailNow of a test", where: unknown}
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, placeOf(callers())}
		}
	}()
	return act(ctx)
}

// runInTx runs code of the branch in the local transaction tx. It notes what the code does
// without tx.
func (e *engine) runInTx(ctx context.Context, h *how, op string, tx *gorm.DB, act func(context.Context, *gorm.DB) error) error {
	h.begin()
	h.see = func(s sight) { e.sights.add(op, s) }
	defer func() { h.see = nil }()
	return e.run(ctx, h, func(ctx context.Context) error {
		ctx = watchful{ctx, func(s sight) { e.sights.add(op, s) }}
		err := act(ctx, h.watch(ctx, tx))
		if h.ended {
			return errOwnEnd
		}
		return err
	})
}

// frame is one function of a stack.
type frame struct{ name, place string }

// callers returns the stack of this goroutine, innermost function first.
func callers() (stack []frame) {
	pcs := make([]uintptr, 100)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if f.Function != "" {
			stack = append(stack, frame{f.Function, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)})
		}
		if !more {
			return stack
		}
	}
}

// others are the prefixes of packages that do not belong to a branch.
var others = []string{"runtime.", "internal/", "net.", "net/", "crypto/", "context.", "syscall.", "time.", "log.", "log/", "os.", "sync.", "reflect.", "io.", "bufio.", "bytes.", "strings.",
	"strconv.", "slices.", "maps.", "sort.", "fmt.", "errors.", "encoding/", "regexp.", "database/sql", "gorm.io/", "github.com/jmoiron/sqlx", "github.com/go-sql-driver/", "github.com/jackc/", "google.golang.org/grpc", "github.com/nats-io/", "github.com/redis/", "panic", thisPackage}

const unknown = "an unknown place"

const thisPackage = "github.com/tccsaga/tccsaga/tcc/tcctest."

// placeOf returns the innermost place in a stack that belongs to the branch.
func placeOf(stack []frame) string {
	for _, f := range stack {
		if !hasPrefix(f.name, others) {
			return f.place
		}
	}
	return unknown
}

func hasPrefix(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
