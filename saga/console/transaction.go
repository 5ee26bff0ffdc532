package console

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/console/internal/search"
	"github.com/tccsaga/tccsaga/saga/console/internal/sentence"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
	"github.com/tccsaga/tccsaga/saga/explain"
)

// transactionPage is the page of a transaction.
type transactionPage struct {
	*saga.Transaction
	Diagnosis  string
	Past, Next []event
	Rows       []branchRow
	Labels     []label
	ParentGID  string // if the parent is in the same log
	Acts       []act
	SQL        []explain.Statement
	NoExport   string // why it cannot be exported
	Dialect    string
}

// event is an event of the timeline.
type event struct {
	explain.Event
	Text string
}

// branchRow is a branch in the table.
type branchRow struct {
	saga.BranchView
	Sentence string
	Standing explain.Standing
	Payload  document
	Result   document
}

// document is JSON as a page shows it.
type document struct {
	Text string
	Long bool
}

// label is a label, with the transactions that have the same one.
type label struct{ Name, Value, Link string }

// act is an act that a person can do here, or why not.
type act struct {
	Name     string
	BranchID string
	Refused  string // why the engine would refuse it
	Denied   string // why this person may not
}

// maxShown is the length of a document that is shown at once.
const maxShown = 400

func (v *visit) writer() sentence.Writer {
	return sentence.Writer{Printer: v.words, Time: words.UTC}
}

// gid returns the gid of the request.
func (v *visit) gid() (string, error) {
	gid := v.r.FormValue("gid")
	if err := barrier.ValidateGID(gid); err != nil {
		return "", &problem{status: http.StatusNotFound, key: "error.gid", detail: err.Error()}
	}
	return gid, nil
}

func transaction(v *visit) error {
	gid, err := v.gid()
	if err != nil {
		return err
	}
	t, err := v.ops.Lookup(v.r.Context(), gid)
	if err != nil {
		return err
	}
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	w := v.writer()
	page := transactionPage{Transaction: t, Diagnosis: w.Diagnosis(explain.Diagnose(t)), SQL: explain.SQL(v.dialect, gid), Dialect: v.dialect,
		NoExport: v.denied(Export)}
	for _, e := range explain.Timeline(t) {
		shown := event{e, w.Event(e)}
		if e.IsPlanned() {
			page.Next = append(page.Next, shown)
		} else {
			page.Past = append(page.Past, shown)
		}
	}
	for _, b := range t.Branches {
		s := explain.Branch(t, b)
		page.Rows = append(page.Rows, branchRow{b, w.Standing(s), s, v.document(b.Kind, b.Payload), v.document(b.Kind, b.Result)})
	}
	for _, name := range sorted(t.Labels) {
		page.Labels = append(page.Labels, label{name, t.Labels[name], v.link("transactions",
			url.Values{search.Label: {name}, search.Value: {t.Labels[name]}, search.Show: {"all"}})})
	}
	if parts := strings.Split(t.Parent, "/"); len(parts) == 3 && parts[0] == v.ops.LogID() {
		page.ParentGID = parts[1]
	}
	page.Acts = v.acts(t)
	return v.render("transaction", "title.transaction", http.StatusOK, &page)
}

// acts returns the acts on a transaction. A resolve is left out for a branch without a conflict.
func (v *visit) acts(t *saga.Transaction) (acts []act) {
	add := func(verb Verb, branchID string) {
		acts = append(acts, act{string(verb), branchID, v.ops.Refusal(t, string(verb), branchID), v.denied(verb)})
	}
	for _, verb := range []Verb{Retry, Pause, Resume, Confirm, Cancel} {
		add(verb, "")
	}
	for _, b := range t.Branches {
		if s := explain.Branch(t, b); s.Conflict {
			add(Resolve, b.ID)
		}
	}
	return acts
}

// document returns a payload, a result or the data of a message as the page shows it.
func (v *visit) document(kind string, data []byte) document {
	if len(data) == 0 {
		return document{}
	}
	data = v.config.Redact(kind, bytes.Clone(data))
	var pretty bytes.Buffer
	if json.Indent(&pretty, data, "", "  ") == nil {
		data = pretty.Bytes()
	}
	text := strings.ToValidUTF8(string(data), "\uFFFD")
	return document{text, len(text) > maxShown || strings.Count(text, "\n") > 12}
}

// export sends a transaction as JSON.
func export(v *visit) error {
	gid, err := v.gid()
	if err != nil {
		return err
	}
	t, err := v.ops.Lookup(v.r.Context(), gid)
	if err != nil {
		return err
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		b.Payload, b.Result = v.redacted(b.Kind, b.Payload), v.redacted(b.Kind, b.Result)
	}
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"\/:*?<>|%;`, r) {
			return '_'
		}
		return r
	}, gid)
	v.w.Header().Set("Content-Type", "application/json")
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "transaction-" + name + ".json"}))
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(append(text, '\n'))
	}
	return nil
}

// redacted returns JSON that a person may see. What is not JSON afterwards becomes a string.
func (v *visit) redacted(kind string, data json.RawMessage) json.RawMessage {
	if len(data) == 0 {
		return data
	}
	shown := v.config.Redact(kind, bytes.Clone(data))
	if json.Valid(shown) {
		return shown
	}
	text, err := json.Marshal(string(shown))
	if err != nil {
		return nil
	}
	return text
}

// actOnTransaction does an act on a transaction that the sender has seen in a state.
func actOnTransaction(v *visit) error {
	verb := Verb(v.r.PostFormValue("act"))
	switch verb {
	case Retry, Pause, Resume, Confirm, Cancel, Resolve:
	default:
		return &problem{status: http.StatusBadRequest, key: "error.act"}
	}
	if err := v.demand(verb); err != nil {
		return err
	}
	gid, err := v.gid()
	if err != nil {
		return err
	}
	back := v.link("transaction", url.Values{"gid": {gid}})
	why, err := v.reason()
	if err != nil {
		return err
	}
	ctx, by := v.r.Context(), saga.Operator{Who: v.who, Why: why}
	t, err := v.ops.Lookup(ctx, gid)
	if err != nil {
		return err
	}
	if seen := v.r.PostFormValue("seen"); seen != "" && seen != seenAs(t) {
		return &problem{status: http.StatusConflict, key: "error.changed", args: []any{v.writer().State(t.State)}, typed: why, back: back}
	}
	switch verb {
	case Retry:
		err = v.ops.Retry(ctx, gid, by)
	case Pause:
		err = v.ops.Pause(ctx, gid, by)
	case Resume:
		err = v.ops.Resume(ctx, gid, by)
	case Confirm:
		_, err = v.ops.Decide(ctx, gid, saga.Confirming, by)
	case Cancel:
		_, err = v.ops.Decide(ctx, gid, saga.Cancelling, by)
	case Resolve:
		err = v.ops.Resolve(ctx, gid, v.r.PostFormValue("branch"), saga.State(v.r.PostFormValue("believed")), by)
	}
	if err != nil {
		return withForm(err, why, back)
	}
	return v.done(string(verb), "transaction", url.Values{"gid": {gid}})
}

// seenAs says how a person sees a transaction. An act is refused if it has changed meanwhile.
func seenAs(t *saga.Transaction) string {
	if t.PausedAt.IsZero() {
		return string(t.State)
	}
	return string(t.State) + "+paused"
}

// Seen returns how a person sees the transaction on this page.
func (p *transactionPage) Seen() string { return seenAs(p.Transaction) }
