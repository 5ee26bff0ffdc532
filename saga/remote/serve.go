package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// ServeHTTP makes one call of a branch, by DTM's HTTP convention; see the documentation
// of the package. It answers 200 if the call is done, or was done before. It answers 409
// to a Try that the branch rejects, or that arrives after its Cancel, and to an Ask if
// the Try was not committed. It answers 425 if the call is under way. After any other failure
// it answers 5xx, and the call may be repeated. A request that is not a valid call is answered
// 4xx. A batch of calls has an answer for each of them.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{host: h, w: w, r: r, read: r.ContentLength == 0}
	err := x.readHead()
	if err == nil {
		if err = h.enter(r.Context()); err == nil {
			defer h.leave()
			err = x.readBody()
		}
	}
	switch {
	case err == nil && x.batch:
		if calls, batchErr := wire.DecodeBatch(x.call.Payload); batchErr != nil {
			x.answer(refuse(http.StatusBadRequest, "%s", wire.Clip(batchErr.Error(), 400)))
		} else {
			x.serveBatch(calls)
		}
		return
	case err == nil:
		err = h.Call(r.Context(), x.call)
	}
	x.answer(err)
}

// exchange is one request and its answer.
type exchange struct {
	host *Host
	w    http.ResponseWriter
	r    *http.Request

	id     string     // of the request; empty without one, as from a DTM server
	signed *signature // nil until it is verified
	call   saga.Call
	batch  bool // the body has several calls
	read   bool // the whole body is read

	results string // the parameter of the query
	result  json.RawMessage
}

// refusal is the error of a request that is not a valid call.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status int, format string, arguments ...any) error {
	return &refusal{status, fmt.Sprintf(format, arguments...)}
}

// head is the part of a request before its body, with a verified signature.
type head struct {
	sent   *url.URL
	query  url.Values
	id     string     // of the request; empty without one, as from a DTM server
	signed *signature // nil if the receiver does not verify
}

// readHead reads the head of a request. With keys, it verifies the signature first.
func (v verifier) readHead(r *http.Request, now time.Time) (h head, err error) {
	if h.sent, err = sentURL(r); err != nil {
		return h, refuse(http.StatusBadRequest, "the address of the request cannot be read")
	}
	var badQuery error
	h.query, badQuery = url.ParseQuery(h.sent.RawQuery)
	ids := r.Header.Values(headerRequest)
	goodID := len(ids) == 1 && validRequestID.MatchString(ids[0])
	if len(v.keys) > 0 {
		s, unverified := v.verify(r, h.sent, h.query, now)
		switch {
		case unverified != nil:
			return h, unverified
		case badQuery != nil || !goodID:
			return h, fmt.Errorf("%w: the query or the header %s cannot be read", errSignature, headerRequest)
		}
		h.signed = &s
	}
	if goodID {
		h.id = ids[0]
	}
	switch {
	case badQuery != nil:
		return h, refuse(http.StatusBadRequest, "the query cannot be read: escape its semicolons and percent signs")
	case len(ids) > 0 && !goodID:
		return h, refuse(http.StatusBadRequest, "the header %s must be there once, with 32 hexadecimal digits", headerRequest)
	}
	return h, nil
}

// readHead reads and checks everything except the body, beginning with the signature.
func (x *exchange) readHead() error {
	h, err := x.host.verifier.readHead(x.r, x.host.now())
	x.id, x.signed = h.id, h.signed
	query := h.query
	x.call = saga.Call{GID: query.Get("gid"), BranchID: query.Get("branch_id"), Op: barrier.Op(query.Get("op")), Caller: query.Get(wire.Caller), Attempt: 1,
		Trace: x.r.Header.Get(wire.Trace)}
	switch {
	case err != nil:
		return err
	case x.r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, "a branch is called with POST")
	}
	if x.call.Kind, err = kindOf(h.sent); err != nil {
		return err
	}
	if x.batch = x.call.Kind == wire.Calls; !x.batch {
		err = x.checkQuery(query)
	} else if x.id == "" {
		err = refuse(http.StatusBadRequest, "a batch needs the header %s", headerRequest)
	}
	if err != nil {
		return err
	}
	if x.length() > x.maxBody() {
		return x.tooLarge()
	}
	return nil
}

// maxBody returns the most bytes of the body: the payload, and the results of earlier branches.
func (x *exchange) maxBody() int64 {
	switch {
	case x.batch:
		return max(x.host.config.MaxPayload, wire.MaxBatchBytes)
	case x.results == "":
		return x.host.config.MaxPayload
	}
	return x.host.config.MaxPayload + wire.MaxResults
}

// sentURL returns the URL as it was sent, also behind [http.StripPrefix].
func sentURL(r *http.Request) (*url.URL, error) {
	if r.RequestURI == "" { // not from a server
		return r.URL, nil
	}
	return url.ParseRequestURI(r.RequestURI)
}

func (x *exchange) checkQuery(query url.Values) error {
	for _, name := range []string{"gid", "trans_type", "branch_id", "op"} {
		if n := len(query[name]); n != 1 {
			return refuse(http.StatusBadRequest, "the query names %s %d times, it must be once", name, n)
		}
	}
	for _, name := range []string{wire.Caller, wire.Results} {
		if n := len(query[name]); n > 1 {
			return refuse(http.StatusBadRequest, "the query names %s %d times, it may be once", name, n)
		}
	}
	x.results = query.Get(wire.Results)
	if got := query.Get("trans_type"); got != wire.TransType {
		return refuse(http.StatusBadRequest, "the trans_type is %q, it is always %s", wire.Clip(got, 40), wire.TransType)
	}
	return x.checkCall()
}

// checkCall checks what names a call.
func (x *exchange) checkCall() error {
	switch x.call.Op {
	case barrier.Try, barrier.Confirm, barrier.Cancel, barrier.Apply, barrier.Ask:
	default:
		return refuse(http.StatusBadRequest, "the op is %q, it must be try, confirm, cancel, apply or ask", wire.Clip(string(x.call.Op), 40))
	}
	if err := errors.Join(x.call.Key().Validate(), wire.CheckCaller(x.call.Caller)); err != nil {
		return refuse(http.StatusBadRequest, "%s", wire.Clip(err.Error(), 400))
	}
	return nil
}

// checkPayload checks the payload of a call, after its body was read.
func (x *exchange) checkPayload() error {
	if int64(len(x.call.Payload)) > x.host.config.MaxPayload {
		return x.tooLarge()
	}
	if !json.Valid(x.call.Payload) {
		return refuse(http.StatusBadRequest, "the body is not JSON")
	}
	switch x.call.Op {
	case barrier.Try, barrier.Apply, barrier.Ask:
		x.call.Result = &x.result
	}
	return nil
}

// kindOf returns the kind of branch at the end of a path. It refuses a path that has two
// meanings.
func kindOf(sent *url.URL) (string, error) {
	parts := strings.Split(sent.EscapedPath(), "/")
	kind := parts[len(parts)-1]
	for i, part := range parts[:len(parts)-1] {
		if part == "." || part == ".." || part == "" && i > 0 {
			return "", refuse(http.StatusBadRequest, "the path has a part that is empty or has only dots")
		}
	}
	switch {
	case strings.Contains(kind, "%"):
		return "", refuse(http.StatusBadRequest, "the last part of the path, %q, has an escaped character: a kind of branch has letters, digits, dots, dashes and underscores", wire.Clip(kind, 80))
	case kind == "" || kind == "." || kind == "..":
		return "", refuse(http.StatusNotFound, "the path ends without a kind of branch")
	}
	return kind, nil
}

// length returns the number of bytes of the body by the signature or, without one, by
// its header; -1 if it is not known.
func (x *exchange) length() int64 {
	if x.signed != nil {
		return x.signed.length
	}
	return x.r.ContentLength
}

func (x *exchange) tooLarge() error {
	most := x.host.config.MaxPayload
	if x.batch {
		most = x.maxBody()
	}
	return refuse(http.StatusRequestEntityTooLarge, "the body has more than the %d bytes that are allowed", most)
}

// readBody reads the body, within limits of size and time, and compares it with the
// signature.
func (x *exchange) readBody() error {
	limit := x.maxBody()
	if x.signed != nil {
		limit = x.signed.length
	}
	// Without support for deadlines, the server's own limit holds. The deadline ends
	// with the body.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(x.readTimeout()))
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large) && x.signed != nil:
		return fmt.Errorf("%w: the body has more than the %d bytes that are signed", errSignature, limit)
	case errors.As(err, &large):
		return x.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "the body did not arrive within %s", x.readTimeout())
	case err != nil:
		return refuse(http.StatusBadRequest, "the body could not be read completely")
	}
	x.read = true
	if x.signed != nil {
		if digest := sha256.Sum256(body); hex.EncodeToString(digest[:]) != x.signed.digest {
			return fmt.Errorf("%w: the body differs from the one that is signed", errSignature)
		}
	}
	if x.batch {
		x.call.Payload = body
		return nil
	}
	if x.call.Payload, x.call.Results, err = wire.Split(body, x.results); err != nil {
		return refuse(http.StatusBadRequest, "%s", wire.Clip(err.Error(), 400))
	}
	return x.checkPayload()
}

// readTimeout returns the shorter timeout of the host and the server.
func (x *exchange) readTimeout() time.Duration {
	server, _ := x.r.Context().Value(http.ServerContextKey).(*http.Server)
	if server == nil || server.ReadTimeout <= 0 {
		return x.host.config.ReadTimeout
	}
	return min(server.ReadTimeout, x.host.config.ReadTimeout)
}
