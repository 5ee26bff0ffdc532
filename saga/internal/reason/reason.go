// Package reason makes the reason of a cancel from an error: a text for people and a code for
// programs. The text has no internal addresses, because callers pass it on.
package reason

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Reason is why a transaction is cancelled.
type Reason struct {
	Text     string // for people
	Code     string // for programs
	BranchID string // of the branch that failed; empty if none did
}

// Of returns the reason of a cancel that err caused.
func Of(err error) Reason {
	r := Reason{Text: Clip(public(err)), Code: CodeOf(err)}
	var failed *txn.BranchError
	if errors.As(err, &failed) {
		r.BranchID = failed.ID
	}
	return r
}

// public returns the text of an error without internal addresses.
func public(err error) string {
	var failed *txn.BranchError
	if errors.As(err, &failed) {
		return failed.Kind + ": " + public(failed.Err)
	}
	var rejection *saga.Rejection
	if errors.As(err, &rejection) {
		// The text is the branch's own, unless it only wraps an error of the network or a
		// database.
		if text := infrastructure(rejection.Unwrap()); text != "" {
			return text
		}
		return rejection.Error()
	}
	var known interface{ Public() string }
	if errors.As(err, &known) {
		return known.Public()
	}
	if text := infrastructure(err); text != "" {
		return text
	}
	return address.ReplaceAllString(err.Error(), "…")
}

// infrastructure returns a text for an error of a network, a certificate or a database. The
// error's own text may have addresses, names of hosts and users, or data. It is empty for
// other errors.
func infrastructure(err error) string {
	var (
		dns         *net.DNSError
		operation   *net.OpError
		request     *url.Error
		certificate *tls.CertificateVerificationError
		hostname    x509.HostnameError
		authority   x509.UnknownAuthorityError
		mysqlError  *mysql.MySQLError
		sqlState    interface{ SQLState() string }
	)
	switch {
	case errors.As(err, &mysqlError):
		return fmt.Sprintf("its database answered with error %d", mysqlError.Number)
	case errors.As(err, &sqlState):
		return "its database answered with SQLSTATE " + sqlState.SQLState()
	case errors.As(err, &certificate), errors.As(err, &hostname), errors.As(err, &authority):
		return "the certificate of the other side was not accepted"
	case errors.As(err, &dns), errors.As(err, &operation), errors.As(err, &request):
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			return "the other side did not answer in time"
		}
		return "the other side could not be reached, or the connection broke"
	default:
		return ""
	}
}

// address matches possible addresses in the text of an error of an unknown type: URLs; IP
// addresses, of version 6 with at least two colons; e-mail addresses and users at hosts;
// hosts with a port; host names with two dots, or with one dot in a domain for internal
// use; the host of "lookup"; and paths of sockets.
var address = regexp.MustCompile(strings.Join([]string{
	`(?i)\b[a-z][a-z0-9+.-]*://[^\s"']+`,
	`\[[0-9a-f:.%]+\](:\d+)?`,
	`\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b`,
	`\b[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}(%\w+)?`,
	`[^\s"'<>()]+['"]?@['"]?[^\s"'<>(),;]+`,
	`\b[a-z0-9_-]+(\.[a-z0-9_-]+)*:\d{2,5}\b`,
	`\b[a-z0-9_-]+(\.[a-z0-9_-]+){2,}\b`,
	`\b[a-z0-9_-]+\.(internal|local|localdomain|lan|svc|cluster|corp|intranet|private|test|example)\b`,
	`\blookup [^\s:]+`,
	`\b(host|user|database|dbname|hostaddr)=[^\s` + "`" + `]+`,
	`(/[\w.-]+)*/[\w.-]+\.sock\b`,
}, "|"))

// CodeOf returns the code of a cancel that err caused.
func CodeOf(err error) string {
	var rejection *saga.Rejection
	switch {
	case errors.As(err, &rejection) && rejection.Code != "":
		return rejection.Code
	case rejection != nil:
		return saga.CodeRejected
	case errors.Is(err, txn.ErrDeadline):
		return saga.CodeDeadline
	case errors.Is(err, barrier.ErrConflict):
		return saga.CodeConflict
	case errors.Is(err, local.ErrCommitRefused):
		return saga.CodeRefused
	case errors.Is(err, context.Canceled):
		return saga.CodeGone
	default:
		return saga.CodeFailed
	}
}

// FailedTry returns what the log keeps of a Try that failed in an instance.
func FailedTry(failed *txn.BranchError, instance string) txlog.Failure {
	return txlog.Failure{BranchID: failed.ID, Operation: string(barrier.Try), Attempt: 1, Error: ClipError(failed.Err.Error()),
		Code: CodeOf(failed.Err), Instance: instance, Next: -1}
}

// Limits of the texts in the log, in characters.
const (
	maxReason = 1000
	maxError  = 2000
)

// Clip shortens the text of a reason to the limit of the log.
func Clip(text string) string { return ClipTo(text, maxReason) }

// ClipError shortens the text of a failed attempt to the limit of the log.
func ClipError(text string) string { return ClipTo(text, maxError) }

// ClipTo shortens text to at most n characters. It replaces bytes that are not UTF-8,
// because databases refuse them.
func ClipTo(text string, n int) string {
	valid := make([]rune, 0, min(len(text), n))
	for _, r := range text {
		if len(valid) == n {
			valid[n-1] = '…'
			break
		}
		if r == 0 {
			r = utf8.RuneError
		}
		valid = append(valid, r)
	}
	return string(valid)
}
