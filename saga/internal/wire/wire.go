// Package wire holds what both ends of a branch call over HTTP agree on: DTM's
// HTTP convention.
//
//	POST url?gid=...&trans_type=tcc&branch_id=01&op=try
//
// The body is the payload, in JSON. The answer is 200 if the call is done, 409 if
// a Try is refused for good, and 425 if the call is not at its end; anything else
// leaves open what happened, and the call may be repeated. DTM also takes the
// words FAILURE and ONGOING, wherever they stand in the body of any answer, for
// the second and the third.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// The words that DTM looks for in an answer.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
	Ongoing = "ONGOING"
)

// TransType is what DTM calls the pattern.
const TransType = "tcc"

// HeaderError names, in an answer to one of ours, an error that the status alone
// does not tell.
const HeaderError = "Tccsaga-Error"

// Conflict is the HeaderError of a call that contradicts what the branch has
// done.
const Conflict = "conflict"

// Query is the query of a branch call.
func Query(call saga.Call) url.Values {
	return url.Values{"gid": {call.GID}, "trans_type": {TransType}, "branch_id": {call.BranchID}, "op": {string(call.Op)}}
}

// Reply is the body of an answer.
type Reply struct {
	Result  string `json:"dtm_result,omitempty"`
	Message string `json:"message,omitempty"`
}

// Write answers with a status and a message, which DTM's words are taken out of.
func Write(w http.ResponseWriter, status int, message string) {
	result := map[int]string{http.StatusOK: Success, http.StatusConflict: Failure, http.StatusTooEarly: Ongoing}[status]
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Reply{result, Clip(plain.Replace(message), maxMessage)})
}

// plain keeps a text from being misread as a result.
var plain = strings.NewReplacer(Failure, "failure", Ongoing, "ongoing")

// maxMessage keeps the whole answer within the 1,024 characters that a DTM server
// stores as the reason of a rollback.
const maxMessage = 500

// Clip shortens text to at most n bytes, at a character's boundary.
func Clip(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= n {
		return text
	}
	n -= len("…")
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// maxReply is how much of an answer is read.
const maxReply = 64 << 10

// Client returns a client like c that follows no redirects: a call goes where it
// was registered, or fails.
func Client(c *http.Client) *http.Client {
	strict := *c
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	strict.Jar = nil
	return &strict
}

// ErrUnanswered is wrapped by the error of a call that may or may not have been
// made: there was no answer, or one from something in between.
var ErrUnanswered = errors.New("no answer")

// Post makes a branch call at address, whose own query is kept, after prepare has
// seen the request.
func Post(ctx context.Context, client *http.Client, address *url.URL, call saga.Call, prepare func(r *http.Request, body []byte)) error {
	to := *address
	query := to.Query()
	for name, values := range Query(call) {
		query[name] = values
	}
	to.RawQuery = query.Encode()
	method := http.MethodPost
	if len(call.Payload) == 0 {
		method = http.MethodGet // as a DTM server does
	}
	r, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(call.Payload))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if prepare != nil {
		prepare(r, call.Payload)
	}
	reply, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%w: reading it: %w", ErrUnanswered, err)
	}
	return result(call.Op, reply, body)
}

// result is what an answer says.
func result(op barrier.Op, reply *http.Response, body []byte) error {
	said := Message(body)
	switch status := reply.StatusCode; {
	case status == http.StatusTooEarly || bytes.Contains(body, []byte(Ongoing)):
		return fmt.Errorf("%s answered %s: %w", reply.Request.URL.Host, said, saga.ErrOngoing)
	case status == http.StatusConflict || bytes.Contains(body, []byte(Failure)):
		if op == barrier.Try {
			return saga.Reject(errors.New(said))
		}
		return fmt.Errorf("%s refused a %s, which cannot be refused: %s", reply.Request.URL.Host, op, said)
	case status == http.StatusOK:
		return nil
	case reply.Header.Get(HeaderError) == Conflict:
		return fmt.Errorf("%s answered: %s: %w", reply.Request.URL.Host, said, barrier.ErrConflict)
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return fmt.Errorf("%w: %s answered %s: %s", ErrUnanswered, reply.Request.URL.Host, reply.Status, said)
	case status >= 300 && status < 400:
		return fmt.Errorf("%s answered with a redirect to %q, and calls are made only where they were registered", reply.Request.URL.Host, Clip(reply.Header.Get("Location"), 200))
	default:
		return fmt.Errorf("%s answered %s: %s", reply.Request.URL.Host, reply.Status, said)
	}
}

// Message is what an answer says in words.
func Message(body []byte) string {
	var reply struct{ Message, Error string }
	if json.Unmarshal(body, &reply) == nil && reply.Message+reply.Error != "" {
		return Clip(reply.Message+reply.Error, maxMessage)
	}
	return Clip(strings.TrimSpace(string(body)), maxMessage)
}
