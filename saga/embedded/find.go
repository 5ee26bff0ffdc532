package embedded

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// maxCount is the number up to which Count counts.
const maxCount = 1000

// Find returns the transactions that a query selects; see [saga.Query]. An error that matches
// [saga.ErrInvalid] says which field of the query is wrong.
//
// In PostgreSQL, a search by a Prefix is quick if the database compares text by its bytes, as
// with the collation C. In another collation, gids with the same prefix need not be neighbors,
// and the search may have to be continued more often.
func (v *viewer) Find(ctx context.Context, q saga.Query) (saga.Page, error) {
	search, err := searchOf(q)
	if err != nil {
		return saga.Page{}, txn.Wrap("find", "", txn.Invalid("%w", err))
	}
	found, err := v.log.Find(ctx, search)
	if err != nil {
		return saga.Page{}, txn.Wrap("find", "", err)
	}
	summaries, err := v.summaries(ctx, found.Records)
	if err != nil {
		return saga.Page{}, txn.Wrap("find", "", err)
	}
	return saga.Page{Transactions: summaries, Next: placeText(found.Next)}, nil
}

// Count counts the transactions that a query selects, up to 1,000. The Limit and the order of
// the query do not matter.
func (v *viewer) Count(ctx context.Context, q saga.Query) (saga.Count, error) {
	search, err := searchOf(q)
	if err != nil {
		return saga.Count{}, txn.Wrap("count", "", txn.Invalid("%w", err))
	}
	n, more, err := v.log.Count(ctx, search, maxCount)
	return saga.Count{N: n, More: more}, txn.Wrap("count", "", err)
}

// Actions returns acts of operators, on transactions and on kinds of branches, the newest first.
// The acts on a transaction are removed with it.
func (v *viewer) Actions(ctx context.Context, q saga.ActionQuery) (saga.ActionPage, error) {
	search, err := actSearchOf(q)
	if err != nil {
		return saga.ActionPage{}, txn.Wrap("actions", "", txn.Invalid("%w", err))
	}
	acts, next, err := v.log.FindActs(ctx, search)
	if err != nil {
		return saga.ActionPage{}, txn.Wrap("actions", "", err)
	}
	page := saga.ActionPage{Actions: make([]saga.ActionRecord, len(acts)), Next: actPlaceText(next)}
	for i, a := range acts {
		page.Actions[i] = saga.ActionRecord{Action: action(a), GID: a.GID, Kind: a.Kind, BulkID: a.BulkID}
	}
	return page, nil
}

func action(a txlog.Act) saga.Action {
	return saga.Action{Name: a.Name, Operator: saga.Operator{Who: a.Who, Why: a.Why}, BranchID: a.BranchID, Believed: saga.State(a.Believed), At: a.At}
}

// searchOf checks a query and applies its defaults.
func searchOf(q saga.Query) (txlog.Search, error) {
	s := txlog.Search{Pattern: q.Pattern, Prefix: q.Prefix, Unfinished: q.Unfinished || q.Attention || q.Paused, Attention: q.Attention, Paused: q.Paused,
		Kind: q.Kind, Owner: q.Owner, Label: q.Label, Value: q.Value, Text: q.Text, CreatedAfter: q.CreatedAfter, CreatedBefore: q.CreatedBefore,
		OldestFirst: q.OldestFirst}
	states, unfinished, err := stateNames(q.States)
	if err != nil {
		return s, err
	}
	s.States, s.Unfinished = states, s.Unfinished || unfinished
	if s.Limit, err = limitOf(q.Limit); err != nil {
		return s, err
	}
	if s.After, err = placeOf(q.After); err != nil {
		return s, err
	}
	switch {
	case q.Label != "" && q.Value == "":
		return s, fmt.Errorf("the label %.40q has no value: a search by a label needs both", q.Label)
	case q.Value != "" && saga.ValidateLabels(map[string]string{"x": q.Value}) != nil:
		return s, saga.ValidateLabels(map[string]string{cmp.Or(q.Label, "x"): q.Value})
	case q.Prefix != "" && barrier.ValidateGID(q.Prefix) != nil:
		return s, fmt.Errorf("the prefix: %w", barrier.ValidateGID(q.Prefix))
	case !utf8.ValidString(q.Text) || strings.Contains(q.Text, "\x00") || len(q.Text) > 1000:
		return s, fmt.Errorf("the text to search for must be UTF-8, of at most 1,000 bytes and without NUL")
	case outOfRange(q.CreatedAfter) || outOfRange(q.CreatedBefore):
		return s, fmt.Errorf("a time must be in the years 1970 to 9999")
	}
	for _, f := range []struct{ name, value string }{{"pattern", q.Pattern}, {"kind", q.Kind}, {"owner", q.Owner}, {"label", q.Label}} {
		if len(f.value) > 128 || strings.ContainsFunc(f.value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return s, fmt.Errorf("the %s %.40q must be printable ASCII text of at most 128 characters", f.name, f.value)
		}
	}
	return s, nil
}

// outOfRange reports whether a database may not be able to compare a time.
func outOfRange(t time.Time) bool {
	return !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999)
}

// stateNames returns the states as the log has them, and whether all of them are unfinished.
func stateNames(states []saga.State) (names []string, unfinished bool, err error) {
	unfinished = len(states) > 0
	for _, s := range states {
		if !slices.Contains([]saga.State{saga.Trying, saga.Confirming, saga.Confirmed, saga.Cancelling, saga.Cancelled}, s) {
			return nil, false, fmt.Errorf("unknown state %.40q", string(s))
		}
		names = append(names, string(s))
		unfinished = unfinished && !s.Finished()
	}
	return names, unfinished, nil
}

func limitOf(limit int) (int, error) {
	switch {
	case limit < 0 || limit > 1000:
		return 0, fmt.Errorf("the limit is %d, it must be between 0 and 1,000", limit)
	case limit == 0:
		return 50, nil
	}
	return limit, nil
}

// placeText writes a place for Query.After.
func placeText(p txlog.Place) string {
	if (p == txlog.Place{}) {
		return ""
	}
	return strconv.FormatInt(p.Micros, 10) + "." + p.GID
}

func placeOf(text string) (p txlog.Place, err error) {
	if text == "" {
		return p, nil
	}
	micros, gid, _ := strings.Cut(text, ".")
	p.GID = gid
	p.Micros, err = strconv.ParseInt(micros, 10, 64)
	if err != nil || p.Micros < 0 || barrier.ValidateGID(gid) != nil || outOfRange(time.UnixMicro(p.Micros)) {
		return p, fmt.Errorf("%.80q is not the Next of a page", text)
	}
	return p, nil
}

// actSearchOf checks a query of acts and applies its defaults.
func actSearchOf(q saga.ActionQuery) (s txlog.ActSearch, err error) {
	s = txlog.ActSearch{GID: q.GID, Kind: q.Kind, Who: q.Who, Name: q.Name, BulkID: q.BulkID}
	for _, f := range []struct{ name, value string }{{"gid", q.GID}, {"kind", q.Kind}, {"act", q.Name}, {"bulk id", q.BulkID}} {
		if len(f.value) > 128 || strings.ContainsFunc(f.value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return s, fmt.Errorf("the %s %.40q must be printable ASCII text of at most 128 characters", f.name, f.value)
		}
	}
	if !utf8.ValidString(q.Who) || utf8.RuneCountInString(q.Who) > 128 || strings.Contains(q.Who, "\x00") {
		return s, fmt.Errorf("who must be UTF-8 text of at most 128 characters, without NUL")
	}
	if s.Limit, err = limitOf(q.Limit); err != nil {
		return s, err
	}
	s.After, err = actPlaceOf(q.After)
	return s, err
}

// actPlaceText writes a place for ActionQuery.After. Of the GID and the Kind one is empty.
func actPlaceText(p txlog.ActPlace) string {
	if (p == txlog.ActPlace{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d.%s.%s", p.Micros, p.Number, p.Kind, p.GID)
}

func actPlaceOf(text string) (p txlog.ActPlace, err error) {
	if text == "" {
		return p, nil
	}
	bad := fmt.Errorf("%.80q is not the Next of a page", text)
	parts := strings.SplitN(text, ".", 3)
	if len(parts) != 3 {
		return p, bad
	}
	if p.Micros, err = strconv.ParseInt(parts[0], 10, 64); err != nil || p.Micros < 0 || outOfRange(time.UnixMicro(p.Micros)) {
		return p, bad
	}
	if p.Number, err = strconv.Atoi(parts[1]); err != nil {
		return p, bad
	}
	switch rest := parts[2]; {
	case strings.HasPrefix(rest, ".") && barrier.ValidateGID(rest[1:]) == nil:
		p.GID = rest[1:]
	case strings.HasSuffix(rest, ".") && saga.ValidateKind(rest[:len(rest)-1]) == nil:
		p.Kind = rest[:len(rest)-1]
	default:
		return p, bad
	}
	return p, nil
}
