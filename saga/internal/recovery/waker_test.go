package recovery

import (
	"testing"
	"testing/synctest"
	"time"
)

// polls returns after which times the waker asks for polls, until none comes for a day.
func (w *Waker) polls() (after []time.Duration) {
	began := time.Now()
	for {
		select {
		case <-w.c:
			after = append(after, time.Since(began))
		case <-time.After(24 * time.Hour):
			return after
		}
	}
}

// Soon asks for polls at growing pauses, which begin again with each call, however long the
// pause has become; and calls without a pause between them do not put the polls off.
func TestSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWaker(time.Minute)
		w.Soon()
		first := w.polls()
		if len(first) < 10 || first[0] != firstPause || first[1] != 3*firstPause || first[len(first)-1] > 2*time.Minute {
			t.Errorf("polls after %v", first)
		}

		w.Soon()
		time.Sleep(20 * time.Second) // the pause is some seconds by now
		select {
		case <-w.c:
		default:
		}
		w.Soon()
		if again := w.polls(); again[0] != firstPause {
			t.Errorf("polls after another call: %v", again)
		}

		began := time.Now()
		asked := 0
		for time.Since(began) < time.Second {
			w.Soon()
			time.Sleep(firstPause / 4)
			select {
			case <-w.c:
				asked++
			default:
			}
		}
		if asked < 100 {
			t.Errorf("%d polls in a second of calls", asked)
		}
		w.polls() // the timers end
	})
}
