package saga

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

	"github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// reason is why a transaction is cancelled.
type reason struct {
	text     string // for people
	code     string // for programs
	branchID string // whose Try it was; empty if it was none
}

// reasonOf says why err cancels a transaction. Its text keeps internal addresses
// out: callers pass it on.
func reasonOf(err error) reason {
	r := reason{text: clip(public(err), maxReason), code: codeOf(err)}
	var failed *branchError
	if errors.As(err, &failed) {
		r.branchID = failed.id
	}
	return r
}

// public is the text of an error without internal addresses.
func public(err error) string {
	var failed *branchError
	if errors.As(err, &failed) {
		return failed.kind + ": " + public(failed.err)
	}
	var rejection *Rejection
	if errors.As(err, &rejection) {
		// Its text is the branch's own, unless it only passes on another error.
		if text := infrastructure(rejection.err); text != "" {
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

// infrastructure is a text for errors of networks, certificates and databases, whose
// own texts hold addresses, names of hosts and users, or data; empty for others.
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

// address matches what may be an address in the text of an error that is of no known
// type: URLs; IP addresses, of version 6 with at least two colons; e-mail addresses
// and users at hosts; hosts with a port; names of hosts with two dots, or one in a
// domain for internal use; the host of "lookup"; and paths of sockets.
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

func codeOf(err error) string {
	var rejection *Rejection
	switch {
	case errors.As(err, &rejection) && rejection.Code != "":
		return rejection.Code
	case rejection != nil:
		return CodeRejected
	case errors.Is(err, errDeadline):
		return CodeDeadline
	case errors.Is(err, barrier.ErrConflict):
		return CodeConflict
	case errors.Is(err, local.ErrCommitRefused):
		return CodeRefused
	case errors.Is(err, context.Canceled):
		return CodeGone
	default:
		return CodeFailed
	}
}

// outcomeOf is what a row of the log says.
func outcomeOf(r txlog.Record) Outcome {
	return Outcome{GID: r.GID, State: State(r.State), Reason: r.Reason, Code: r.Code, BranchID: r.BranchID}
}
