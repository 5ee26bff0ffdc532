package ctl

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
)

// filter has the flags that select transactions.
type filter struct {
	states                              []string
	all, attention, paused, oldest      bool
	kind, owner, pattern, prefix, label string
	value, text, since, before          string
}

func (f *filter) addFlags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only these `states`: trying, confirming, confirmed, cancelling, cancelled")
	flags.BoolVar(&f.all, "all", false, "finished transactions too; without it and without --state they are left out")
	flags.BoolVar(&f.attention, "attention", false, "only those that need an operator")
	flags.BoolVar(&f.paused, "paused", false, "only those that an operator has paused")
	flags.StringVar(&f.kind, "kind", "", "only those with a branch of this `kind`")
	flags.StringVar(&f.owner, "owner", "", "only those that this `instance` drives or has driven")
	flags.StringVar(&f.pattern, "pattern", "", "only those of this `pattern`: tcc, saga, ...")
	flags.StringVar(&f.prefix, "prefix", "", "only gids that begin with this `text`; the order is then that of the gids, the greatest first")
	flags.StringVar(&f.label, "label", "", "only those with this label, `name=value`; for any value, the name alone")
	flags.StringVar(&f.value, "value", "", "only those with this `value` of any label")
	flags.StringVar(&f.text, "text", "", "only those with this `text` in an error, a reason of a cancel, or an attention")
	flags.StringVar(&f.since, "since", "", "only those begun after this `time`: 15m, 36h, 2026-01-31, or 2026-01-31T10:00:00Z")
	flags.StringVar(&f.before, "before", "", "only those begun before this `time`, as --since")
	flags.BoolVar(&f.oldest, "oldest", false, "the oldest first")
	complete(c, "state", "trying", "confirming", "confirmed", "cancelling", "cancelled")
}

// complete completes the values of a flag.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// query returns the conditions. Times before now are by the database's clock.
func (f *filter) query(s *session) (saga.Query, error) {
	q := saga.Query{Attention: f.attention, Paused: f.paused, Kind: f.kind, Owner: f.owner, Pattern: f.pattern, Prefix: f.prefix,
		Value: f.value, Text: f.text, OldestFirst: f.oldest, Unfinished: !f.all && len(f.states) == 0}
	if f.all && len(f.states) > 0 {
		return q, usage("--all and --state are both set: --state names finished states too")
	}
	for _, state := range f.states {
		if err := oneOf("--state", state, "trying", "confirming", "confirmed", "cancelling", "cancelled"); err != nil {
			return q, err
		}
		q.States = append(q.States, saga.State(state))
	}
	if f.label != "" {
		if f.value != "" {
			return q, usage("--label and --value are both set: use --label name=value")
		}
		q.Label, q.Value, _ = strings.Cut(f.label, "=")
	}
	var err error
	if q.CreatedAfter, err = instant(s, "--since", f.since); err != nil {
		return q, err
	}
	q.CreatedBefore, err = instant(s, "--before", f.before)
	return q, err
}

// instant reads a time: a duration before now, a date or a time.
func instant(s *session, flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return time.Time{}, usage("%s is a negative duration", flag)
		}
		return s.now.Add(-d), nil
	}
	zone := time.UTC
	if s.flags.local {
		zone = time.Local
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("%s is %q, it must be a duration such as 15m, a date such as 2026-01-31, or a time such as 2026-01-31T10:00:00Z", flag, text)
}
