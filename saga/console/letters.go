package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
)

const (
	// lettersLength is the length of a page of dead letters. Each costs a question to the broker.
	lettersLength = 25
	// lettersCounted is the number up to which dead letters are counted.
	lettersCounted = 20
)

// lettersPage is the page of the dead letters of a stream.
type lettersPage struct {
	Name           string
	Letters        []letterRow
	Consumer       string
	Next, First    string
	Resend, Delete string // why the sender may not
	Problem        string // key of a text
	Acts           []message.LetterAct
}

type letterRow struct {
	message.Letter
	Data    document
	Headers []label
}

// count returns the number of dead letters, counted to a bound.
func countLetters(v *visit, name string) (saga.Count, error) {
	return gate.Get(v.r.Context(), &v.cache, "letters "+name, 10*time.Second, slow, func(ctx context.Context) (saga.Count, error) {
		page, err := v.config.DeadLetters[name].Newest(ctx, message.LetterFilter{Limit: lettersCounted}, 0)
		if errors.Is(err, message.ErrNoDeadLetters) {
			err = nil // no message has died yet
		}
		return saga.Count{N: len(page.Letters), More: page.Next != 0}, err
	})
}

// stream returns the dead letters that a request names.
func stream(v *visit) (string, *message.DeadLetters, error) {
	name := v.r.FormValue("stream")
	found, ok := v.config.DeadLetters[name]
	if !ok {
		return "", nil, &problem{status: http.StatusNotFound, key: "error.nostream"}
	}
	return name, found, nil
}

func letters(v *visit) error {
	name, dead, err := stream(v)
	if err != nil {
		return err
	}
	page := lettersPage{Name: name, Consumer: strings.TrimSpace(v.r.FormValue("consumer")), Resend: v.denied(Resend), Delete: v.denied(Delete)}
	before := uint64(0)
	if text := v.r.FormValue("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 64); err != nil {
			return &problem{status: http.StatusBadRequest, key: "error.form"}
		}
		page.First = v.link("letters", parameters([]string{"stream", name, "consumer", page.Consumer}))
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), slow)
	defer cancel()
	found, err := dead.Newest(ctx, message.LetterFilter{Consumer: page.Consumer, Limit: lettersLength}, before)
	if err != nil && !errors.Is(err, message.ErrNoDeadLetters) {
		v.config.Logger.Warn("console: dead letters could not be listed", "stream", name, "error", err)
		page.Problem = "error.broker"
	}
	for _, l := range found.Letters {
		page.Letters = append(page.Letters, letterRow{Letter: l})
	}
	if found.Next != 0 {
		page.Next = v.link("letters", parameters([]string{"stream", name, "consumer", page.Consumer, "before", strconv.FormatUint(found.Next, 10)}))
	}
	if page.Acts, _, err = dead.LatestActs(v.r.Context(), "", lettersLength); err != nil {
		return err
	}
	return v.render("letters", "title.letters", http.StatusOK, page)
}

// letter shows a dead letter with its data.
func letter(v *visit) error {
	name, dead, err := stream(v)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(v.r.FormValue("number"), 10, 64)
	if err != nil {
		return &problem{status: http.StatusNotFound, key: "error.noletter"}
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), slow)
	defer cancel()
	found, err := dead.Get(ctx, number)
	switch {
	case errors.Is(err, message.ErrNoLetter), errors.Is(err, message.ErrNoDeadLetters):
		return &problem{status: http.StatusNotFound, key: "error.noletter", back: v.link("letters", url.Values{"stream": {name}})}
	case err != nil:
		v.config.Logger.Warn("console: a dead letter could not be read", "stream", name, "number", number, "error", err)
		return &problem{status: http.StatusServiceUnavailable, key: "error.broker"}
	}
	row := letterRow{Letter: found, Data: v.document(found.Message.Subject, found.Message.Data)}
	for _, name := range sorted(found.Message.Headers) {
		for _, value := range found.Message.Headers[name] {
			row.Headers = append(row.Headers, label{Name: name, Value: string(v.config.Redact(found.Message.Subject, []byte(value)))})
		}
	}
	return v.render("letter", "title.letter", http.StatusOK, lettersPage{Name: name, Letters: []letterRow{row}, Resend: v.denied(Resend), Delete: v.denied(Delete)})
}

// actOnLetters sends letters again, or deletes them.
func actOnLetters(v *visit) error {
	verb := Verb(v.r.PostFormValue("act"))
	if verb != Resend && verb != Delete {
		return &problem{status: http.StatusBadRequest, key: "error.act"}
	}
	if err := v.demand(verb); err != nil {
		return err
	}
	name, dead, err := stream(v)
	if err != nil {
		return err
	}
	to := url.Values{"stream": {name}}
	back := v.link("letters", to)
	why, err := v.reason()
	if err != nil {
		return err
	}
	var numbers []uint64
	for _, text := range v.r.PostForm["number"] {
		number, parseErr := strconv.ParseUint(text, 10, 64)
		if parseErr != nil {
			return &problem{status: http.StatusBadRequest, key: "error.form"}
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers) // the order of the stream
	numbers = slices.Compact(numbers)
	if len(numbers) == 0 || len(numbers) > lettersLength {
		return &problem{status: http.StatusBadRequest, key: "error.noletters", typed: why, back: back}
	}
	act := dead.Resend
	if verb == Delete {
		act = dead.Delete
	}
	done, err := act(v.r.Context(), message.By{Who: v.who, Why: why}, numbers...)
	if err != nil {
		v.config.Logger.Warn("console: an act on dead letters failed", "act", string(verb), "stream", name, "done", done, "error", err)
		return &problem{status: http.StatusConflict, key: "error.letters", args: []any{done, len(numbers)}, detail: err.Error(), typed: why, back: back}
	}
	return v.done(string(verb), "letters", to)
}
