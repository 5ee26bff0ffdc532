package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// branch is what a client tells of a branch: where its Confirm and Cancel are,
// and their body.
type branch struct {
	Confirm string `json:"confirm"`
	Cancel  string `json:"cancel"`
	Data    string `json:"data"`
}

func encode(input any) ([]byte, error) { return json.Marshal(input) }

func decode(payload []byte) (b branch, err error) {
	err = json.Unmarshal(payload, &b)
	return b, err
}

func (b branch) size() int { return len(b.Confirm) + len(b.Cancel) + len(b.Data) }

// caller calls the branches of a target.
type caller struct {
	client *http.Client
	target target
}

// Call makes a Confirm or Cancel. The Try is the client's own; it tells of the
// branch before.
func (c *caller) Call(ctx context.Context, call saga.Call) error {
	if call.Op == barrier.Try {
		return nil
	}
	b, err := decode(call.Payload)
	if err != nil {
		return fmt.Errorf("the stored branch: %w", err)
	}
	address := b.Confirm
	if call.Op == barrier.Cancel {
		address = b.Cancel
	}
	if address == "" {
		return nil
	}
	at, err := parse(address)
	if err != nil {
		return err
	}
	if !c.target.has(at) {
		return fmt.Errorf("%s is not below %s%s", at.Redacted(), c.target.host, c.target.prefix)
	}
	return c.post(ctx, at, call, []byte(b.Data))
}

// maxReply is how much of an answer is read.
const maxReply = 1 << 20

// post calls at, with its own query as it was sent, and reads the answer as a DTM
// server does.
func (c *caller) post(ctx context.Context, at *url.URL, call saga.Call, data []byte) error {
	query := url.Values{"gid": {call.GID}, "trans_type": {transType}, "branch_id": {call.BranchID}, "op": {string(call.Op)}}.Encode()
	if at.RawQuery != "" {
		query = at.RawQuery + "&" + query
	}
	at.RawQuery = query
	method := http.MethodPost
	if len(data) == 0 {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	reply, err := c.client.Do(r)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	switch {
	case err != nil:
		return fmt.Errorf("no answer: reading it: %w", err)
	case len(body) > maxReply:
		return fmt.Errorf("%s answered %s with more than %d bytes", at.Host, reply.Status, maxReply)
	}
	return result(call.Op, at.Host, reply, body)
}

// result is what an answer says. Something in between, such as a proxy, also
// answers 200 now and then; so the body has to be one that a branch of DTM has.
func result(op barrier.Op, host string, reply *http.Response, body []byte) error {
	said := wire.Message(body)
	switch status := reply.StatusCode; {
	case status == http.StatusTooEarly || bytes.Contains(body, []byte(wire.Ongoing)):
		return fmt.Errorf("%s answered %s: %w", host, said, saga.ErrOngoing)
	case status == http.StatusConflict || bytes.Contains(body, []byte(wire.Failure)):
		return fmt.Errorf("%s refused a %s, which cannot be refused: %s", host, op, said)
	case status == http.StatusOK && isSuccess(body):
		return nil
	case status == http.StatusOK:
		return fmt.Errorf("%s answered %s, but not as a branch does, with an empty body, JSON, or a text with %s: %s", host, reply.Status, wire.Success, said)
	case isConflict(body):
		return fmt.Errorf("%s answered: %s: %w", host, said, barrier.ErrConflict)
	case status >= 300 && status < 400:
		return fmt.Errorf("%s answered with a redirect to %q, and calls are made only where they were registered", host, wire.Clip(reply.Header.Get("Location"), 200))
	default:
		return errors.New(host + " answered " + reply.Status + ": " + said)
	}
}

// isConflict recognises the answer of a host of package remote to a call that
// contradicts what the branch has done.
func isConflict(body []byte) bool {
	var reply struct {
		Conflict bool `json:"conflict"`
	}
	return json.Unmarshal(body, &reply) == nil && reply.Conflict
}

// strict returns a client like c that follows no redirects and keeps no cookies:
// a call goes where it was registered, or fails.
func strict(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	return &own
}

// isSuccess recognises the body of a 200 that a branch has sent.
func isSuccess(body []byte) bool {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return true
	case body[0] == '<': // HTML or XML
		return false
	default:
		return json.Valid(body) || bytes.Contains(body, []byte(wire.Success)) && !bytes.Contains(bytes.ToLower(body), []byte("<html"))
	}
}
