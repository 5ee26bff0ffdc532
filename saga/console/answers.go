package console

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
)

// withForm adds what a person has typed, and the page to go on, to an error of an act. After an
// error that it does not know, the act may be done.
func withForm(err error, typed, back string) error {
	switch {
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrCancelled), errors.Is(err, saga.ErrConfirmed):
		return &problem{status: http.StatusConflict, key: "error.refused", detail: err.Error(), typed: typed, back: back}
	case errors.Is(err, saga.ErrInvalid):
		return &problem{status: http.StatusBadRequest, key: "error.invalid", detail: err.Error(), typed: typed, back: back}
	case errors.Is(err, saga.ErrPaused), errors.Is(err, saga.ErrNoLease):
		return &problem{status: http.StatusServiceUnavailable, key: "error.refused", detail: err.Error(), typed: typed, back: back}
	case errors.Is(err, saga.ErrNotFound):
		return err
	}
	return &problem{status: http.StatusServiceUnavailable, key: "error.unknown", typed: typed, back: back, cause: err}
}

// sorted returns the keys of a map in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
