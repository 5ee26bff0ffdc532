package tcc_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// sameReason checks what the caller, later callers, another instance, Lookup and List
// say of a cancelled transaction.
func (b *bench) sameReason(gid string, err error, code, branchID string, again func(saga.Engine) (saga.Outcome, error)) {
	b.t.Helper()
	check := func(who, gotCode, gotBranch, reason string) {
		b.t.Helper()
		if gotCode != code || gotBranch != branchID || reason == "" {
			b.t.Errorf("%s: code %q of branch %q, %q; want %q of %q", who, gotCode, gotBranch, reason, code, branchID)
		}
	}
	var cancelled *saga.CancelledError
	if errors.As(err, &cancelled) {
		check("the error", cancelled.Code, cancelled.BranchID, cancelled.Reason)
	} else if err != nil {
		b.t.Errorf("the error: %v", err)
	}
	restarted := b.open(quick)
	for name, engine := range map[string]*embedded.Engine{"here": b.orch, "after a restart": restarted} {
		outcome, err := again(engine)
		check("again, "+name, outcome.Code, outcome.BranchID, outcome.Reason)
		if !errors.As(err, &cancelled) {
			b.t.Errorf("again, %s: %v", name, err)
		} else {
			check("the error again, "+name, cancelled.Code, cancelled.BranchID, cancelled.Reason)
		}
		found, err := engine.Lookup(b.t.Context(), gid)
		sagatest.Must(b.t, err)
		check("Lookup", found.Code, found.BranchID, found.Reason)
		listed, err := engine.List(b.t.Context(), saga.Filter{Prefix: gid})
		sagatest.Must(b.t, err)
		check("List", listed[0].Code, listed[0].BranchID, listed[0].Reason)
	}
}

// Each way to be cancelled has a code, which is kept, with the branch that it is of.
func TestCodes(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()
		for name, c := range map[string]struct {
			code, branchID string
			run            func(gid string) error
			again          []tcc.Payload // nil for an open transaction
		}{
			"a branch, with a code": {"short.of.credit", "02", func(gid string) error {
				b.away.fail(barrier.Try, 1, tcc.RejectCode("short.of.credit", errShort))
				_, err := tcc.Execute(ctx, b.orch, gid, hold{1, 1}, holdAway{1, 5})
				return err
			}, []tcc.Payload{hold{1, 1}, holdAway{1, 5}}},
			"a branch, without": {saga.CodeRejected, "01", func(gid string) error {
				_, err := tcc.Execute(ctx, b.orch, gid, hold{1, 1000})
				return err
			}, []tcc.Payload{hold{1, 1000}}},
			"a failure": {saga.CodeFailed, "01", func(gid string) error {
				b.out.fail(barrier.Try, 1, errOnPurpose)
				_, err := tcc.Execute(ctx, b.orch, gid, holdOut{1, 1}, hold{1, 1})
				return err
			}, []tcc.Payload{holdOut{1, 1}, hold{1, 1}}},
			"the caller": {saga.CodeCancelled, "", func(gid string) error {
				_, err := b.begin(gid, saga.Options{}).Cancel(ctx, "never mind")
				return err
			}, nil},
			"an operator": {saga.CodeOperator, "", func(gid string) error {
				b.begin(gid, saga.Options{})
				_, err := b.orch.Decide(ctx, gid, saga.Cancelling, alice)
				return err
			}, nil},
			"the deadline": {saga.CodeDeadline, "", func(gid string) error {
				_, err := tcc.BeginWith(ctx, b.orch, gid, saga.Options{Timeout: time.Millisecond})
				sagatest.Must(t, err)
				b.reaches(gid, saga.Cancelled)
				return nil
			}, nil},
			"its process": {saga.CodeGone, "", func(gid string) error {
				gate := b.away.hold(barrier.Try)
				defer close(gate)
				dead := b.open(dying())
				go tcc.Execute(context.WithoutCancel(ctx), dead, gid, holdAway{2, 1}, holdAway{2, 2})
				b.reaches(gid, saga.Cancelled)
				return nil
			}, []tcc.Payload{holdAway{2, 1}, holdAway{2, 2}}},
			"a conflict": {saga.CodeConflict, "01", func(gid string) error {
				sqltest.Exec(t, b.other, "INSERT INTO saga_barrier (gid, branch_id, state, caller, kind) VALUES (?, '01', 'tried', 'another', 'credit.away')", gid)
				_, err := tcc.Execute(ctx, b.orch, gid, holdAway{1, 1})
				return err
			}, []tcc.Payload{holdAway{1, 1}}},
		} {
			gid := sagatest.GID()
			b.away.fail(barrier.Try, 0, nil)
			b.out.fail(barrier.Try, 0, nil)
			err := c.run(gid)
			b.reaches(gid, saga.Cancelled)
			t.Log(name)
			b.sameReason(gid, err, c.code, c.branchID, func(engine saga.Engine) (saga.Outcome, error) {
				if c.again != nil {
					return tcc.Execute(ctx, engine, gid, c.again...)
				}
				tx, err := tcc.Join(ctx, engine, gid)
				sagatest.Must(t, err)
				return tx.Confirm(ctx)
			})
			b.away.fail(barrier.Try, 0, nil)
			b.away.block = nil
		}
	})
}

// The reason of a cancel shows no address of what is inside; an operator finds the
// whole error in the attempts.
func TestReasonsHoldNoAddresses(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	dial := func(address string) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 3306}, Err: errors.New("connection refused")}
	}
	dns := &net.DNSError{Err: "no such host", Name: "stock-7", Server: "10.0.0.2:53", IsNotFound: true}
	for name, c := range map[string]struct {
		err    error
		secret []string
	}{
		"dial":          {dial("10.1.2.3"), []string{"10.1.2.3", "3306"}},
		"IPv6":          {dial("fd00::7"), []string{"fd00", "3306"}},
		"DNS":           {fmt.Errorf("paying: %w", dns), []string{"stock-7", "10.0.0.2"}},
		"a URL":         {&url.Error{Op: "Post", URL: "http://payments/v1?key=s3cret", Err: dns}, []string{"payments", "s3cret", "stock-7"}},
		"MySQL":         {&mysql.MySQLError{Number: 1045, Message: "Access denied for user 'shop'@'app-7' (using password: YES)"}, []string{"shop", "app-7"}},
		"PostgreSQL":    {&pgconn.PgError{Code: "28P01", Message: `password authentication failed for user "shop"`, Hint: "db-7"}, []string{"shop"}},
		"certificate":   {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"db-7"}}, Host: "stock-7"}, []string{"db-7", "stock-7"}},
		"text, host":    {errors.New("dial tcp 10.1.2.3:3306: connect: connection refused"), []string{"10.1.2.3", "3306"}},
		"text, DNS":     {errors.New("dial tcp: lookup stock-7 on 10.0.0.2:53: no such host"), []string{"stock-7", "10.0.0.2"}},
		"text, IPv6":    {errors.New("connect to [fd00::7]:5432, then fe80::1%eth0: refused"), []string{"fd00", "5432", "fe80", "eth0"}},
		"text, service": {errors.New("stock.shop.svc.cluster.local did not answer, nor db.internal"), []string{"stock", "db.internal"}},
		"text, pgx":     {errors.New("failed to connect to `user=shop database=stock`: hostname resolving error"), []string{"=shop", "=stock"}},
		"text, MySQL":   {errors.New("Error 1045: Access denied for user 'shop'@'app-7'"), []string{"app-7"}},
		"text, socket":  {errors.New("dial unix /var/run/mysqld/mysqld.sock: no such file"), []string{"mysqld.sock", "/var/run"}},
		"text, URL":     {errors.New(`Post "HTTPS://Payments.Internal:8443/v1": EOF`), []string{"Payments", "8443"}},
	} {
		b.out.fail(barrier.Try, 1, c.err)
		b.away.fail(barrier.Try, 1, c.err)
		b.here.fail(barrier.Try, 1, c.err)
		for _, payload := range []tcc.Payload{holdOut{1, 1}, holdAway{1, 1}, hold{1, 1}} {
			gid := sagatest.GID()
			outcome, err := tcc.Execute(t.Context(), b.orch, gid, payload)
			if err == nil {
				t.Fatalf("%s: %+v", name, outcome)
			}
			found, err := b.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			shown, err := json.Marshal([]any{outcome, found.Summary})
			sagatest.Must(t, err)
			for _, secret := range c.secret {
				if strings.Contains(string(shown), secret) {
					t.Errorf("%s, %s: %s shows %q", name, payload.Branch(), shown, secret)
				}
			}
			if found.Code != saga.CodeFailed || found.BranchID != "01" || !strings.HasPrefix(found.Reason, payload.Branch()+": ") {
				t.Errorf("%s: %+v", name, found.Summary)
			}
			if attempts := found.Branches[0].Attempts; len(attempts) == 0 || !strings.Contains(attempts[0].Error, c.err.Error()) {
				t.Errorf("%s, %s: an operator finds %+v", name, payload.Branch(), attempts)
			}
		}
	}
}
