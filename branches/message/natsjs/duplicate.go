package natsjs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// maxCompares is how many stored messages are read at once.
const maxCompares = 32

// compareDuplicates compares each message that the server reported as a duplicate with
// the stored message. If their contents differ, the result becomes an error.
func (s *stream) compareDuplicates(ctx context.Context, messages []broker.Message, results []broker.Result) {
	var all sync.WaitGroup
	slots := make(chan struct{}, maxCompares)
	for i := range results {
		if results[i].Err != nil || !results[i].Receipt.Duplicate {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			results[i].Err = s.isStored(ctx, messages[i], results[i].Receipt.Sequence)
		})
	}
	all.Wait()
}

// isStored returns nil if the stored message is the published one. If it does not exist,
// consumers have handled it, in a stream that removes consumed messages.
func (s *stream) isStored(ctx context.Context, m broker.Message, sequence uint64) error {
	stored, err := s.handle.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("comparing with message %d of the stream %s, which has the same id: %w", sequence, s.info.Name, err)
	case same(m, stored):
		return nil
	}
	return fmt.Errorf("%w: message %d of the stream %s, on %s, has the id %s and different content", broker.ErrForeign, sequence, s.info.Name, stored.Subject, m.ID)
}

// same compares data, id and headers. It ignores the subject, which the stream may change,
// and headers that the server has added.
func same(m broker.Message, stored *jetstream.RawStreamMsg) bool {
	if stored.Header.Get(jetstream.MsgIDHeader) != m.ID || !bytes.Equal(m.Data, stored.Data) {
		return false
	}
	for name, values := range m.Headers {
		if !slices.EqualFunc(values, valuesOf(stored.Header, name), func(a, b string) bool { return strings.TrimSpace(a) == strings.TrimSpace(b) }) {
			return false
		}
	}
	return true
}

// valuesOf returns the values of a header. The server may have changed the case of its
// name.
func valuesOf(headers nats.Header, name string) []string {
	if values, found := headers[name]; found {
		return values
	}
	for other, values := range headers {
		if strings.EqualFold(other, name) {
			return values
		}
	}
	return nil
}
