package console

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
)

// withForm adds what a person has typed, and the page to go on, to an error that refuses an act.
func withForm(err error, typed, back string) error {
	switch {
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrCancelled), errors.Is(err, saga.ErrConfirmed):
		return &problem{status: http.StatusConflict, key: "error.refused", detail: err.Error(), typed: typed, back: back}
	case errors.Is(err, saga.ErrInvalid):
		return &problem{status: http.StatusBadRequest, key: "error.invalid", detail: err.Error(), typed: typed, back: back}
	case errors.Is(err, saga.ErrPaused), errors.Is(err, saga.ErrNoLease):
		return &problem{status: http.StatusServiceUnavailable, key: "error.refused", detail: err.Error(), typed: typed, back: back}
	}
	return err
}

// sorted returns the keys of a map in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
