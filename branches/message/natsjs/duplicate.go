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

// comparing is how many stored messages are asked for at once.
const comparing = 32

// compareDuplicates looks at the stored messages that the server took others for
// repetitions of. One with other content is no receipt.
func (s *stream) compareDuplicates(ctx context.Context, messages []broker.Message, results []broker.Result) {
	var all sync.WaitGroup
	slots := make(chan struct{}, comparing)
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

// isStored returns nil if the stored message is the one that was published. One
// that is gone was: it is what consumers leave behind in a stream that keeps
// messages until they are consumed.
func (s *stream) isStored(ctx context.Context, m broker.Message, sequence uint64) error {
	stored, err := s.handle.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("looking whether message %d of %s, which the server says it has already, is this one: %w", sequence, s.info.Name, err)
	case same(m, stored):
		return nil
	}
	return fmt.Errorf("%w: message %d of the stream %s, on %s, has the id %s and other content", broker.ErrForeign, sequence, s.info.Name, stored.Subject, m.ID)
}

// same compares data, id and headers. The server may add headers, and the stream
// may change the subject.
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

// valuesOf returns the values of a header whose name the server may have written
// in another case.
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
