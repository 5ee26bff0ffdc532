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

	"github.com/tccsaga/tccsaga/saga"
)

// maxReply is how many bytes of an answer are read.
const maxReply = 64 << 10

// Client returns a client like c that follows no redirects: a call goes where it
// was registered, or fails.
func Client(c *http.Client) *http.Client {
	strict := *c
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	strict.Jar = nil
	return &strict
}

// NewRequest returns the request of a branch call at address with the query own,
// which replaces parameters of the same names in the address. The rest of the
// query of the address is sent as it is.
func NewRequest(ctx context.Context, address *url.URL, call saga.Call, own url.Values) (*http.Request, error) {
	to := *address
	to.RawQuery = joinQuery(address.RawQuery, own)
	method := http.MethodPost
	if len(call.Payload) == 0 {
		method = http.MethodGet // as a DTM server does
	}
	r, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(call.Payload))
	if err != nil {
		return nil, NewFault(call.Kind, "cannot be called", err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

func joinQuery(raw string, own url.Values) string {
	var parts []string
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if part != "" && !own.Has(name) {
			parts = append(parts, part)
		}
	}
	return strings.Join(append(parts, own.Encode()), "&")
}

// Response is an answer that was read.
type Response struct {
	From   string // host and port
	Status int
	Header http.Header
	Body   []byte // at most 64 KiB
	Cut    bool   // the body is longer
}

// Do sends the request of a call and reads the answer.
func Do(client *http.Client, r *http.Request, call saga.Call) (Response, error) {
	reply, err := client.Do(r)
	if err != nil {
		return Response{}, Unanswered(call.Kind, err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	if err != nil {
		return Response{}, Unanswered(call.Kind, fmt.Errorf("reading the answer of %s: %w", r.URL.Host, err))
	}
	cut := len(body) > maxReply
	return Response{From: r.URL.Host, Status: reply.StatusCode, Header: reply.Header, Body: body[:min(len(body), maxReply)], Cut: cut}, nil
}

// Post makes a call of a branch at address that follows DTM's convention; it need
// not be one of package remote. It does not name the caller.
func Post(ctx context.Context, client *http.Client, address *url.URL, call saga.Call) error {
	r, err := NewRequest(ctx, address, call, Query(call))
	if err != nil {
		return err
	}
	response, err := Do(client, r, call)
	if err != nil {
		return err
	}
	return Result(call, response)
}

// Result is the error that an answer stands for by DTM's convention. An answer
// of 200 counts if its body is empty, or the word SUCCESS, or null, or a JSON
// object that does not say something else. A page of something in between does
// not count.
func Result(call saga.Call, a Response) error {
	var reply Reply
	if json.Unmarshal(a.Body, &reply) != nil {
		reply = Reply{}
	}
	if reply.Message = Message(a.Body); strings.HasPrefix(reply.Message, "<") && a.Status == http.StatusConflict {
		reply.Message = "" // a page, which is no reason
	}
	status := a.Status
	switch {
	case status == http.StatusTooEarly || bytes.Contains(a.Body, []byte(Ongoing)):
		status = http.StatusTooEarly
	case status == http.StatusConflict || bytes.Contains(a.Body, []byte(Failure)):
		status = http.StatusConflict
	case status == http.StatusOK:
		if err := done(a); err != nil {
			return Unanswered(call.Kind, fmt.Errorf("%s answered 200, but not as a branch does, %w: %s", a.From, err, reply.Message))
		}
	case status >= 300 && status < 400:
		return NewFault(call.Kind, "did not answer", Redirected(a))
	}
	return Outcome(call, status, reply, a.From)
}

// Redirected is the error of an answer that names another address.
func Redirected(a Response) error {
	return fmt.Errorf("%s answered with a redirect to %q, and calls are made only where they were registered", a.From, Clip(a.Header.Get("Location"), 200))
}

// done says why an answer of 200 does not mean that a call is done.
func done(a Response) error {
	text := bytes.TrimSpace(a.Body)
	switch {
	case len(text) == 0 || string(text) == Success:
		return nil
	case a.Cut:
		return fmt.Errorf("with a body of more than %d bytes", maxReply)
	}
	var reply *struct {
		Result string          `json:"dtm_result"`
		Error  json.RawMessage `json:"error"`
	}
	switch err := json.Unmarshal(text, &reply); {
	case err != nil:
		return errors.New("with a body that is no JSON object")
	case reply == nil: // null
		return nil
	case reply.Result != "" && reply.Result != Success:
		return errors.New("with another dtm_result")
	case len(reply.Error) > 0 && string(reply.Error) != "null" && string(reply.Error) != `""`:
		return errors.New("with an error")
	}
	return nil
}
