package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// HostConfig configures a [Host]. The zero value lets every request in.
type HostConfig struct {
	// Keys are the keys that a request may be signed with; one that is not is
	// refused. Without any, every request is let in: then only the network
	// keeps others out. A DTM server does not sign.
	Keys []Key

	// Window is how far the time of a signature may be from this host's clock.
	// Within it a request may come again; the barrier knows it. Defaults to 5
	// minutes.
	Window time.Duration

	// MaxPayload is the most bytes of a request's body. Defaults to 1 MiB.
	MaxPayload int64

	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Host has the branches of a service, and their barrier, and lets others call
// them over HTTP. Register branches with it as with an engine, and mount it: the
// last part of the path is the kind of branch.
//
//	mux.Handle("/branches/", host)                         // net/http
//	router.POST("/branches/:kind", gin.WrapH(host))        // gin
//
// It is safe for concurrent use.
type Host struct {
	*saga.Participant
	config HostConfig
	now    func() time.Time
}

var (
	_ http.Handler   = (*Host)(nil)
	_ saga.Registrar = (*Host)(nil)
)

// NewHost returns a host with its barrier in db, where the schema of package sql
// has to be installed.
func NewHost(ctx context.Context, db *gorm.DB, config HostConfig) (*Host, error) {
	if err := checkKeys(config.Keys); err != nil {
		return nil, fmt.Errorf("remote: host: %w", err)
	}
	if config.Window < 0 || config.MaxPayload < 0 {
		return nil, fmt.Errorf("remote: host: %w: the Window or the MaxPayload is negative", saga.ErrInvalid)
	}
	if config.Window == 0 {
		config.Window = 5 * time.Minute
	}
	if config.MaxPayload == 0 {
		config.MaxPayload = 1 << 20
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	participant, err := saga.NewParticipant(ctx, db, saga.ParticipantConfig{CallTimeout: config.CallTimeout, Logger: config.Logger})
	if err != nil {
		return nil, fmt.Errorf("remote: host: %w", err)
	}
	return &Host{Participant: participant, config: config, now: time.Now}, nil
}

// ServeHTTP makes one call of a branch, by DTM's HTTP convention: it answers 200
// if the call is done, or was done before; 409 to a Try that the branch said no
// to, or that comes after its Cancel; 425 if the call is under way; and 5xx after
// any other failure, when the call may be repeated. Requests that cannot be
// calls are answered 400, 401, 404, 405 and 413.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, err := h.read(w, r)
	if err == nil {
		err = h.Call(r.Context(), call)
	}
	status := statusOf(call.Op, err)
	message := ""
	switch {
	case err == nil:
	case status == http.StatusUnauthorized:
		message = errSignature.Error()
		h.config.Logger.Warn("remote: a request was refused", slog.String("from", r.RemoteAddr), slog.String("path", r.URL.Path), slog.Any("error", err))
	default:
		message = err.Error()
	}
	if status >= http.StatusInternalServerError {
		h.config.Logger.Warn("remote: a branch call failed", slog.String("gid", call.GID), slog.String("branch", call.BranchID),
			slog.String("kind", call.Kind), slog.String("operation", string(call.Op)), slog.Any("error", err))
	}
	if errors.Is(err, barrier.ErrConflict) {
		w.Header().Set(wire.HeaderError, wire.Conflict)
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	wire.Write(w, status, message)
}

// refusal is of a request that cannot be a call.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func (h *Host) read(w http.ResponseWriter, r *http.Request) (call saga.Call, err error) {
	if r.Method != http.MethodPost {
		return call, &refusal{http.StatusMethodNotAllowed, "a branch is called with POST"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.config.MaxPayload))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return call, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than the %d bytes that are allowed", large.Limit)}
	case err != nil:
		return call, &refusal{http.StatusBadRequest, "reading the body: " + err.Error()}
	}
	if len(h.config.Keys) > 0 {
		if err := verify(h.config.Keys, h.config.Window, h.now(), r, body); err != nil {
			return call, err
		}
	}
	query := r.URL.Query()
	for _, name := range []string{"gid", "trans_type", "branch_id", "op"} {
		if n := len(query[name]); n != 1 {
			return call, &refusal{http.StatusBadRequest, fmt.Sprintf("the query names %s %d times, it has to be once", name, n)}
		}
	}
	if got := query.Get("trans_type"); got != wire.TransType {
		return call, &refusal{http.StatusBadRequest, fmt.Sprintf("the trans_type is %q, here it is always %s", wire.Clip(got, 40), wire.TransType)}
	}
	if !json.Valid(body) {
		return call, &refusal{http.StatusBadRequest, "the body is not JSON"}
	}
	return saga.Call{GID: query.Get("gid"), BranchID: query.Get("branch_id"), Kind: path.Base(r.URL.Path),
		Op: barrier.Op(query.Get("op")), Attempt: 1, Payload: body}, nil
}

// statusOf maps the outcome of a call. A Confirm or Cancel is never answered
// 409: there is nothing that it could refuse.
func statusOf(op barrier.Op, err error) int {
	var rejection *saga.Rejection
	var refused *refusal
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refused):
		return refused.status
	case errors.Is(err, errSignature):
		return http.StatusUnauthorized
	case errors.Is(err, saga.ErrUnknownKind):
		return http.StatusNotFound
	case errors.Is(err, saga.ErrInvalid):
		return http.StatusBadRequest
	case op == barrier.Try && (errors.As(err, &rejection) || errors.Is(err, barrier.ErrSuspended)):
		return http.StatusConflict
	case errors.Is(err, saga.ErrOngoing):
		return http.StatusTooEarly
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Signed reports whether the host refuses requests that are not signed, such as
// those of a DTM server.
func (h *Host) Signed() bool { return len(h.config.Keys) > 0 }
