package message

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Publish asks for a message to be published if, and only if, the transaction
// is confirmed.
type Publish struct {
	// Subject to publish on: one that the stream carries, without wildcards.
	Subject string

	// Data is the message.
	Data []byte

	// Headers of the message. Names that begin with Tccsaga- are reserved. The
	// broker decides about those that it defines itself; see package natsjs.
	Headers map[string][]string

	// Key orders messages: those of one stream with the same Key are published
	// in the order in which their transactions are decided. Empty is no order
	// between transactions. At most 200 bytes. It needs the outbox in the
	// engine's own database. See the package documentation.
	Key string

	// After delays the message: it is published at this time after its Confirm,
	// or up to about a second later, by the clock of the outbox's database. The
	// transaction is confirmed without waiting for that. Zero publishes at once.
	// At most ten years. A delayed message has no order, and no Key.
	After time.Duration

	// Kind is the kind of branch that publishes it, if it is not that of the
	// default publisher; see [Config.Kind].
	Kind string
}

// DefaultKind is the kind of branch of a [Publisher] without a [Config.Kind].
const DefaultKind = "message.publish"

// Branch returns the kind of branch: Kind, or else [DefaultKind].
func (p Publish) Branch() string {
	if p.Kind != "" {
		return p.Kind
	}
	return DefaultKind
}

// stored is how the log holds a Publish: with its data as text where it is
// text, because people read the log.
type stored struct {
	Subject string              `json:"subject"`
	Text    *string             `json:"text,omitempty"`
	Data    []byte              `json:"data,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
	Key     string              `json:"key,omitempty"`
	After   string              `json:"after,omitempty"` // such as 1h30m0s
	Kind    string              `json:"kind,omitempty"`
}

// MarshalJSON writes the data as "text" if it is UTF-8, and else, in base64, as
// "data".
func (p Publish) MarshalJSON() ([]byte, error) {
	s := stored{Subject: p.Subject, Headers: p.Headers, Key: p.Key, Kind: p.Kind}
	if p.After != 0 {
		s.After = p.After.String()
	}
	if utf8.Valid(p.Data) {
		text := string(p.Data)
		s.Text = &text
	} else {
		s.Data = p.Data
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (p *Publish) UnmarshalJSON(text []byte) error {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*p = Publish{Subject: s.Subject, Data: s.Data, Headers: s.Headers, Key: s.Key, Kind: s.Kind}
	if s.Text != nil {
		p.Data = []byte(*s.Text)
	}
	if s.After != "" {
		after, err := time.ParseDuration(s.After)
		if err != nil {
			return fmt.Errorf("the field after: %w", err)
		}
		p.After = after
	}
	return nil
}
