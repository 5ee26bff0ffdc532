package message

import (
	"strconv"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// entry is a message that this process has: received and not settled.
type entry struct {
	m          Received
	deliveries []broker.Delivery // of the message, and of copies with the same id
	without    bool              // its data have to be read out of its stream
	resent     uint64            // its sequence in the dead-letter stream, if it was sent again from there

	attempts int  // failures so far
	alone    bool // it is handled in a local transaction of its own
	bury     bool // it is to be put aside
	reason   string
	failures int // how often putting it aside has failed

	begun   bool // the inbox says that its handler has begun
	marking bool // a local transaction is about to say so

	running time.Time // since when its handler runs; zero if it does not
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

// maxID is what the inbox holds of an id.
const maxID = 200

// logicalID is the id under which the inbox knows a message of a stream. The time
// and sequence of storing name a message for good, also if the stream is deleted
// and made again, which repeats the sequences.
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
