package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// Config configures the API. Hosts are needed.
type Config struct {
	// Hosts are the hosts, with their ports if their URLs have one, that
	// branches may be on. A branch anywhere else is refused.
	Hosts []string

	// Client calls the branches; redirects are refused and cookies ignored in
	// any case. Defaults to a client that keeps up to 100 idle connections per
	// host.
	Client *http.Client

	// MaxBody is the most bytes of a request. Defaults to 1 MiB.
	MaxBody int64

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// api is the handler.
type api struct {
	engine saga.Engine
	config Config
	mux    *http.ServeMux
}

// New returns the API on top of engine, with which it registers the kind of
// branch "dtm.branch": call it once per engine, before the engine runs.
func New(engine saga.Engine, config Config) (http.Handler, error) {
	if len(config.Hosts) == 0 {
		return nil, fmt.Errorf("server: %w: Config.Hosts names no host that branches may be on", saga.ErrInvalid)
	}
	if config.MaxBody < 0 {
		return nil, fmt.Errorf("server: %w: Config.MaxBody is negative", saga.ErrInvalid)
	}
	if config.MaxBody == 0 {
		config.MaxBody = 1 << 20
	}
	if config.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 100
		config.Client = &http.Client{Transport: transport}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	config.Client = wire.Client(config.Client)
	a := &api{engine: engine, config: config, mux: http.NewServeMux()}
	err := engine.Register(saga.Branch{Kind: kind, Encode: encode, Remote: &caller{client: config.Client, allowed: a.allowed}})
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	for pattern, handle := range map[string]func(context.Context, request) (any, error){
		"GET /newGid":             a.newGID,
		"GET /version":            a.version,
		"GET /query":              a.query,
		"POST /prepare":           a.prepare,
		"POST /submit":            a.submit,
		"POST /abort":             a.abort,
		"POST /registerBranch":    a.registerBranch,
		"POST /registerTccBranch": a.registerBranch, // what old clients call it
	} {
		method, path, _ := strings.Cut(pattern, " ")
		a.mux.HandleFunc(method+" /api/dtmsvr"+path, a.handler(handle))
	}
	return a, nil
}

// ServeHTTP serves one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// request is what clients send, as far as it matters.
type request struct {
	GID       string `json:"gid"`
	TransType string `json:"trans_type"`

	TimeoutToFail  int64             `json:"timeout_to_fail"` // seconds
	WaitResult     bool              `json:"wait_result"`
	RollbackReason string            `json:"rollback_reason"`
	BranchHeaders  map[string]string `json:"branch_headers"`
	CustomData     string            `json:"custom_data"`

	BranchID string `json:"branch_id"`
	Data     string `json:"data"`
	Confirm  string `json:"confirm"`
	Cancel   string `json:"cancel"`
}

// The timeout of a transaction that names none, as it is by default on a DTM
// server, and the longest, in seconds.
const (
	defaultTimeout = 35
	maxTimeout     = 365 * 24 * 3600
)

// errLarge is of a request with too many bytes.
var errLarge = errors.New("the request is too large")

func (a *api) handler(handle func(context.Context, request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, err := a.read(w, r)
		var out any
		if err == nil {
			out, err = handle(r.Context(), in)
		}
		if err != nil {
			status := statusOf(err)
			if status >= http.StatusInternalServerError {
				a.config.Logger.Warn("server: a request failed", slog.String("path", r.URL.Path), slog.String("gid", in.GID), slog.Any("error", err))
			}
			wire.Write(w, status, err.Error())
			return
		}
		if out == nil {
			wire.Write(w, http.StatusOK, "")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	}
}

func (a *api) read(w http.ResponseWriter, r *http.Request) (in request, err error) {
	if r.Method == http.MethodGet {
		return request{GID: r.URL.Query().Get("gid")}, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return in, fmt.Errorf("%w: %d bytes are allowed", errLarge, large.Limit)
	case err != nil:
		return in, fmt.Errorf("%w: reading the request: %w", saga.ErrInvalid, err)
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in, fmt.Errorf("%w: the request: %w", saga.ErrInvalid, err)
	}
	switch {
	case in.TransType != wire.TransType:
		return in, fmt.Errorf("%w: the trans_type is %q: this server has %s only", saga.ErrInvalid, wire.Clip(in.TransType, 40), wire.TransType)
	case len(in.BranchHeaders) > 0:
		return in, fmt.Errorf("%w: branch_headers are not supported by this server", saga.ErrInvalid)
	case in.CustomData != "":
		return in, fmt.Errorf("%w: custom_data is not supported by this server", saga.ErrInvalid)
	case in.TimeoutToFail < 0 || in.TimeoutToFail > maxTimeout:
		return in, fmt.Errorf("%w: timeout_to_fail is %d seconds, it must be between 0 and %d", saga.ErrInvalid, in.TimeoutToFail, maxTimeout)
	}
	return in, nil
}

// statusOf maps an error to what a DTM server answers: 409 when the transaction
// is not what the request needs, and 425 when it is not at its end.
func statusOf(err error) int {
	switch {
	case errors.Is(err, errLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, saga.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, saga.ErrNotFound), errors.Is(err, saga.ErrNotOpen), errors.Is(err, saga.ErrMismatch),
		errors.Is(err, saga.ErrCancelled), errors.Is(err, saga.ErrConfirmed), errors.Is(err, saga.ErrNotTried):
		return http.StatusConflict
	case errors.Is(err, saga.ErrOngoing):
		return http.StatusTooEarly
	case errors.Is(err, saga.ErrStopped), errors.Is(err, saga.ErrNoLease):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

func (a *api) newGID(context.Context, request) (any, error) {
	return map[string]string{"gid": uuid.NewString(), "dtm_result": wire.Success}, nil
}

func (a *api) version(context.Context, request) (any, error) {
	return map[string]string{"version": "tccsaga"}, nil
}

func (a *api) prepare(ctx context.Context, in request) (any, error) {
	if in.TimeoutToFail == 0 {
		in.TimeoutToFail = defaultTimeout
	}
	opening := saga.Opening{GID: in.GID, Pattern: wire.TransType, Options: saga.Options{Timeout: time.Duration(in.TimeoutToFail) * time.Second}}
	if err := a.engine.Begin(ctx, opening); err != nil {
		return nil, err
	}
	// A client that comes again has to learn that it is too late.
	found, err := a.engine.Lookup(ctx, in.GID)
	if err == nil && found.State.Decided() {
		err = fmt.Errorf("%s is %s: %w", in.GID, found.State, saga.ErrNotOpen)
	}
	return nil, err
}

func (a *api) registerBranch(ctx context.Context, in request) (any, error) {
	b := branch{Confirm: in.Confirm, Cancel: in.Cancel, Data: in.Data}
	for name, address := range map[string]string{"confirm": b.Confirm, "cancel": b.Cancel} {
		if err := a.allowed(address); err != nil {
			return nil, fmt.Errorf("%w: the URL of %s: %w", saga.ErrInvalid, name, err)
		}
	}
	return nil, a.engine.Try(ctx, in.GID, in.BranchID, saga.Step{Kind: kind, Input: b})
}

func (a *api) submit(ctx context.Context, in request) (any, error) {
	outcome, err := a.engine.Confirm(ctx, in.GID, saga.Options{})
	if err == nil && in.WaitResult && !outcome.State.Finished() {
		err = fmt.Errorf("%s is decided to be confirmed, but not every Confirm has succeeded yet: %w", in.GID, saga.ErrOngoing)
	}
	return nil, err
}

func (a *api) abort(ctx context.Context, in request) (any, error) {
	_, err := a.engine.Cancel(ctx, in.GID, in.RollbackReason)
	return nil, err
}

// statuses are DTM's names of our states.
var statuses = map[saga.State]string{
	saga.Trying: "prepared", saga.Confirming: "submitted", saga.Confirmed: "succeed",
	saga.Cancelling: "aborting", saga.Cancelled: "failed",
}

// transactionView and branchView are what clients read, as far as it is known.
type transactionView struct {
	GID            string     `json:"gid"`
	TransType      string     `json:"trans_type"`
	Status         string     `json:"status"`
	Protocol       string     `json:"protocol"`
	RollbackReason string     `json:"rollback_reason,omitempty"`
	CreateTime     time.Time  `json:"create_time"`
	FinishTime     *time.Time `json:"finish_time,omitempty"`
	RollbackTime   *time.Time `json:"rollback_time,omitempty"`
}

type branchView struct {
	GID      string `json:"gid"`
	URL      string `json:"url"`
	BinData  []byte `json:"bin_data"`
	BranchID string `json:"branch_id"`
	Op       string `json:"op"`
	Status   string `json:"status"`
}

// query answers as a DTM server does, also for a transaction that there is not.
func (a *api) query(ctx context.Context, in request) (any, error) {
	answer := struct {
		Transaction *transactionView `json:"transaction"`
		Branches    []branchView     `json:"branches"`
	}{Branches: []branchView{}}
	found, err := a.engine.Lookup(ctx, in.GID)
	if errors.Is(err, saga.ErrNotFound) {
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	view := &transactionView{GID: found.GID, TransType: found.Pattern, Status: statuses[found.State], Protocol: "http",
		RollbackReason: found.Reason, CreateTime: found.CreatedAt}
	switch found.State {
	case saga.Confirmed:
		view.FinishTime = &found.FinishedAt
	case saga.Cancelled:
		view.RollbackTime = &found.FinishedAt
	}
	answer.Transaction = view
	for _, b := range found.Branches {
		answer.Branches = append(answer.Branches, branchViews(found, b)...)
	}
	return answer, nil
}

// branchViews are the two operations of a branch.
func branchViews(t *saga.Transaction, b saga.BranchView) []branchView {
	stored, err := decode(b.Payload)
	if err != nil || b.Kind != kind {
		return nil // of another client of the same orchestrator
	}
	status := func(end saga.State) string {
		if t.State == end || !b.DoneAt.IsZero() && (t.State == saga.Confirming) == (end == saga.Confirmed) {
			return "succeed"
		}
		return "prepared"
	}
	return []branchView{
		{t.GID, stored.Cancel, []byte(stored.Data), b.ID, "cancel", status(saga.Cancelled)},
		{t.GID, stored.Confirm, []byte(stored.Data), b.ID, "confirm", status(saga.Confirmed)},
	}
}

// allowed says why a branch must not be called at address. An empty one stands
// for nothing to do, as it does for a DTM server.
func (a *api) allowed(address string) error {
	if address == "" {
		return nil
	}
	at, err := parse(address)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(a.config.Hosts, func(host string) bool { return strings.EqualFold(host, at.Host) }) {
		return fmt.Errorf("the host %q is not among those that this server may call", at.Host)
	}
	return nil
}
