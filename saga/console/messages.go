package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
)

// messagesPage is the page of the messages: the outbox and the dead letters.
type messagesPage struct {
	Outbox      bool // the outbox is known
	Stats       message.OutboxStats
	Problem     string // key of a text; empty if the outbox has answered
	Filter      message.OutboxFilter
	States      []message.OutboxState
	Messages    []message.OutboxMessage
	Next, First string
	Detail      string // why the search is not possible, by the outbox
	Streams     []streamRow
}

// streamRow is a stream with its number of dead letters.
type streamRow struct {
	Name    string
	Count   saga.Count
	Problem string // key of a text
}

var outboxStates = []message.OutboxState{message.OutboxUndecided, message.OutboxDelayed, message.OutboxDue, message.OutboxFailing}

// hasMessages reports whether the console shows messages.
func hasMessages(c Config) bool { return c.Outbox != nil || len(c.DeadLetters) > 0 }

// outboxStats returns the numbers of the outbox.
func outboxStats(v *visit) (message.OutboxStats, error) {
	return gate.Get(v.r.Context(), &v.cache, "outbox", 3*time.Second, slow, func(ctx context.Context) (message.OutboxStats, error) {
		return v.config.Outbox.Stats(ctx)
	})
}

// streams returns the streams with their dead letters.
func streams(v *visit) (rows []streamRow) {
	for _, name := range sorted(v.config.DeadLetters) {
		row := streamRow{Name: name}
		var err error
		if row.Count, err = countLetters(v, name); err != nil {
			v.config.Logger.Warn("console: dead letters could not be counted", "stream", name, "error", err)
			row.Problem = "error.broker"
		}
		rows = append(rows, row)
	}
	return rows
}

func messages(v *visit) error {
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	page := messagesPage{Outbox: v.config.Outbox != nil, States: outboxStates, Streams: streams(v)}
	status := http.StatusOK
	if page.Outbox {
		var err error
		if status, err = page.search(v); err != nil {
			return err
		}
	}
	return v.render("messages", "nav.messages", status, &page)
}

// search reads the outbox.
func (p *messagesPage) search(v *visit) (status int, err error) {
	get := func(name string) string { return strings.TrimSpace(v.r.URL.Query().Get(name)) }
	p.Filter = message.OutboxFilter{State: message.OutboxState(get("state")), Stream: get("stream"), After: get("after"), Limit: 50}
	if p.Stats, err = outboxStats(v); err != nil {
		v.config.Logger.Warn("console: the outbox could not be read", "error", err)
		p.Problem = "error.otherdatabase"
		return http.StatusOK, nil
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), slow)
	defer cancel()
	found, err := v.config.Outbox.List(ctx, p.Filter)
	switch {
	case errors.Is(err, message.ErrInvalid):
		p.Detail = err.Error()
		if !slices.Contains(outboxStates, p.Filter.State) {
			p.Filter.State = ""
		}
		return http.StatusBadRequest, nil
	case err != nil:
		return 0, err
	}
	link := func(after string) string {
		return v.link("messages", parameters([]string{"state", string(p.Filter.State), "stream", p.Filter.Stream, "after", after}))
	}
	p.Messages = found.Messages
	if found.Next != "" {
		p.Next = link(found.Next)
	}
	if p.Filter.After != "" {
		p.First = link("")
	}
	return http.StatusOK, nil
}

// messageNeeds returns which messages need a person, and what could not be asked.
func messageNeeds(v *visit) (needs []need, unknown []string) {
	if v.config.Outbox != nil {
		stats, err := outboxStats(v)
		switch {
		case err != nil:
			v.config.Logger.Warn("console: the outbox could not be read", "error", err)
			unknown = append(unknown, v.words.T("unknown.outbox"))
		case stats.Failing.N > 0:
			needs = append(needs, need{Key: "need.failing", N: stats.Failing.N, More: stats.Failing.More, Link: v.link("messages", parameters([]string{"state", "failing"})), Alarm: true})
		}
	}
	for _, s := range streams(v) {
		switch {
		case s.Problem != "":
			unknown = append(unknown, v.words.T("unknown.letters", s.Name))
		case s.Count.N > 0:
			needs = append(needs, need{Key: "need.letters", N: s.Count.N, More: s.Count.More, Text: s.Name,
				Link: v.link("letters", parameters([]string{"stream", s.Name})), Alarm: true})
		}
	}
	return needs, unknown
}
