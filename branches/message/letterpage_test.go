package message_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// counting counts the requests for messages.
type counting struct {
	seam.Broker
	requests int
}

func (c *counting) First(ctx context.Context, stream, pattern string, from uint64) (seam.Stored, error) {
	c.requests++
	return c.Broker.First(ctx, stream, pattern, from)
}

// letterStream has a dead-letter stream with letters by hand, of two consumers in turn.
func (b *bench) letterStream(n int) (*message.DeadLetters, *counting) {
	b.t.Helper()
	broker := &counting{Broker: wrap(b.js)}
	stream, err := broker.OpenStream(b.t.Context(), seam.StreamConfig{Name: b.name + "_dead", Subjects: []string{"dead." + b.name + ".>"}})
	sagatest.Must(b.t, err)
	var all []seam.Message
	for i := range n {
		consumer := []string{"mailer", "ledger"}[i%2]
		all = append(all, seam.Message{ID: fmt.Sprint("m", i), Subject: "dead." + b.name + ".letter." + consumer + "." + b.name + ".placed",
			Headers: map[string][]string{message.HeaderID: {fmt.Sprint("id", i+1)}, message.HeaderConsumer: {consumer}, message.HeaderReason: {fmt.Sprint("reason ", i%10)},
				message.HeaderSubject: {b.name + ".placed"}, message.HeaderAttempts: {"3"}}, Data: []byte("data")})
	}
	for some := range slices.Chunk(all, 500) {
		for _, result := range stream.Publish(b.t.Context(), some) {
			sagatest.Must(b.t, result.Err)
		}
	}
	d, err := message.NewDeadLetters(b.db, broker, b.name, "")
	sagatest.Must(b.t, err)
	return d, broker
}

// newest returns the numbers of all letters, in pages.
func newest(t *testing.T, d *message.DeadLetters, f message.LetterFilter) (all []uint64, pages int) {
	t.Helper()
	for before := uint64(0); ; pages++ {
		page, err := d.Newest(t.Context(), f, before)
		sagatest.Must(t, err)
		for _, l := range page.Letters {
			all = append(all, l.Number)
		}
		if page.Next == 0 {
			return all, pages
		}
		if before != 0 && page.Next >= before {
			t.Fatalf("the page before %d goes on with %d", before, page.Next)
		}
		before = page.Next
	}
}

// Newest returns letters backwards, in pages, over gaps of any size.
func TestNewestLetters(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	if _, err := b.letters().Newest(t.Context(), message.LetterFilter{}, 0); !errors.Is(err, message.ErrNoDeadLetters) {
		t.Errorf("%v", err)
	}
	const n = 3000
	d, broker := b.letterStream(n)
	keep := func(i uint64) bool { return i <= 120 || i == 500 || i >= 2900 && i < 2950 }
	down := func(from uint64, which func(uint64) bool) (all []uint64) {
		for i := from; i > 0; i-- {
			if which(i) {
				all = append(all, i)
			}
		}
		return all
	}
	for _, limit := range []int{7, 1000} {
		if got, _ := newest(t, d, message.LetterFilter{Limit: limit}); !slices.Equal(got, down(n, func(uint64) bool { return true })) {
			t.Errorf("by %d: %d letters", limit, len(got))
		}
	}
	// A search that finds little looks at a bounded number of letters.
	broker.requests = 0
	page, err := d.Newest(t.Context(), message.LetterFilter{ID: "id7"}, 0)
	if err != nil || len(page.Letters) != 0 || page.Next == 0 || broker.requests > 1500 {
		t.Errorf("%+v, %v, %d requests", page, err, broker.requests)
	}
	if got, pages := newest(t, d, message.LetterFilter{ID: "id7"}); !slices.Equal(got, []uint64{7}) || pages < 2 {
		t.Errorf("%v on %d pages", got, pages)
	}

	for i := range uint64(n) {
		if !keep(i + 1) {
			sagatest.Must(t, broker.Remove(t.Context(), b.name+"_dead", i+1))
		}
	}
	for _, limit := range []int{1, 13, 50, 1000} {
		if got, _ := newest(t, d, message.LetterFilter{Limit: limit}); !slices.Equal(got, down(n, keep)) {
			t.Errorf("by %d: %v", limit, got)
		}
	}
	broker.requests = 0
	page, err = d.Newest(t.Context(), message.LetterFilter{Limit: 3}, 0)
	if err != nil || len(page.Letters) != 3 || page.Letters[0].Number != 2949 || page.Next != 2947 || broker.requests > 100 {
		t.Errorf("%+v, %v, %d requests", page, err, broker.requests)
	}
	if l := page.Letters[0]; l.Consumer != "mailer" || l.Reason != "reason 8" || l.Attempts != 3 || l.Time.IsZero() || l.Message.ID != "id2949" || l.Message.Subject != b.name+".placed" {
		t.Errorf("%+v", l)
	}
	for name, c := range map[string]struct {
		f     message.LetterFilter
		which func(i uint64) bool
	}{
		"of a consumer": {message.LetterFilter{Consumer: "ledger", Limit: 9}, func(i uint64) bool { return keep(i) && i%2 == 0 }},
		"of a reason":   {message.LetterFilter{Reason: "on 4", Limit: 9}, func(i uint64) bool { return keep(i) && i%10 == 5 }},
		"after":         {message.LetterFilter{After: 119, Limit: 9}, func(i uint64) bool { return keep(i) && i > 119 }},
		"after all":     {message.LetterFilter{After: 5000}, func(uint64) bool { return false }},
		"nobody":        {message.LetterFilter{Consumer: "nobody"}, func(uint64) bool { return false }},
	} {
		if got, _ := newest(t, d, c.f); !slices.Equal(got, down(n, c.which)) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, before := range []uint64{1, 2, 121, 500, 501, 2900, 1 << 63} {
		page, err := d.Newest(t.Context(), message.LetterFilter{Limit: 1}, before)
		want := down(min(before, n+1)-1, keep)
		if err != nil || len(want) > 0 != (len(page.Letters) == 1) || len(want) > 0 && page.Letters[0].Number != want[0] {
			t.Errorf("before %d: %+v, %v", before, page, err)
		}
	}
	for _, limit := range []int{-1, 1001} {
		if _, err := d.Newest(t.Context(), message.LetterFilter{Limit: limit}, 0); !errors.Is(err, message.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

// LatestActs returns the acts on all letters of a stream, the newest first, in pages.
func TestLatestActs(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		d, _ := b.letterStream(20)
		for i := range uint64(20) {
			if i%3 == 0 {
				_, err := d.Resend(t.Context(), operator, i+1)
				sagatest.Must(t, err)
				continue
			}
			_, err := d.Delete(t.Context(), message.By{Who: "bob", Why: fmt.Sprint("why ", i)}, i+1)
			sagatest.Must(t, err)
		}
		sqltest.Exec(t, db, "UPDATE saga_letter_acts SET acted_at = (SELECT at FROM (SELECT MIN(acted_at) AS at FROM saga_letter_acts) x) WHERE letter <= 10") // at one time
		other, err := message.NewDeadLetters(db, wrap(b.js), "other", "")
		sagatest.Must(t, err)
		if acts, next, err := other.LatestActs(t.Context(), "", 0); err != nil || len(acts) != 0 || next != "" {
			t.Errorf("%+v, %q, %v", acts, next, err)
		}
		for _, limit := range []int{1, 3, 20, 0} {
			var all []message.LetterAct
			for after := ""; ; {
				acts, next, err := d.LatestActs(t.Context(), after, limit)
				sagatest.Must(t, err)
				if all = append(all, acts...); next == "" {
					break
				}
				after = next
			}
			letters := map[uint64]bool{}
			for i, a := range all {
				letters[a.Letter] = true
				want := message.LetterAct{Stream: b.name, Consumer: []string{"ledger", "mailer"}[a.Letter%2], MessageID: fmt.Sprint("id", a.Letter), Number: 1,
					Act: "delete", Letter: a.Letter, Who: "bob", Why: fmt.Sprint("why ", a.Letter-1), ActedAt: a.ActedAt}
				if a.Letter%3 == 1 {
					want.Act, want.Who, want.Why = "resend", operator.Who, operator.Why
				}
				if a != want || a.ActedAt.IsZero() || i < 10 && a.Letter <= 10 {
					t.Errorf("by %d: %d: %+v", limit, i, a)
				}
				if i > 0 && cmp.Or(a.ActedAt.Compare(all[i-1].ActedAt), strings.Compare(all[i-1].Consumer, a.Consumer)) > 0 {
					t.Errorf("by %d: %+v is before %+v", limit, all[i-1], a)
				}
			}
			if len(all) != 20 || len(letters) != 20 {
				t.Errorf("by %d: %d acts on %d letters", limit, len(all), len(letters))
			}
		}
		if _, _, err := d.LatestActs(t.Context(), "x!", 1); !errors.Is(err, message.ErrInvalid) || !strings.Contains(err.Error(), "end of a page") {
			t.Errorf("%v", err)
		}
		if _, _, err := d.LatestActs(t.Context(), "", 1001); !errors.Is(err, message.ErrInvalid) {
			t.Errorf("%v", err)
		}
	})
}
