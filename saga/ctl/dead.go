package ctl

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

// outboxDB returns the database of the outbox.
func outboxDB(s *session) *gorm.DB {
	if s.config.Outbox != nil {
		return s.config.Outbox
	}
	return s.db
}

// openLetters has the flags of commands on dead letters.
type letters struct{ nats, stream, dead string }

func deadCommand(s *session) *cobra.Command {
	l := &letters{}
	c := group("dead", "Dead letters of the message broker: list, show, resend, delete",
		deadList(s, l), deadShow(s, l),
		deadAct(s, l, "resend", "Send dead letters again, to the consumer that could not handle them", (*message.DeadLetters).Resend),
		deadAct(s, l, "delete", "Remove dead letters for good", (*message.DeadLetters).Delete))
	l.addFlags(s, c.PersistentFlags())
	return c
}

func (l *letters) addFlags(s *session, f *pflag.FlagSet) {
	f.StringVar(&l.nats, "nats", "", "`URL` of the NATS server, nats://user:password@host:port; defaults to $"+s.env("NATS")+" or the profile")
	f.StringVar(&l.stream, "stream", "", "`stream` of the messages; defaults to $"+s.env("STREAM")+" or the profile")
	f.StringVar(&l.dead, "dead-stream", "", "`stream` of the dead letters; defaults to STREAM_dead")
}

func natsAddress(s *session, l *letters) string {
	return cmp.Or(l.nats, s.config.Getenv(s.env("NATS")), s.profile.NATS)
}

func streamOf(s *session, l *letters) string {
	return cmp.Or(l.stream, s.config.Getenv(s.env("STREAM")), s.profile.Stream)
}

// openLetters opens the dead letters.
func openLetters(ctx context.Context, s *session, l *letters) (d *message.DeadLetters, close func(), err error) {
	stream := streamOf(s, l)
	if stream == "" {
		return nil, nil, usage("no stream is given: use --stream, $%s, or the profile", s.env("STREAM"))
	}
	b, close, err := s.config.Broker(ctx, natsAddress(s, l))
	switch {
	case err == nil:
	case errors.Is(err, saga.ErrInvalid):
		return nil, nil, usage("%w", err)
	default:
		return nil, nil, &codeError{CodeUnreachable, err}
	}
	if d, err = message.NewDeadLetters(outboxDB(s), b, stream, l.dead); err != nil {
		close()
		return nil, nil, err
	}
	return d, close, nil
}

// letter is a dead letter in JSON.
type letter struct {
	Number      uint64              `json:"number"`
	Time        time.Time           `json:"time"`
	Consumer    string              `json:"consumer"`
	Reason      string              `json:"reason"`
	Attempts    int                 `json:"attempts"`
	ID          string              `json:"id"`
	Subject     string              `json:"subject"`
	Stream      string              `json:"stream,omitempty"`
	Sequence    uint64              `json:"sequence,omitempty"`
	WithoutData bool                `json:"without_data,omitempty"`
	Headers     map[string][]string `json:"headers,omitempty"`
	Text        string              `json:"text,omitempty"` // the data, if it is text
	Data        string              `json:"data,omitempty"` // the data in base64, if it is not text
}

// letterOf returns a letter for JSON; with its data and headers if whole is true.
func letterOf(l message.Letter, whole bool) letter {
	out := letter{Number: l.Number, Time: l.Time, Consumer: l.Consumer, Reason: l.Reason, Attempts: l.Attempts, ID: l.Message.ID,
		Subject: l.Message.Subject, Stream: l.Message.Stream, Sequence: l.Message.Sequence, WithoutData: l.WithoutData}
	if whole {
		out.Headers = l.Message.Headers
		if utf8.Valid(l.Message.Data) {
			out.Text = string(l.Message.Data)
		} else {
			out.Data = base64.StdEncoding.EncodeToString(l.Message.Data)
		}
	}
	return out
}

func deadList(s *session, l *letters) *cobra.Command {
	var f message.LetterFilter
	var limit int
	var since, before string
	c := &cobra.Command{Use: "list", Short: "List dead letters, the oldest first", Args: noArgs}
	flags := c.Flags()
	flags.StringVar(&f.Consumer, "consumer", "", "only those of this `consumer`")
	flags.StringVar(&f.Subject, "subject", "", "only those published on this `subject`")
	flags.StringVar(&f.ID, "id", "", "only those of the message with this `id`")
	flags.StringVar(&f.Reason, "text", "", "only those with this `text` in the reason")
	flags.StringVar(&since, "since", "", "only those dead since this `time`: 15m, 2026-01-31, or 2026-01-31T10:00:00Z")
	flags.StringVar(&before, "before", "", "only those dead before this `time`")
	flags.Uint64Var(&f.After, "after", 0, "only letters with a higher `number`")
	flags.IntVar(&limit, "limit", 50, "the `most` to list; 0 is no limit")
	c.RunE = runDead(s, l, func(ctx context.Context, d *message.DeadLetters, _ []string) (err error) {
		if f.Since, err = instant(s, "--since", since); err != nil {
			return err
		}
		if f.Before, err = instant(s, "--before", before); err != nil {
			return err
		}
		if limit < 0 {
			return usage("--limit is negative")
		}
		start := ""
		if f.After > 0 {
			start = strconv.FormatUint(f.After, 10)
		}
		return list[letter]{name: "letters", limit: limit, after: start, header: []string{"number", "dead", "consumer", "subject", "id", "attempts", "reason"}, empty: "no dead letter matches",
			row: func(_ term.Screen, l letter) []string {
				return []string{strconv.FormatUint(l.Number, 10), s.times().Distance(l.Time), term.Clean(l.Consumer), term.Clean(l.Subject), term.Clean(l.ID), itoa(l.Attempts), term.Clean(l.Reason)}
			},
			page: func(ctx context.Context, after string, limit int) (items []letter, next string, err error) {
				f.After, _ = strconv.ParseUint(cmp.Or(after, "0"), 10, 64)
				f.Limit = limit
				found, err := d.List(ctx, f)
				if err != nil {
					return nil, "", err
				}
				for _, l := range found {
					items = append(items, letterOf(l, false))
				}
				if len(found) == limit {
					next = strconv.FormatUint(found[len(found)-1].Number, 10)
				}
				return items, next, nil
			}}.show(ctx, s)
	})
	return c
}

// runDead returns the work of a command on dead letters.
func runDead(s *session, l *letters, work func(ctx context.Context, d *message.DeadLetters, args []string) error) func(*cobra.Command, []string) error {
	return s.run(func(ctx context.Context, args []string) error {
		d, close, err := openLetters(ctx, s, l)
		if err != nil {
			return err
		}
		defer close()
		return work(ctx, d, args)
	})
}

// letterNumbers reads the numbers of letters.
func letterNumbers(args []string) (numbers []uint64, err error) {
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, usage("%q is not the number of a dead letter: see \"dead list\"", arg)
		}
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

func deadShow(s *session, l *letters) *cobra.Command {
	c := &cobra.Command{Use: "show NUMBER", Short: "Show a dead letter with its data, and the acts on it", Args: someArgs("the number of a dead letter", 1, 1)}
	c.RunE = runDead(s, l, func(ctx context.Context, d *message.DeadLetters, args []string) error {
		numbers, err := letterNumbers(args)
		if err != nil {
			return err
		}
		found, err := d.Get(ctx, numbers[0])
		if err != nil {
			return err
		}
		acts, err := d.Acts(ctx, found.Message.ID)
		if err != nil {
			return err
		}
		shown := letterOf(found, true)
		return s.write(shown, func(w term.Screen) {
			line := func(name, value string) { fmt.Fprintf(w, "  %-9s %s\n", name, w.Wrap(term.Clean(value), 12)) }
			fmt.Fprintln(w, w.Paint(term.Title, fmt.Sprintf("dead letter %d", shown.Number)))
			line("reason", shown.Reason)
			line("consumer", shown.Consumer)
			line("attempts", itoa(shown.Attempts))
			line("dead", s.times().At(shown.Time))
			line("subject", shown.Subject)
			line("id", shown.ID)
			for _, name := range slices.Sorted(maps.Keys(shown.Headers)) {
				line("header", name+": "+strings.Join(shown.Headers[name], ", "))
			}
			for _, a := range acts {
				line("act", fmt.Sprintf("%s by %s, %s: %s", a.Act, a.Who, s.times().At(a.ActedAt), a.Why))
			}
			if shown.Data != "" {
				line("data", "(base64) "+shown.Data)
			} else {
				line("data", shown.Text)
			}
		})
	})
	return c
}

func deadAct(s *session, l *letters, name, short string, do func(*message.DeadLetters, context.Context, message.By, ...uint64) (int, error)) *cobra.Command {
	var o operator
	c := &cobra.Command{Use: name + " NUMBER...", Short: short, Args: someArgs("the number of a dead letter", 1, -1)}
	o.addFlags(s, c)
	c.RunE = runDead(s, l, func(ctx context.Context, d *message.DeadLetters, args []string) error {
		by, err := o.by(s)
		if err != nil {
			return err
		}
		numbers, err := letterNumbers(args)
		if err != nil {
			return err
		}
		result := struct {
			Act    string   `json:"act"`
			Number []uint64 `json:"numbers"`
			Done   int      `json:"done"`
			Error  string   `json:"error,omitempty"`
			DryRun bool     `json:"dry_run,omitempty"`
		}{Act: name, Number: numbers, DryRun: o.dryRun}
		if o.dryRun {
			for _, n := range numbers {
				if _, err = d.Get(ctx, n); err != nil {
					return err
				}
			}
		} else {
			if name == "delete" {
				if err = o.confirm(s, fmt.Sprintf("delete %s for good?", plural(len(numbers), "dead letter", "dead letters"))); err != nil {
					return err
				}
			}
			result.Done, err = do(d, ctx, message.By(by), numbers...)
		}
		if err != nil {
			result.Error = err.Error()
		}
		if writeErr := s.write(result, func(w term.Screen) {
			if o.dryRun {
				fmt.Fprintf(w, "%s: would be done on %s\n", name, plural(len(numbers), "dead letter", "dead letters"))
				return
			}
			fmt.Fprintf(w, "%s: done on %d of %s\n", name, result.Done, plural(len(numbers), "dead letter", "dead letters"))
		}); writeErr != nil {
			return writeErr
		}
		return err
	})
	return c
}
