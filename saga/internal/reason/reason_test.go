package reason_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// sqlState is an error as the drivers of PostgreSQL have it.
type sqlState string

func (e sqlState) Error() string    { return "at db.prod.internal: " + string(e) }
func (e sqlState) SQLState() string { return string(e) }

// public is an error that has a text for everybody.
type public struct{}

func (public) Error() string  { return "at db.prod.internal" }
func (public) Public() string { return "the service is busy" }

func of(branch string, err error) error {
	return &txn.BranchError{ID: branch, Kind: "stock.lock", Err: err}
}

func TestOf(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: 10.0.0.1:3306 refused")}
	const unreachable = "the other side could not be reached, or the connection broke"
	for _, c := range []struct {
		err  error
		want reason.Reason
	}{
		{errors.New("on purpose"), reason.Reason{Text: "on purpose", Code: saga.CodeFailed}},
		{of("01", errors.New("on purpose")), reason.Reason{Text: "stock.lock: on purpose", Code: saga.CodeFailed, BranchID: "01"}},
		{fmt.Errorf("outer: %w", of("02", errors.New("on purpose"))), reason.Reason{Text: "stock.lock: on purpose", Code: saga.CodeFailed, BranchID: "02"}},
		{of("01", saga.Reject(errors.New("2 of 3 at shelf a.b.c"))), reason.Reason{Text: "stock.lock: 2 of 3 at shelf a.b.c", Code: saga.CodeRejected, BranchID: "01"}},
		{of("01", saga.RejectCode("short", errors.New("none left"))), reason.Reason{Text: "stock.lock: none left", Code: "short", BranchID: "01"}},
		{of("01", saga.RejectCode("short", dial)), reason.Reason{Text: "stock.lock: " + unreachable, Code: "short", BranchID: "01"}},
		{of("01", public{}), reason.Reason{Text: "stock.lock: the service is busy", Code: saga.CodeFailed, BranchID: "01"}},
		{dial, reason.Reason{Text: unreachable, Code: saga.CodeFailed}},
		{&net.DNSError{Name: "db.prod.internal"}, reason.Reason{Text: unreachable, Code: saga.CodeFailed}},
		{&url.Error{Op: "Post", URL: "http://db.prod.internal", Err: context.DeadlineExceeded}, reason.Reason{Text: "the other side did not answer in time", Code: saga.CodeFailed}},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, reason.Reason{Text: "the other side did not answer in time", Code: saga.CodeFailed}},
		{&mysql.MySQLError{Number: 1045, Message: "access denied for user 'tcc'@'10.0.0.1'"}, reason.Reason{Text: "its database answered with error 1045", Code: saga.CodeFailed}},
		{fmt.Errorf("query: %w", sqlState("23505")), reason.Reason{Text: "its database answered with SQLSTATE 23505", Code: saga.CodeFailed}},
		{x509.UnknownAuthorityError{}, reason.Reason{Text: "the certificate of the other side was not accepted", Code: saga.CodeFailed}},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "db.prod.internal"}, reason.Reason{Text: "the certificate of the other side was not accepted", Code: saga.CodeFailed}},
		{&tls.CertificateVerificationError{Err: errors.New("expired")}, reason.Reason{Text: "the certificate of the other side was not accepted", Code: saga.CodeFailed}},
	} {
		if got := reason.Of(c.err); got != c.want {
			t.Errorf("%v:\n got %+v\nwant %+v", c.err, got, c.want)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{saga.RejectCode("short", context.Canceled), "short"},
		{saga.RejectCode("no code: a space", errors.New("x")), saga.CodeRejected},
		{fmt.Errorf("%w: %w", txn.ErrDeadline, context.Canceled), saga.CodeDeadline},
		{of("01", fmt.Errorf("barrier: %w", barrier.ErrConflict)), saga.CodeConflict},
		{fmt.Errorf("commit: %w", local.ErrCommitRefused), saga.CodeRefused},
		{of("01", context.Canceled), saga.CodeGone},
		{context.DeadlineExceeded, saga.CodeFailed}, // of the call, and not of the transaction
		{barrier.ErrSuspended, saga.CodeFailed},
	} {
		if got := reason.CodeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// The text of an error of no known type loses what may be an address, and keeps the rest.
func TestAddressesAreLeftOut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"calling http://10.0.0.1:8080/pay?key=1 failed":               "calling … failed",
		`Post "amqps://user:pass@broker/queue": refused`:              `Post "…": refused`,
		"dial tcp 10.0.0.1:3306: refused":                             "dial tcp …: refused",
		"dial tcp [fd00::1]:5432: refused":                            "dial tcp …: refused",
		"no route to fd00::1":                                         "no route to …",
		"no route to fe80::1%eth0 now":                                "no route to … now",
		"access denied for user 'tcc'@'10.0.0.1' now":                 "access denied for user '…' now",
		"mail to alice@example.com bounced":                           "mail to … bounced",
		"connecting to db:3306 failed":                                "connecting to … failed",
		"connecting to db-1.prod.example.com failed":                  "connecting to … failed",
		"connecting to db.internal failed":                            "connecting to … failed",
		"lookup db on the resolver: no such host":                     "… on the resolver: no such host",
		"failed to connect to `host=db user=tcc database=shop`: busy": "failed to connect to `… … …`: busy",
		"dial unix /var/run/mysqld/mysqld.sock: no such file":         "dial unix …: no such file",
		"2 of 3 pieces, version 1.2 of order-1/01: it's 3:4":          "2 of 3 pieces, version 1.2 of order-1/01: it's 3:4",
	} {
		if got := reason.Of(errors.New(text)).Text; got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestClipTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"日本語です", 2, "日…"},
		{"a\x00b", 3, "a\uFFFDb"}, {"a\xffb", 3, "a\uFFFDb"}, {"\xff\xff\xff\xff", 3, "\uFFFD\uFFFD…"}, {"😀😀", 1, "…"},
	} {
		got := reason.ClipTo(c.text, c.n)
		if got != c.want || !utf8.ValidString(got) || utf8.RuneCountInString(got) > c.n {
			t.Errorf("ClipTo(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
	long := strings.Repeat("ü", 5000)
	if n := utf8.RuneCountInString(reason.Of(errors.New(long)).Text); n != 1000 {
		t.Errorf("a reason has %d characters", n)
	}
	failed := reason.FailedTry(&txn.BranchError{ID: "01", Kind: "k", Err: saga.RejectCode("short", errors.New(long))}, "me")
	if n := utf8.RuneCountInString(failed.Error); n != 2000 || failed.BranchID != "01" || failed.Operation != "try" || failed.Attempt != 1 ||
		failed.Code != "short" || failed.Instance != "me" || failed.Next >= 0 {
		t.Errorf("a failed Try has %d characters: %+v", n, failed)
	}
}
