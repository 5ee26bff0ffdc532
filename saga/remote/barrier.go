package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

var _ saga.BarrierReader = (*Service)(nil)

// errNoBarrier is the error if nobody answers questions for barrier rows at the address.
var errNoBarrier = errors.New("the service does not answer questions about its barrier: it has an older version, or is no host of package remote")

// Barrier asks the service for the barrier rows of a transaction; see [saga.BarrierReader]. It
// asks once. The error says so if the service does not answer such questions.
func (s *Service) Barrier(ctx context.Context, gid, caller string) ([]barrier.Row, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Timeout, fmt.Errorf("no answer within %s", s.config.Timeout))
	defer cancel()
	rows, err := s.askForBarrier(ctx, gid, caller)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	if err != nil {
		return nil, fmt.Errorf("remote: barrier of %s: %w", wire.Clip(gid, maxShown), err)
	}
	return rows, nil
}

func (s *Service) askForBarrier(ctx context.Context, gid, caller string) ([]barrier.Row, error) {
	if err := errors.Join(barrier.ValidateGID(gid), wire.CheckCaller(caller)); err != nil {
		return nil, fmt.Errorf("%w: %w", saga.ErrInvalid, err)
	}
	switch {
	case caller == "":
		return nil, fmt.Errorf("%w: the caller is missing", saga.ErrInvalid)
	case s.config.PlainDTM:
		return nil, errNoBarrier
	}
	address, err := s.address(ctx, wire.Barrier)
	if err != nil {
		return nil, err
	}
	address.RawQuery = url.Values{"gid": {gid}, wire.Caller: {caller}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	id := newRequestID()
	r.Header.Set(headerRequest, id)
	signed := s.sign(r, nil)
	response, err := wire.SendUpTo(s.client, r, maxBarrierReply)
	if err != nil {
		return nil, err
	}
	return readBarrier(response, barrierReply{Caller: caller, GID: gid, Request: id}, signed)
}

// readBarrier reads an answer. It refuses an answer that is not from a host, or is to another
// question.
func readBarrier(a wire.Response, asked barrierReply, signed *signature) ([]barrier.Row, error) {
	var reply barrierReply
	var why string
	switch {
	case signed != nil && !signed.signs(a.Header.Get(headerAnswer), a.Status, a.Body):
		why = "the answer is not signed for this request"
	case a.Cut:
		why = fmt.Sprintf("the answer has more than %d bytes", maxBarrierReply)
	case json.Unmarshal(a.Body, &reply) != nil || reply.Request == "":
		why = "the answer does not name the question"
	case reply.Caller != asked.Caller || reply.GID != asked.GID || reply.Request != asked.Request:
		why = "the answer is to another question"
	}
	switch {
	case why == "" && a.Status == http.StatusOK:
		return rowsOf(a.From, reply.Rows, asked)
	case why == "":
		return nil, fmt.Errorf("%s answered %d %s: %s %s", a.From, a.Status, http.StatusText(a.Status), wire.Clip(reply.Message, maxShown), wire.Clip(reply.ErrorID, 32))
	case a.Status == http.StatusBadRequest || a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed || a.Status == http.StatusNotImplemented:
		return nil, fmt.Errorf("%s answered %d: %w", a.From, a.Status, errNoBarrier)
	case a.Status >= 300 && a.Status < 400:
		return nil, wire.Redirected(a)
	}
	return nil, fmt.Errorf("%s answered %d, but not as a host of branches does: %s: %s", a.From, a.Status, why, wire.Clip(wire.Message(a.Body), maxShown))
}

// rowsOf returns the rows of an answer. It refuses rows of other transactions, and rows that
// no barrier has.
func rowsOf(from string, answered []barrierRow, asked barrierReply) ([]barrier.Row, error) {
	if len(answered) > saga.MaxBranches {
		return nil, fmt.Errorf("%s answered with %d barrier rows, and a transaction has at most %d branches", from, len(answered), saga.MaxBranches)
	}
	rows := make([]barrier.Row, len(answered))
	for i, a := range answered {
		row := a.Row
		texts := []string{string(row.State), row.Kind, row.Input}
		if u := row.UnderWay; u != nil {
			u.Left = time.Duration(a.Left) * time.Microsecond
			texts = append(texts, string(u.Op), u.By)
		}
		switch {
		case row.GID != asked.GID || row.Caller != "" && row.Caller != asked.Caller:
			return nil, fmt.Errorf("%s answered with a barrier row of another transaction, %s of the log %s",
				from, wire.Clip(row.GID, maxShown), wire.Clip(row.Caller, maxShown))
		case row.Validate() != nil || row.State == "" || !printable(texts):
			return nil, fmt.Errorf("%s answered with a row that no barrier has", from)
		}
		rows[i] = row
	}
	return rows, nil
}

// printable reports whether texts have printable ASCII characters only, as those in a barrier
// row do.
func printable(texts []string) bool {
	for _, text := range texts {
		if len(text) > maxShown || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return false
		}
	}
	return true
}
