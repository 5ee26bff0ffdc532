package xa_test

import (
	"testing"

	"github.com/tccsaga/tccsaga/saga/internal/test/named"
)

// The tests that the table of what can be lost names exist.
func TestTableOfWhatCanBeLost(t *testing.T) {
	t.Parallel()
	named.Check(t, "# What can be lost", 16)
}
