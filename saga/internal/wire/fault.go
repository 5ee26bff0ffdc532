package wire

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// ErrUnanswered is wrapped by the error of a call that may or may not have been made:
// there was no answer, or the answer of a proxy.
var ErrUnanswered error = unanswered{}

type unanswered struct{}

func (unanswered) Error() string { return "no answer" }

// Unanswered distinguishes the error for package call.
func (unanswered) Unanswered() {}

// Fault is the error of a call that was not done and that the branch did not reject.
// Error returns the details, for operators. Public leaves them out.
type Fault struct {
	public string
	err    error
}

// NewFault returns the fault of a call. The outcome completes the public sentence "the
// service that has stock.lock ...".
func NewFault(kind, outcome string, err error) *Fault {
	return &Fault{"the service that has " + Clip(kind, 64) + " " + outcome, err}
}

// Unanswered returns the fault of a call that may or may not have been made.
func Unanswered(kind string, err error) *Fault {
	return NewFault(kind, "did not answer", fmt.Errorf("%w: %w", ErrUnanswered, err))
}

func (f *Fault) Error() string { return f.err.Error() }

// Unwrap returns the error with the details.
func (f *Fault) Unwrap() error { return f.err }

// Public returns a text without addresses and without texts of a service. Callers may
// see it.
func (f *Fault) Public() string { return f.public }

// validErrorID matches the id that a host gives to an error.
var validErrorID = regexp.MustCompile(`^[0-9a-f]{1,32}$`)

// Outcome returns the error of an answer; nil if the call is done. It does not look for
// DTM's words.
func Outcome(call saga.Call, status int, reply Reply, from string) error {
	if status == http.StatusOK {
		return nil
	}
	said := Clip(reply.Message, maxMessage)
	if reply.ErrorID != "" && !validErrorID.MatchString(reply.ErrorID) {
		reply.ErrorID = ""
	}
	answered := fmt.Sprintf("%s answered %d %s: %s", from, status, http.StatusText(status), said)
	switch {
	case reply.Conflict:
		return NewFault(call.Kind, "has done something else in this transaction before", fmt.Errorf("%s: %w", answered, barrier.ErrConflict))
	case status == http.StatusTooEarly:
		return NewFault(call.Kind, "has not ended the call yet", fmt.Errorf("%s: %w", answered, saga.ErrOngoing))
	case status == http.StatusConflict && call.Op == barrier.Try:
		if said == "" {
			said = "the branch said no"
		}
		return saga.RejectCode(reply.Code, errors.New(said))
	case status == http.StatusConflict && call.Op == barrier.Ask:
		return NewFault(call.Kind, "has not committed", fmt.Errorf("%s: %w", answered, saga.ErrNotCommitted))
	case status == http.StatusConflict:
		return NewFault(call.Kind, "refused a "+string(call.Op), fmt.Errorf("%s: it refused a %s, which cannot be refused", answered, call.Op))
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return Unanswered(call.Kind, errors.New(answered))
	case status >= 400 && status < 500:
		return NewFault(call.Kind, "refused the request", errors.New(answered))
	case reply.ErrorID != "":
		return NewFault(call.Kind, "failed, with the error id "+reply.ErrorID, errors.New(answered))
	default:
		return NewFault(call.Kind, "failed", errors.New(answered))
	}
}
