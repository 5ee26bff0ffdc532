package message

import (
	"strconv"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// entry is a message that is in flight in this process: received and not settled.
type entry struct {
	m          Received
	deliveries []broker.Delivery // of the message, and of copies with the same id
	without    bool              // its data have to be read from its stream
	resent     uint64            // its sequence in the dead-letter stream, if it was sent again

	attempts       int  // failures so far
	alone          bool // it does not share a local transaction
	dead           bool // it becomes a dead letter
	reason         string
	letterFailures int // how often writing the dead letter has failed

	begun   bool // the inbox has it marked as begun
	marking bool // a local transaction is about to mark it

	running time.Time // when its handler began; zero if it does not run
}

func newEntry(d broker.Delivery, config ConsumerConfig) *entry {
	stored, at := d.Message(), d.Position()
	m := Received{Subject: stored.Subject, Data: stored.Data, Headers: stored.Headers,
		Stream: at.Stream, Sequence: at.Sequence, Time: at.Time, Attempt: 1}
	e := &entry{deliveries: []broker.Delivery{d}}
	if at.Stream == config.DeadLetters {
		e.resent = at.Sequence
		e.without = header(m.Headers, HeaderWithout) != ""
		m = fromLetter(m, config.Stream)
	}
	m.ID = logicalID(m, stored.ID)
	m.Key = config.Key(m)
	e.m = m
	return e
}

// maxID is the longest id that the inbox can store.
const maxID = 200

// logicalID is the id of a message in the inbox. Without another id, it has the time and
// the sequence at which the stream stored the message. The time distinguishes messages if
// a stream is deleted and created again, which repeats the sequences.
func logicalID(m Received, published string) string {
	for _, id := range []string{header(m.Headers, HeaderID), published} {
		if id != "" && len(id) <= maxID && printable(id) {
			return id
		}
	}
	return "@" + strconv.FormatInt(m.Time.UnixNano(), 36) + "/" + strconv.FormatUint(m.Sequence, 10)
}

func printable(id string) bool {
	for _, b := range []byte(id) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}

// header returns the first value of a header. It accepts the name in any case.
func header(headers map[string][]string, name string) string {
	if values := headers[name]; len(values) > 0 {
		return values[0]
	}
	for other, values := range headers {
		if strings.EqualFold(other, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}
