package dtm

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// kind is a registered kind of branch.
type kind struct {
	encode func(input any) ([]byte, error)
	url    func(ctx context.Context) (*url.URL, error) // at which the server calls it
	try    func(ctx context.Context, call saga.Call) error
}

// addressed is a service with an address for the DTM server, such as [remote.Service].
type addressed interface {
	URL(ctx context.Context, kind string) (*url.URL, error)
	Signed() bool
}

// remoteKind returns a kind of branch in another service.
func remoteKind(b saga.Branch, service saga.Remote) (kind, error) {
	at, ok := service.(addressed)
	switch {
	case !ok:
		return kind{}, fmt.Errorf("%w: its %T does not say where a DTM server can call it: use a remote.Service", saga.ErrInvalid, service)
	case at.Signed():
		return kind{}, fmt.Errorf("%w: its service requires signed calls, and a DTM server cannot sign", saga.ErrInvalid)
	}
	return kind{
		encode: b.Encoder(),
		url:    func(ctx context.Context) (*url.URL, error) { return at.URL(ctx, b.Kind()) },
		try:    service.Call,
	}, nil
}

// hostedKind returns a kind of branch at the host of this process.
func hostedKind(b saga.Branch, host *remote.Host, hostURL string) kind {
	return kind{
		encode: b.Encoder(),
		url: func(context.Context) (*url.URL, error) {
			base, err := url.Parse(hostURL)
			if err != nil {
				return nil, err
			}
			return base.JoinPath(b.Kind()), nil
		},
		try: host.Call,
	}
}

// registry has the registered kinds. The zero registry is empty.
type registry struct {
	mu     sync.RWMutex
	byName map[string]kind
}

func (r *registry) add(name string, k kind) error {
	if name == "" || k.encode == nil {
		return fmt.Errorf("%w: the kind is empty, or the encoder is nil", saga.ErrInvalid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.byName[name]; known {
		return fmt.Errorf("%w: the kind is registered already", saga.ErrInvalid)
	}
	if r.byName == nil {
		r.byName = make(map[string]kind)
	}
	r.byName[name] = k
	return nil
}

func (r *registry) find(name string) (kind, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, known := r.byName[name]
	if !known {
		return kind{}, fmt.Errorf("%w: %w: %q is not registered in this process", saga.ErrInvalid, saga.ErrUnknownKind, name)
	}
	return k, nil
}

// maxPayload is the most bytes of a payload in DTM's tables (a BLOB).
const maxPayload = 1<<16 - 1

// validBranchID matches DTM's branch ids, which have two digits per level.
var validBranchID = regexp.MustCompile(`^(\d\d){1,10}$`)

// step is a branch of a transaction.
type step struct {
	kind
	call saga.Call // its Try
	url  string
}

// newStep checks and encodes a branch. It needs a valid gid.
func (r *registry) newStep(ctx context.Context, gid, branchID string, s saga.Step) (*step, error) {
	if !validBranchID.MatchString(branchID) {
		return nil, fmt.Errorf("%w: the branch id %q: DTM's ids have two digits per level", saga.ErrInvalid, branchID)
	}
	k, err := r.find(s.Kind)
	if err != nil {
		return nil, err
	}
	payload, err := k.encode(s.Input)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", saga.ErrInvalid, s.Kind, err)
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("%w: %s: its input has %d bytes as JSON, DTM allows %d", saga.ErrInvalid, s.Kind, len(payload), maxPayload)
	}
	at, err := k.url(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Kind, err)
	}
	return &step{kind: k, url: at.String(), call: saga.Call{GID: gid, BranchID: branchID, Kind: s.Kind, Op: barrier.Try, Attempt: 1, Payload: payload}}, nil
}

// tryBranch makes the Try of a step.
func (s *step) tryBranch(ctx context.Context) error {
	if err := s.try(ctx, s.call); err != nil {
		return fmt.Errorf("%s: %w", s.call.Kind, err)
	}
	return nil
}
