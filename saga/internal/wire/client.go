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

// MaxReply is the most bytes of an answer to a call that are read. It has room for a result.
const MaxReply = saga.MaxResult + 32<<10

// Client returns a copy of c that follows no redirects and keeps no cookies: a call goes
// to the registered address, or fails.
func Client(c *http.Client) *http.Client {
	strict := *c
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	strict.Jar = nil
	return &strict
}

// NewRequest returns the request of a branch call at address. The parameters in own
// replace those with the same names in the query of the address. The rest of that query
// stays as it is.
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
	if call.Trace != "" {
		r.Header.Set(Trace, call.Trace)
	}
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

// Response is an answer to a request.
type Response struct {
	From   string // host and port
	Status int
	Header http.Header
	Body   []byte // at most MaxReply bytes
	Cut    bool   // the body was longer
}

// Do sends the request of a call and reads the answer.
func Do(client *http.Client, r *http.Request, call saga.Call) (Response, error) {
	response, err := Send(client, r)
	if err != nil {
		return Response{}, Unanswered(call.Kind, err)
	}
	return response, nil
}

// Send sends a request and reads the answer.
func Send(client *http.Client, r *http.Request) (Response, error) {
	reply, err := client.Do(r)
	if err != nil {
		return Response{}, err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, MaxReply+1))
	if err != nil {
		return Response{}, fmt.Errorf("read the answer of %s: %w", r.URL.Host, err)
	}
	cut := len(body) > MaxReply
	return Response{From: r.URL.Host, Status: reply.StatusCode, Header: reply.Header, Body: body[:min(len(body), MaxReply)], Cut: cut}, nil
}

// Post calls a branch at address that follows DTM's convention. The call does not name the
// caller.
func Post(ctx context.Context, client *http.Client, address *url.URL, call saga.Call) error {
	r, err := NewRequest(ctx, address, call, Query(call))
	if err != nil {
		return err
	}
	return Exchange(client, r, call)
}

// Exchange sends the request of a call to a branch that follows DTM's convention. The branch
// need not be behind package remote.
func Exchange(client *http.Client, r *http.Request, call saga.Call) error {
	response, err := Do(client, r, call)
	if err != nil {
		return err
	}
	return Result(call, response)
}

// Result returns the error of an answer by DTM's convention; nil if the call is done. An
// answer of 200 counts if its body is empty, the word SUCCESS, null, or a JSON object
// with no other result and no error. The page of a proxy does not count.
func Result(call saga.Call, a Response) error {
	var reply Reply
	if json.Unmarshal(a.Body, &reply) != nil {
		reply = Reply{}
	}
	if reply.Message = Message(a.Body); strings.HasPrefix(reply.Message, "<") && a.Status == http.StatusConflict {
		reply.Message = "" // an HTML page is no reason
	}
	status := a.Status
	switch {
	case status == http.StatusTooEarly || bytes.Contains(a.Body, []byte(Ongoing)):
		status = http.StatusTooEarly
	case status == http.StatusConflict || bytes.Contains(a.Body, []byte(Failure)):
		status = http.StatusConflict
	case status == http.StatusOK:
		if err := checkDone(a); err != nil {
			return Unanswered(call.Kind, fmt.Errorf("%s answered 200, but not as a branch does: %w: %s", a.From, err, reply.Message))
		}
	case status >= 300 && status < 400:
		return NewFault(call.Kind, "did not answer", Redirected(a))
	}
	return Outcome(call, status, reply, a.From)
}

// Redirected returns the error of an answer with a redirect.
func Redirected(a Response) error {
	return fmt.Errorf("%s answered with a redirect to %q, which calls do not follow", a.From, Clip(a.Header.Get("Location"), 200))
}

// checkDone returns why an answer of 200 does not mean that a call is done.
func checkDone(a Response) error {
	text := bytes.TrimSpace(a.Body)
	switch {
	case len(text) == 0 || string(text) == Success:
		return nil
	case a.Cut:
		return fmt.Errorf("the body has more than %d bytes", MaxReply)
	}
	var reply *struct {
		Result string          `json:"dtm_result"`
		Error  json.RawMessage `json:"error"`
	}
	switch err := json.Unmarshal(text, &reply); {
	case err != nil:
		return errors.New("the body is not a JSON object")
	case reply == nil: // null
		return nil
	case reply.Result != "" && reply.Result != Success:
		return errors.New("the dtm_result is not " + Success)
	case len(reply.Error) > 0 && string(reply.Error) != "null" && string(reply.Error) != `""`:
		return errors.New("the body holds an error")
	}
	return nil
}
