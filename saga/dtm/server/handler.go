package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// refusal is an error with the status that answers it.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// maxHandling limits the time to handle a request, without the wait for a result.
const maxHandling = 30 * time.Second

// ServeHTTP serves one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// The deadline ends with the body. It also limits the time in which the server
		// discards a body that nobody reads.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.config.BodyTimeout))
	}
	from, err := a.clients.find(r, a.config.GIDPrefix)
	if err != nil {
		w.Header()["Www-Authenticate"] = []string{`Bearer realm="dtmsvr"`, `Basic realm="dtmsvr"`}
		a.fail(w, r, "", err)
		return
	}
	// The path is taken as it was sent, so that a proxy sees the same endpoint.
	name, below := strings.CutPrefix(r.URL.EscapedPath(), base)
	e, served := endpoints[name]
	if !below || !served {
		a.unknown(w, r, name)
		return
	}
	if err = a.check(w, r, from, e); err != nil {
		a.fail(w, r, "", err)
		return
	}
	if !a.enter(r.Context()) {
		w.Header().Set("Retry-After", "1")
		a.fail(w, r, "", &refusal{http.StatusServiceUnavailable, "too many requests at once"})
		return
	}
	leave := sync.OnceFunc(func() { a.requests.Release(1) })
	defer leave()
	in, err := a.read(w, r, from, e)
	if err != nil {
		a.fail(w, r, "", err)
		return
	}
	in.leave = leave
	out, err := a.handle(r.Context(), e, in)
	if err != nil {
		a.fail(w, r, in.gid, err)
		return
	}
	if out == nil {
		out = reply{Result: wire.Success}
	}
	a.write(w, http.StatusOK, out)
}

// enter waits until fewer than Config.MaxRequests requests are served, for at most
// Config.BodyTimeout.
func (a *api) enter(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, a.config.BodyTimeout)
	defer cancel()
	return a.requests.Acquire(ctx, 1) == nil
}

func (a *api) handle(ctx context.Context, e endpoint, in *request) (any, error) {
	longest := maxHandling
	if in.waitResult {
		longest += a.config.MaxWait
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return e.handle(a, ctx, in)
}

// check checks everything except the body.
func (a *api) check(w http.ResponseWriter, r *http.Request, from client, e endpoint) error {
	if r.Method != e.method && !(r.Method == http.MethodHead && e.method == http.MethodGet) {
		allowed := e.method
		if allowed == http.MethodGet {
			allowed = "GET, HEAD"
		}
		w.Header().Set("Allow", allowed)
		return &refusal{http.StatusMethodNotAllowed, fmt.Sprintf("the method %s is not allowed, %s is", wire.Clip(r.Method, 20), allowed)}
	}
	if from.readOnly && e.method != http.MethodGet {
		return &refusal{http.StatusForbidden, "this client may only read: its credential is ReadOnly"}
	}
	if err := a.crossOrigin.Check(r); err != nil {
		return &refusal{http.StatusForbidden, err.Error()}
	}
	if e.method == http.MethodGet {
		return nil
	}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return &refusal{http.StatusUnsupportedMediaType, "the Content-Type must be application/json, in UTF-8 and without a Content-Encoding"}
	}
	if r.ContentLength > a.config.MaxBody {
		return a.tooLarge()
	}
	return nil
}

func (a *api) tooLarge() error {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is too large: %d bytes are allowed", a.config.MaxBody)}
}

func (a *api) read(w http.ResponseWriter, r *http.Request, from client, e endpoint) (*request, error) {
	config := a.config
	config.GIDPrefix = from.prefix
	if e.ask != nil {
		in, err := e.ask(r, config)
		if in != nil {
			in.prefix = from.prefix
		}
		return in, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, a.tooLarge()
	case err != nil:
		return nil, &refusal{http.StatusRequestTimeout, fmt.Sprintf("the body of the request did not arrive within %s", a.config.BodyTimeout)}
	}
	return e.parse(body, config)
}

// reply is the body of most answers.
type reply struct {
	Result  string `json:"dtm_result,omitempty"`
	Message string `json:"message,omitempty"`

	// Transaction is a text in the place of an object: DTM's workflow client reads
	// only this field of an answer, and shows the text.
	Transaction string `json:"transaction,omitempty"`
}

// maxSmall is the most bytes of an answer that fit into the buffers of a connection even
// if the client does not read it.
const maxSmall = 4 << 10

func (a *api) write(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // every body can be marshalled
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if len(text) <= maxSmall {
		w.Write(text)
		return
	}
	limits := http.NewResponseController(w)
	limits.SetWriteDeadline(time.Now().Add(a.config.BodyTimeout))
	w.Write(text)
	if limits.Flush() == nil {
		limits.SetWriteDeadline(time.Time{}) // the connection stays open
	}
}

func (a *api) unknown(w http.ResponseWriter, r *http.Request, name string) {
	path := wire.Clip(r.URL.EscapedPath(), 100)
	status, text := http.StatusNotFound, fmt.Sprintf("the endpoint %s is not served: tccsaga serves %s below %s", path,
		strings.Join(slices.Sorted(maps.Keys(endpoints)), ", "), base)
	refused, why, known := refusedEndpoint(name)
	if known && strings.HasPrefix(r.URL.EscapedPath(), base) {
		status, text = http.StatusNotImplemented, fmt.Sprintf("the endpoint %s is not served: %s", path, why)
	}
	body := reply{Message: wire.Plain(text)}
	if refused == "prepareWorkflow" {
		body.Transaction = body.Message
	}
	a.write(w, status, body)
}

// results maps statuses to DTM's words.
var results = map[int]string{http.StatusConflict: wire.Failure, http.StatusTooEarly: wire.Ongoing}

// fail answers with an error. The text of an internal error goes to the log with an id,
// and the client gets the id.
func (a *api) fail(w http.ResponseWriter, r *http.Request, gid string, err error) {
	status, message := statusOf(err)
	if message == "" {
		message = err.Error()
	} else {
		id := uuid.NewString()[:8]
		message += "; the log of the server has more under error " + id
		a.config.Logger.Warn("server: a request failed", slog.String("id", id), slog.String("path", wire.Clip(r.URL.EscapedPath(), 100)),
			slog.String("gid", wire.Clip(gid, 128)), slog.String("error", wire.Clip(err.Error(), 2000)))
	}
	a.write(w, status, reply{Result: results[status], Message: wire.Clip(wire.Plain(message), 500)})
}

// statusOf returns the status of a DTM server for an error: 409 if the state of the
// transaction does not allow the request, and 425 if the transaction has not ended. The
// message, if there is one, replaces the text of an internal error.
func statusOf(err error) (status int, message string) {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refused.status, ""
	case errors.Is(err, saga.ErrUnknown):
		return http.StatusInternalServerError, "the outcome is unknown: send the request again, or query the gid"
	case errors.Is(err, saga.ErrInvalid):
		return http.StatusBadRequest, ""
	case errors.Is(err, saga.ErrNotFound), errors.Is(err, saga.ErrNotOpen), errors.Is(err, saga.ErrMismatch),
		errors.Is(err, saga.ErrCancelled), errors.Is(err, saga.ErrConfirmed), errors.Is(err, saga.ErrNotTried):
		return http.StatusConflict, ""
	case errors.Is(err, saga.ErrOngoing):
		return http.StatusTooEarly, ""
	case errors.Is(err, saga.ErrPaused):
		return http.StatusServiceUnavailable, "an operator has paused the branches of this host"
	case errors.Is(err, saga.ErrStopped), errors.Is(err, saga.ErrNoLease):
		return http.StatusServiceUnavailable, "the server is stopping, or cannot reach its database: send the request again"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "the request took too long, and may have had an effect: send it again"
	default:
		return http.StatusInternalServerError, "the server has failed: send the request again"
	}
}
