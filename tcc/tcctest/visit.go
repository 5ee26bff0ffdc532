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

// errHangs is returned by a call that did not return.
var errHangs = errors.New("it did not return")

// grace is how long a call may go on after its context has ended, at most.
const grace = 5 * time.Second

// panicked is a call that panicked, or that ended its goroutine.
type panicked struct {
	value any
	where string
}

func (p *panicked) Error() string { return fmt.Sprintf("it panicked at %s: %v", p.where, p.value) }

// advice says what to do about it.
func (p *panicked) advice() string {
	if _, ok := p.value.(*runtime.TypeAssertionError); ok && strings.Contains(fmt.Sprint(p.value), "gorm.ConnPool") {
		return "take the *sql.Tx of a tx from tcc.SQLTx, for tx.Statement.ConnPool is of a type of the framework"
	}
	return "return an error instead"
}

// visit runs code of the branch, in a goroutine of its own, so that it can be
// given up when it does not return.
func (e *exerciser) visit(ctx context.Context, h *how, act func(context.Context) error) error {
	ctx, end := context.WithTimeout(ctx, e.limit)
	defer end()
	h.end = end
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		stop := h.look(ready)
		<-ready
		err := run(ctx, act)
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
	h.nilled = true
	return ctx.Err()
}

// wait waits for a result as long as ctx lasts, and a while longer.
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

// run turns a panic into an error.
func run(ctx context.Context, act func(context.Context) error) (err error) {
	err = &panicked{value: "runtime.Goexit, perhaps by FailNow of a test", where: unknown}
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, placeOf(callers())}
		}
	}()
	return act(ctx)
}

// visitInside runs code of the branch in the local transaction tx. What it does
// elsewhere meanwhile is noted.
func (e *exerciser) visitInside(ctx context.Context, h *how, op string, tx *gorm.DB, act func(context.Context, *gorm.DB) error) error {
	h.begin()
	h.see = func(s sight) { e.sights.add(op, s) }
	defer func() { h.see = nil }()
	return e.visit(ctx, h, func(ctx context.Context) error {
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

// callers is the stack of this goroutine, innermost first.
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

// others are the packages in which nobody looks for the fault of a branch.
var others = []string{"runtime.", "internal/", "net.", "net/", "crypto/", "context.", "syscall.", "time.", "log.", "log/", "os.", "sync.", "reflect.", "io.", "bufio.", "bytes.", "strings.",
	"strconv.", "slices.", "maps.", "sort.", "fmt.", "errors.", "encoding/", "regexp.", "database/sql", "gorm.io/", "github.com/jmoiron/sqlx", "github.com/go-sql-driver/", "github.com/jackc/", "google.golang.org/grpc", "github.com/nats-io/", "github.com/redis/", "panic", thisPackage}

const unknown = "an unknown place"

const thisPackage = "github.com/tccsaga/tccsaga/tcc/tcctest."

// placeOf is where in the branch the innermost code runs.
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
