package message_test

import (
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

var operator = message.By{Who: "ann", Why: "mended"}

// letters are the dead letters of the bench's stream.
func (b *bench) letters() *message.DeadLetters {
	b.t.Helper()
	d, err := message.NewDeadLetters(b.db, wrap(b.js), b.name, "")
	sagatest.Must(b.t, err)
	return d
}

// buried lists the dead letters.
func (b *bench) buried(filter message.LetterFilter) []message.Letter {
	b.t.Helper()
	letters, err := b.letters().List(b.t.Context(), filter)
	sagatest.Must(b.t, err)
	return letters
}

// resend sends all dead letters again.
func (b *bench) resend() int {
	b.t.Helper()
	sent, err := b.letters().Resend(b.t.Context(), operator, numbers(b.buried(message.LetterFilter{}))...)
	sagatest.Must(b.t, err)
	return sent
}

// resettled waits until the consumer has acknowledged what was sent to it again from
// the dead letters.
func (b *bench) resettled(consumer string) {
	b.t.Helper()
	sagatest.Eventually(b.t, consumer+" has acknowledged what was sent again", func() bool {
		s, err := b.js.Stream(b.t.Context(), b.name+"_dead")
		if err != nil {
			return false
		}
		info, err := s.Info(b.t.Context(), jetstream.WithSubjectFilter("dead."+b.name+".again."+consumer+".>"))
		return err == nil && len(info.State.Subjects) == 0
	})
}

func numbers(letters []message.Letter) (all []uint64) {
	for _, l := range letters {
		all = append(all, l.Number)
	}
	return all
}
