package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/render"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

// times returns how times are shown.
func (s *session) times() render.Times { return render.Times{Now: s.now, Local: s.flags.local} }

// write writes one value: as JSON, or for people.
func (s *session) write(value any, people func(term.Screen)) error {
	switch s.flags.output {
	case "json":
		return encode(s.config.Out, value, "  ")
	case "jsonl":
		return encode(s.config.Out, value, "")
	}
	people(s.screen())
	return nil
}

func encode(w io.Writer, value any, indent string) error {
	e := json.NewEncoder(w)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// list is a list that is read page by page.
type list[T any] struct {
	name   string // of the field in JSON
	header []string
	row    func(term.Screen, T) []string
	empty  string // a line for people, if there is nothing
	limit  int    // the most to show; 0 is no limit
	after  string // where to begin

	// page reads a part: at most limit items after a place. It returns the next place, which
	// is empty at the end. A part may be empty before the end.
	page func(ctx context.Context, after string, limit int) (items []T, next string, err error)
}

// pageSize is the most items of one page.
const pageSize = 500

// show shows a list. For people, it shows page by page, so a list of millions needs no memory.
func (l list[T]) show(ctx context.Context, s *session) error {
	w := s.screen()
	var items []T
	shown, next := 0, l.after
	header := l.header
	out := func(page []T) error {
		switch s.flags.output {
		case "json":
			items = append(items, page...)
		case "jsonl":
			for _, item := range page {
				if err := encode(w, item, ""); err != nil {
					return err
				}
			}
		default:
			if len(page) == 0 {
				return nil
			}
			rows := make([][]string, len(page))
			for i, item := range page {
				rows[i] = l.row(w, item)
			}
			w.Table(header, rows, false)
			header = nil
		}
		return nil
	}
	var failure error
	for l.limit == 0 || shown < l.limit {
		size := pageSize
		if l.limit > 0 {
			size = min(size, l.limit-shown)
		}
		var page []T
		var err error
		before := next
		page, next, err = l.page(ctx, before, size)
		if err != nil {
			failure, next = err, before
			break
		}
		shown += len(page)
		if err := out(page); err != nil {
			return err
		}
		if next == "" {
			break
		}
	}
	return l.end(s, items, shown, next, failure)
}

// end writes what comes after the items.
func (l list[T]) end(s *session, items []T, shown int, next string, failure error) error {
	if s.flags.output == "json" {
		if failure != nil && shown == 0 {
			return failure
		}
		if items == nil {
			items = []T{}
		}
		result := map[string]any{l.name: items}
		if next != "" {
			result["next"] = next
		}
		if err := encode(s.config.Out, result, "  "); err != nil {
			return err
		}
	}
	switch {
	case failure != nil && shown > 0 && errors.Is(failure, context.DeadlineExceeded):
		return fmt.Errorf("%w: this is not all; continue with --after %s", failure, next)
	case failure != nil:
		return failure
	case shown == 0 && next == "" && s.flags.output == "table" && l.empty != "":
		s.warn("%s", l.empty)
	case next != "" && s.flags.output != "json":
		s.warn("there may be more: continue with --after %s, or use --limit 0 for all", next)
	}
	return nil
}
