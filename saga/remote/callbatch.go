package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

const (
	// maxBatchedCall is the most bytes of the payload and the results of a call in a batch.
	maxBatchedCall = 32 << 10

	// maxBatchBody is the most bytes of the calls of a batch.
	maxBatchBody = 512 << 10

	// maxRequests is the most batches that one Service sends at once, if the service is
	// quick. If it takes long, more are sent.
	maxRequests = 2

	// singleFor is how long a Service sends single calls after the service has refused a
	// batch, as an older host does.
	singleFor = time.Minute
)

// batcher sends the calls that come at the same time as one request.
type batcher struct {
	service *Service
	groups  *batch.Groups[*batched]
	single  atomic.Int64 // until then, in nanoseconds since 1970, every call is sent alone
}

func newBatcher(s *Service) *batcher {
	b := &batcher{service: s}
	b.groups = batch.New(wire.MaxBatchCalls, maxRequests, b.send)
	return b
}

// batched is a call that waits for its answer.
type batched struct {
	ctx   context.Context
	call  saga.Call
	reply wire.Reply
	err   error
	done  chan struct{}
	ended bool // done is closed
}

func (m *batched) end(err error) {
	if !m.ended {
		m.err, m.ended = err, true
		close(m.done)
	}
}

// size returns how many bytes a call adds to a batch.
func size(call saga.Call) int {
	n := len(call.Payload)
	for _, r := range call.Results {
		n += len(r)
	}
	return n
}

// takes reports whether a call may travel with others now.
func (b *batcher) takes(call saga.Call) bool {
	return !b.service.config.PlainDTM && size(call) <= maxBatchedCall && json.Valid(call.Payload) && b.service.now().UnixNano() > b.single.Load()
}

// call sends a call in a batch. It returns batch.ErrAlone if the call has to be sent alone.
func (b *batcher) call(ctx context.Context, call saga.Call) error {
	m := &batched{ctx: ctx, call: call, done: make(chan struct{})}
	b.groups.Add("", m)
	limit := time.NewTimer(b.service.config.Timeout)
	defer limit.Stop()
	select {
	case <-m.done:
	case <-limit.C:
		return wire.Unanswered(call.Kind, fmt.Errorf("no answer within %s", b.service.config.Timeout))
	case <-ctx.Done():
		return wire.Unanswered(call.Kind, ctx.Err())
	}
	if m.err == nil && call.Result != nil {
		*call.Result = m.reply.Returned
	}
	return m.err
}

// send sends a batch, in as many requests as its size needs, and reads the answers.
func (b *batcher) send(all []*batched) {
	for len(all) > 0 {
		n, bytes := 0, 0
		for n < len(all) && (n == 0 || bytes+size(all[n].call) <= maxBatchBody) {
			bytes += size(all[n].call)
			n++
		}
		b.sendOne(slices.DeleteFunc(slices.Clone(all[:n]), func(m *batched) bool {
			if err := m.ctx.Err(); err != nil {
				m.end(wire.Unanswered(m.call.Kind, err))
			}
			return m.ended
		}))
		all = all[n:]
	}
}

func (b *batcher) sendOne(all []*batched) {
	if len(all) == 1 {
		all[0].end(batch.ErrAlone)
	}
	if len(all) <= 1 {
		return
	}
	timeout := b.service.config.Timeout
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(all[0].ctx), timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	err := b.exchange(ctx, all)
	if errors.Is(err, errNoBatch) {
		b.single.Store(b.service.now().Add(singleFor).UnixNano())
		err = batch.ErrAlone
	} else if err == nil {
		err = errors.New("the answer to a batch ended before that of the call")
	}
	for _, m := range all {
		switch {
		case m.ended:
		case errors.Is(err, batch.ErrAlone):
			m.end(err)
		default:
			m.end(wire.Unanswered(m.call.Kind, err))
		}
	}
}

// errNoBatch says that the service does not take batches.
var errNoBatch = errors.New("the service refuses batches")

// exchange sends one request, and ends each call that is answered.
func (b *batcher) exchange(ctx context.Context, all []*batched) error {
	s := b.service
	address, err := s.address(ctx, wire.Calls)
	if err != nil {
		return fmt.Errorf("could not be found: %w", err)
	}
	calls := make([]saga.Call, len(all))
	for i, m := range all {
		calls[i] = m.call
	}
	body, err := wire.EncodeBatch(calls)
	if err != nil {
		return batch.ErrAlone // each call has its own error
	}
	r, err := wire.NewRequest(ctx, address, saga.Call{Payload: body}, nil)
	if err != nil {
		return err
	}
	id := newRequestID()
	r.Header.Set(headerRequest, id)
	signed := s.sign(r, body)
	response, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge:
		return errNoBatch
	default:
		return fmt.Errorf("%s answered %d %s to a batch", r.URL.Host, response.StatusCode, http.StatusText(response.StatusCode))
	}
	lines := bufio.NewReader(response.Body)
	for range all {
		if err := readAnswer(lines, r.URL.Host, all, id, signed); err != nil {
			return err
		}
	}
	return nil
}

// readAnswer reads the answer to one call of a batch.
func readAnswer(lines *bufio.Reader, from string, all []*batched, id string, signed *signature) error {
	line, err := readLine(lines)
	if err != nil {
		return fmt.Errorf("read the answer of %s to a batch: %w", from, err)
	}
	number, status, code, body, err := wire.DecodeAnswer(line)
	if err != nil || number < 0 || number >= len(all) {
		return fmt.Errorf("%s answered, but not as a host answers a batch: %s", from, wire.Clip(string(line), maxShown))
	}
	m := all[number]
	reply, err := readReply(wire.Response{From: from, Status: status, Body: body}, code, m.call, id, signed)
	if err != nil {
		m.end(wire.Unanswered(m.call.Kind, err))
		return nil
	}
	if !m.ended {
		m.reply = reply
	}
	m.end(wire.Outcome(m.call, status, reply, from))
	return nil
}

// readLine reads a line of at most the length of an answer. The line is valid until the next
// one is read.
func readLine(lines *bufio.Reader) (line []byte, err error) {
	for {
		part, err := lines.ReadSlice('\n')
		if err == nil && line == nil {
			return part, nil
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > wire.MaxReply:
			return nil, fmt.Errorf("a line has more than %d bytes", wire.MaxReply)
		}
	}
}
