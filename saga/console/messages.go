package console

import (
	"net/http"

	"github.com/tccsaga/tccsaga/saga"
)

// messagesPage is the page of the messages: the outbox and the dead letters.
type messagesPage struct {
	Streams []streamRow
}

// streamRow is a stream with its number of dead letters.
type streamRow struct {
	Name    string
	Count   saga.Count
	Problem string // key of a text
}

// hasMessages reports whether the console shows messages.
func hasMessages(c Config) bool { return len(c.DeadLetters) > 0 }

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
	return v.render("messages", "nav.messages", http.StatusOK, messagesPage{Streams: streams(v)})
}

// messageNeeds returns which messages need a person, and what could not be asked.
func messageNeeds(v *visit) (needs []need, unknown []string) {
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
