package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// settings are the options of a transaction for the calls of its branches. They are stored
// with each branch.
type settings struct {
	Headers map[string]string `json:"headers,omitempty"`
	Timeout int64             `json:"request_timeout,omitempty"` // seconds
	Pause   int64             `json:"retry_interval,omitempty"`  // seconds
}

func (s settings) empty() bool { return len(s.Headers) == 0 && s.Timeout == 0 && s.Pause == 0 }

func (s settings) size() (n int) {
	for name, value := range s.Headers {
		n += len(name) + len(value)
	}
	return n
}

const (
	maxHeaders     = 32
	maxHeaderBytes = 4 << 10 // of the names and values of all headers
	maxSeconds     = 24 * 60 * 60
)

func parseSettings(sent sentFields) (s settings, err error) {
	for _, f := range []field{{"branch_headers", &s.Headers}, {"request_timeout", &s.Timeout}, {"retry_interval", &s.Pause}} {
		if err := sent.read(f.name, f.to); err != nil {
			return s, err
		}
	}
	for name, seconds := range map[string]int64{"request_timeout": s.Timeout, "retry_interval": s.Pause} {
		if seconds < 0 || seconds > maxSeconds {
			return s, invalid("%s is %d seconds, it must be between 0 and %d", name, seconds, maxSeconds)
		}
	}
	if n := len(s.Headers); n > maxHeaders || s.size() > maxHeaderBytes {
		return s, invalid("branch_headers has %d headers with %d bytes, %d headers with %d bytes are allowed", n, s.size(), maxHeaders, maxHeaderBytes)
	}
	for name, value := range s.Headers {
		if err := checkHeader(name, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// ofConnection are the headers that belong to the connection or the message of a call.
var ofConnection = map[string]bool{
	"Connection": true, "Content-Encoding": true, "Content-Length": true, "Expect": true, "Host": true, "Keep-Alive": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

func checkHeader(name, value string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !headerName.MatchString(name):
		return invalid("branch_headers has %q, which is not the name of a header", wire.Clip(name, 40))
	case ofConnection[canonical] || strings.HasPrefix(canonical, "Proxy-"):
		return invalid("branch_headers has %s, which only the call may set", canonical)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
		return invalid("branch_headers has a value of %s that is not printable ASCII", canonical)
	}
	return nil
}

// header returns the headers of a call.
func (s settings) header() http.Header {
	header := make(http.Header, len(s.Headers))
	for name, value := range s.Headers {
		header.Set(name, value)
	}
	return header
}

// timeout returns the limit of a call; zero if there is none.
func (s settings) timeout() time.Duration { return time.Duration(s.Timeout) * time.Second }

// longestPause is the longest pause that grows from a retry_interval.
const longestPause = time.Hour

// retryLater sets the pause after a failed call, as on a DTM server: twice the retry_interval
// at first, and then twice as long each time. After an answer that the call has not ended, it
// is the retry_interval.
func (s settings) retryLater(call saga.Call, err error) error {
	var rejection *saga.Rejection
	if err == nil || s.Pause == 0 || errors.As(err, &rejection) {
		return err
	}
	first := time.Duration(s.Pause) * time.Second
	pause, longest := first, max(first, longestPause)
	for range call.Attempt {
		if pause = min(2*pause, longest); pause == longest {
			break
		}
	}
	if errors.Is(err, saga.ErrOngoing) {
		pause = first
	}
	return &saga.RetryError{After: pause, Err: err}
}

// settingsID is the id of a branch that does nothing: its input keeps the settings of an
// open transaction. Only a transaction with settings has it.
const settingsID = "settings"

// settingsKind is its kind.
const settingsKind = "dtm-settings"

// keeper is the branch: the log keeps its input, and it has nothing to do.
type keeper struct{}

// Call does nothing.
func (keeper) Call(context.Context, saga.Call) error { return nil }

func settingsStep(s settings) saga.Step { return saga.Step{Kind: settingsKind, Input: s} }

// settingsOf returns the settings that were given when a transaction was prepared.
func settingsOf(t *saga.Transaction) (s settings, err error) {
	for _, b := range t.Branches {
		if b.Kind == settingsKind {
			err = json.Unmarshal(b.Payload, &s)
		}
	}
	return s, err
}
