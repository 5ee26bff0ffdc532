package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

// operator has the flags of every act.
type operator struct {
	who, why    string
	dryRun, yes bool
}

func (o *operator) addFlags(s *session, c *cobra.Command) {
	c.Flags().StringVar(&o.who, "who", "", "`name` of the person who acts; defaults to $"+s.env("WHO")+", the profile, or user@host")
	c.Flags().StringVar(&o.why, "why", "", "the `reason`, which is recorded; required")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would be done, or why it would be refused")
	c.Flags().BoolVar(&o.yes, "yes", false, "do not ask for a confirmation")
}

// by returns who acts, and why.
func (o *operator) by(s *session) (saga.Operator, error) {
	by := saga.Operator{Who: o.who, Why: strings.TrimSpace(o.why)}
	if by.Who == "" {
		by.Who = s.defaultWho()
	}
	if by.Why == "" && !o.dryRun {
		return by, usage("--why is missing: each act is recorded with its reason")
	}
	return by, nil
}

// confirm asks a person whether to go on. A program has to give --yes.
func (o *operator) confirm(s *session, question string) error {
	if o.yes {
		return nil
	}
	if !term.IsTerminal(s.config.In) {
		return usage("this needs a confirmation: add --yes, because nobody can be asked: %s", question)
	}
	if !term.Ask(s.config.In, s.config.Err, question) {
		return &codeError{CodeDeclined, errors.New("not confirmed: nothing was done")}
	}
	return nil
}

// actResult says what an act has done.
type actResult struct {
	GID    string     `json:"gid,omitempty"`
	Kind   string     `json:"kind,omitempty"`
	Act    string     `json:"act"`
	Result string     `json:"result"`          // done, refused, failed or would be done
	Error  string     `json:"error,omitempty"` // why it was refused or failed
	State  saga.State `json:"state,omitempty"` // of the transaction afterwards
	DryRun bool       `json:"dry_run,omitempty"`
}

// act is an act on one transaction.
type act struct {
	name, short, long string
	asks              bool // a person has to confirm it
	do                func(ctx context.Context, s *session, gid string, by saga.Operator) error
}

// actCommands returns a command for each act on a transaction.
func actCommands(s *session) (commands []*cobra.Command) {
	for _, a := range []act{
		{"retry", "Make every branch that is not done due now, and clear the attention", "", false,
			func(ctx context.Context, s *session, gid string, by saga.Operator) error {
				return s.ops.Retry(ctx, gid, by)
			}},
		{"pause", "Call no branch until it is resumed", "An undecided transaction is cancelled at its deadline all the same, and its Cancels wait.", false,
			func(ctx context.Context, s *session, gid string, by saga.Operator) error {
				return s.ops.Pause(ctx, gid, by)
			}},
		{"resume", "Undo pause", "", false,
			func(ctx context.Context, s *session, gid string, by saga.Operator) error {
				return s.ops.Resume(ctx, gid, by)
			}},
		{"confirm", "Decide an undecided transaction: confirm it", "This cannot be undone.", true,
			func(ctx context.Context, s *session, gid string, by saga.Operator) error {
				_, err := s.ops.Decide(ctx, gid, saga.Confirming, by)
				return err
			}},
		{"cancel", "Decide an undecided transaction: cancel it", "This cannot be undone.", true,
			func(ctx context.Context, s *session, gid string, by saga.Operator) error {
				_, err := s.ops.Decide(ctx, gid, saga.Cancelling, by)
				return err
			}},
	} {
		commands = append(commands, a.command(s))
	}
	return append(commands, resolveCommand(s))
}

func (a act) command(s *session) *cobra.Command {
	var o operator
	c := &cobra.Command{Use: a.name + " GID...", Short: a.short, Args: someArgs("the gid of a transaction", 1, -1),
		Long: strings.TrimSpace(a.short + ". " + a.long + `

Each act is recorded with who and why, in the local transaction that does it. A running engine sees it
and drives the transaction. With several gids, each is acted on, and the exit code is that of the first
one that was refused or failed.`)}
	o.addFlags(s, c)
	c.RunE = s.run(func(ctx context.Context, gids []string) error {
		by, err := o.by(s)
		if err != nil {
			return err
		}
		if a.asks && !o.dryRun {
			if err := o.confirm(s, fmt.Sprintf("%s %s? This cannot be undone.", a.name, some(gids))); err != nil {
				return err
			}
		}
		var first error
		results := []actResult{}
		for _, gid := range gids {
			result, err := actOn(ctx, s, a.name, gid, "", o.dryRun, func() error { return a.do(ctx, s, gid, by) })
			if first == nil {
				first = err
			}
			if results = append(results, result); len(gids) == 1 || s.flags.output != "json" {
				if failure := report(s, result); failure != nil {
					return failure
				}
			}
			if err != nil && len(gids) > 1 && s.flags.output == "table" {
				s.warn("%v", err)
			}
		}
		if len(gids) > 1 && s.flags.output == "json" {
			if err := encode(s.config.Out, results, "  "); err != nil {
				return err
			}
		}
		if first != nil && len(gids) > 1 {
			return &codeError{ExitCode(first), fmt.Errorf("not all was done; the first fault: %w", first)}
		}
		return first
	})
	return c
}

// some names the first few of many.
func some(gids []string) string {
	if len(gids) <= 3 {
		return strings.Join(gids, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(gids[:2], ", "), len(gids)-2)
}

// actOn does an act on a transaction, or finds out whether it would be refused. The error is that of
// the act.
func actOn(ctx context.Context, s *session, name, gid, branchID string, dryRun bool, do func() error) (result actResult, err error) {
	result = actResult{GID: gid, Act: name, Result: "done", DryRun: dryRun}
	if dryRun {
		result.Result = "would be done"
		var t *saga.Transaction
		if t, err = lookup(ctx, s, gid); err == nil {
			if why := s.ops.Refusal(t, name, branchID); why != "" {
				err = fmt.Errorf("%s %s: %s: %w", name, gid, why, saga.ErrRefused)
			}
		}
	} else if err = do(); err != nil && ExitCode(err) == CodeFailed || ExitCode(err) == CodeTimeout {
		err = fmt.Errorf("it is not known whether the act was done; look at the transaction: %w", err)
	}
	result.fail(err)
	// After the end of ctx, the state may be of interest all the same.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if t, lookErr := s.ops.Lookup(after, gid); lookErr == nil {
		result.State = t.State
	}
	return result, err
}

// fail notes the error of an act.
func (r *actResult) fail(err error) {
	if err == nil {
		return
	}
	r.Result, r.Error = "failed", err.Error()
	if code := ExitCode(err); code == CodeRefused || code == CodeNotFound || code == CodeUsage {
		r.Result = "refused"
	}
}

// report says what an act has done. For people, the error says what it has not done.
func report(s *session, r actResult) error {
	return s.write(r, func(w term.Screen) {
		if r.Error != "" {
			return
		}
		text := fmt.Sprintf("%s of %s: %s", r.Act, r.GID+r.Kind, r.Result)
		if r.State != "" {
			text += "; it is " + string(r.State)
		}
		fmt.Fprintln(w, term.Clean(text))
	})
}

func resolveCommand(s *session) *cobra.Command {
	var o operator
	var branchID, believed string
	c := &cobra.Command{Use: "resolve GID", Short: "End a conflict: state the result of one branch", Args: someArgs("the gid of a transaction", 1, 1),
		Long: `End a conflict, which no retry can end: state the result of one branch of a decided transaction. The
transaction continues without calling that branch. Believe "confirmed" if the effect of the branch is
there, and "cancelled" if nothing of it is left. This cannot be undone.

The barrier row is checked only if the program knows the kind of the branch.`}
	o.addFlags(s, c)
	c.Flags().StringVar(&branchID, "branch", "", "`id` of the branch, such as 02; required")
	c.Flags().StringVar(&believed, "believed", "", "`result` of the branch: confirmed or cancelled; required")
	complete(c, "believed", "confirmed", "cancelled")
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		by, err := o.by(s)
		if err != nil {
			return err
		}
		if branchID == "" {
			return usage("--branch is missing")
		}
		if err = oneOf("--believed", believed, "confirmed", "cancelled"); err != nil {
			return err
		}
		if !o.dryRun {
			if err = o.confirm(s, fmt.Sprintf("record that branch %s of %s is %s? This cannot be undone.", branchID, args[0], believed)); err != nil {
				return err
			}
		}
		result, err := actOn(ctx, s, "resolve", args[0], branchID, o.dryRun, func() error {
			return s.ops.Resolve(ctx, args[0], branchID, saga.State(believed), by)
		})
		return cmp.Or(report(s, result), err)
	})
	return c
}
